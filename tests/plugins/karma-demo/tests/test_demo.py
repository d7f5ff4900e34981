"""The demo plugin keeps the contracts."""

from karma_demo import karma_register_judges, karma_register_kinship_metrics

from karma_plugins.testing import JudgeContract, KinshipMetricContract


class TestDemoJudge(JudgeContract):
    plugin = karma_register_judges()[0]
    options = {"words": 3}  # noqa: RUF012


class TestDemoMetric(KinshipMetricContract):
    plugin = karma_register_kinship_metrics()[0]
