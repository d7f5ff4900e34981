"""Judges as a function: answers in, a verdict on each out. What training rewards a policy's answers by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from karma_plugins.contracts import Answer, Panel, Verdict
from karma_plugins.errors import EmptyResultError, ParamsError, did_you_mean
from karma_plugins.judging.verdicts import checked
from karma_plugins.models import fingerprint
from karma_plugins.registry import Juror
from karma_plugins.registry.lock import plugin_digest
from karma_plugins.runtime.shards import key

#: Failures without one verdict, from the start on, after which a judge stops the stage.
FAILURES = 32


def panel(jurors: Sequence[Juror], weights: Mapping[str, float], *, where: str) -> Panel | None:
    """The judges as one: each answer gets the mean of their scores in [0, 1], by `weights` (1 where none).

    A judge that fails on an answer, or skips it, has no part in its score; where all do, the verdict has the
    first one's reason. Null for no judge. Raises ParamsError for one that does not score answers one by one,
    and when called EmptyResultError for one that only fails; `where` is the key in params that names them.
    """
    if not jurors:
        return None
    for juror in jurors:
        if juror.judge.plugin.score is None:
            raise ParamsError(
                f"params.yaml, {where}.{juror.judge.name}: this judge does not score answers one by one, so "
                "it is no reward. Name one that scores, such as reference or reward-model."
            )
    names = [juror.judge.name for juror in jurors]
    if strange := sorted(set(weights) - set(names)):
        raise ParamsError(
            f"params.yaml, {where}: a weight is given to '{strange[0]}', which is no judge there."
            f"{did_you_mean(strange[0], names)}"
        )
    voting = [(weight, juror) for juror in jurors if (weight := weights.get(juror.judge.name, 1.0)) > 0]
    if not voting:
        raise ParamsError(f"params.yaml, {where}: all weights are 0. Give a judge a weight.")

    failed: dict[str, int | None] = {juror.judge.name: 0 for _, juror in voting}

    def score(answers: Sequence[Answer]) -> list[Verdict]:
        votes = [(weight, _heard(juror, answers, where, failed)) for weight, juror in voting]
        return [_mean([(weight, row[i]) for weight, row in votes]) for i in range(len(answers))]

    return Panel(score, _key(voting))


def _heard(
    juror: Juror, answers: Sequence[Answer], where: str, failed: dict[str, int | None]
) -> list[Verdict]:
    """The judge's verdicts; `failed` counts its failures until its first word, and is null from then on."""
    judge, ask = juror.judge, juror.judge.plugin.score
    row = [] if ask is None else checked(ask, answers, judge.options)  # `panel` lets none in without
    count = failed[judge.name]
    if any(verdict.status != "failed" for verdict in row):
        failed[judge.name] = None
    elif count is not None:
        failed[judge.name] = count = count + len(row)
        if count >= FAILURES:
            raise EmptyResultError(
                f"{where}.{judge.name}: the judge failed on all of {count} answers: {row[0].reason}."
            )
    return row


def _key(voting: Sequence[tuple[float, Juror]]) -> str:
    """The judges' code, options, weights and files."""
    parts: list[object] = []
    for weight, juror in voting:
        judge = juror.judge
        parts += [judge.name, judge.version, weight, judge.options.model_dump_json()]
        parts += [plugin_digest(judge.plugin, judge.origin), *(fingerprint(path) for path in judge.files)]
    return key(*parts)


def _mean(votes: Sequence[tuple[float, Verdict]]) -> Verdict:
    spoken = [(weight, verdict.value) for weight, verdict in votes if verdict.value is not None]
    if not spoken:
        return votes[0][1]
    return Verdict(sum(weight * value for weight, value in spoken) / sum(weight for weight, _ in spoken))
