"""The demo plugin's runner keeps the contract."""

from karma_demo.running import karma_register_runners

from karma_plugins.testing import RunnerContract


class TestDemoRunner(RunnerContract):
    plugin = karma_register_runners()[0]
