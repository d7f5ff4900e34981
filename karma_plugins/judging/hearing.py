"""Hearing a judge: what it is asked, in which batches, and what of its words counts as a verdict.

Batches are cut from the whole sorted input and kept by their content. Whatever a judge returns is checked:
what is no verdict becomes a failure row with its reason, never a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import polars as pl

from karma_plugins import tables
from karma_plugins.contracts import Answer, AnswerPair, Judge, Report, Verdict, Verdicts
from karma_plugins.errors import KarmaError, PluginError, did_you_mean
from karma_plugins.models import fingerprint
from karma_plugins.registry import Bound
from karma_plugins.registry.lock import plugin_digest
from karma_plugins.runtime.progress import progress
from karma_plugins.runtime.shards import NoShards, Shards, key
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS, Schema

VERDICTS = pl.Schema({"value": pl.Float64, "status": pl.String, "reason": pl.String})
IDENTICAL = "identical answers"
SEEN = ("response_id", "prompt_id", "model", "messages", "text", "competency", "reference", "constraints")
OUTSIDE, UNEVEN = "outside [0, 1]", "a tie with an uneven value"
SKIPPED = Verdict(None, "skipped", "no recorded verdict")
#: Where an object lies in memory is no part of a reason: the same failure reads the same in every run.
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


Call = Callable[[Sequence[Any], Any], Sequence[Any]]


@dataclass
class Hearing:
    """What all judges' calls share: the answers, how they are cut into shards, and who hears of progress."""

    answers: pl.DataFrame
    shard: int
    shards: Shards
    report: Report | None
    done: int = 0

    def run(
        self,
        judge: Bound[Judge],
        asked: int,
        seen: Callable[[slice], pl.DataFrame],
        ask: Callable[[pl.DataFrame], list[Verdict]],
    ) -> pl.DataFrame:
        """The verdicts on all that is asked, in order: value, status, reason. `seen` cuts out a shard."""
        plugin, options = judge.plugin, judge.options
        keeps = plugin.keeps_shards(options) if callable(plugin.keeps_shards) else plugin.keeps_shards
        size = self.shard if keeps else max(asked, 1)
        parts = [slice(start, start + size) for start in range(0, asked, size)]
        keys = _keys(judge, map(seen, parts)) if keeps else [""] * len(parts)
        frames = [VERDICTS.to_frame()]
        with progress(f"judge {judge.name}", asked) as advance:
            keeper = self.shards if keeps else NoShards()
            for frame in keeper.run(keys, lambda i: _verdict_frame(ask(seen(parts[i])))):
                frames.append(frame)
                advance(frame.height)
                self.done += frame.height
                if self.report is not None:
                    self.report({"verdicts": self.done}, self.done)
        return pl.concat(frames)


def _keys(judge: Bound[Judge], shards: Iterable[pl.DataFrame]) -> list[str]:
    """All that decides each shard's verdicts: the judge's code, options and files, and what it sees."""
    code = plugin_digest(judge.plugin, judge.origin)
    read = [fingerprint(path) for path in judge.files]
    options = judge.options.model_dump_json()
    return [key(judge.version, code, options, *read, shard.write_json()) for shard in shards]


def _verdict_frame(verdicts: Sequence[Verdict]) -> pl.DataFrame:
    rows = [(v.value, v.status, v.reason) for v in verdicts]
    return pl.DataFrame(rows, schema=VERDICTS, orient="row")


# --- judges that score --------------------------------------------------------------------------------------


def scored(judge: Bound[Judge], call: Call, hearing: Hearing) -> pl.DataFrame:
    """Table `judgements` of a judge that scores answers one by one."""
    fit = hearing.answers.filter(pl.col("unfit").is_null())
    seen = fit.select(SEEN)

    def ask(shard: pl.DataFrame) -> list[Verdict]:
        asked = [Answer(**row) for row in shard.iter_rows(named=True)]
        return verdicts(call, asked, judge.options)

    found = hearing.run(judge, fit.height, lambda part: seen[part], ask)
    judged = pl.concat([fit.select("prompt_id", "response_id"), found], how="horizontal")
    unfit = hearing.answers.filter(pl.col("unfit").is_not_null())
    skipped = _unspoken(judge, unfit, SKIPPED)
    return pl.concat([_signed(judged.rename({"value": "score"}), judge, JUDGEMENTS), skipped])


def _signed(frame: pl.DataFrame, judge: Bound[Judge], schema: Schema) -> pl.DataFrame:
    """The frame as a table, with the judge's name as params has it, and its version."""
    return frame.with_columns(judge=pl.lit(judge.name), version=pl.lit(judge.version)).select(
        schema.columns.names()
    )


# --- judges that compare ------------------------------------------------------------------------------------


def compared(judge: Bound[Judge], call: Call, pairs: pl.DataFrame, hearing: Hearing) -> pl.DataFrame:
    """Table `comparisons` of a pairwise judge; `response_a` is shown first where `order` is `ab`."""
    fit = pairs.filter(pl.col("unfit").is_null())
    straight = pl.col("order") == "ab"
    places = fit.select(
        first=pl.when(straight).then("row_a").otherwise("row_b"),
        second=pl.when(straight).then("row_b").otherwise("row_a"),
    )
    answers = hearing.answers.select(SEEN)

    def seen(part: slice) -> pl.DataFrame:
        second = answers[places["second"][part]].select(pl.all().name.suffix("_b"))
        return pl.concat([answers[places["first"][part]], second], how="horizontal")

    def ask(shard: pl.DataFrame) -> list[Verdict]:
        sides = (shard.select(SEEN), shard.select(pl.col(f"{name}_b").alias(name) for name in SEEN))
        a, b = ([Answer(**row) for row in side.iter_rows(named=True)] for side in sides)
        return verdicts(call, list(map(AnswerPair, a, b)), judge.options)

    found = hearing.run(judge, fit.height, seen, ask)
    judged = pl.concat(
        [fit.select("prompt_id", "response_a", "response_b", "order"), found], how="horizontal"
    )
    first = pl.when(pl.col("order") == "ab").then("value").otherwise(1 - pl.col("value"))
    judged = judged.with_columns(p_a=first).drop("value")
    # The same text twice is no question to a judge: neither can be the better one.
    same = pl.col("unfit") == IDENTICAL
    unfit = pairs.filter(pl.col("unfit").is_not_null()).select(
        "prompt_id", "response_a", "response_b", "order",
        status=pl.when(same).then(pl.lit("tie")).otherwise(pl.lit("skipped")),
        reason="unfit",
        p_a=pl.when(same).then(pl.lit(0.5)),
    )  # fmt: skip
    return _signed(_with_ties(pl.concat([judged, unfit])), judge, COMPARISONS)


def _with_ties(comparisons: pl.DataFrame) -> pl.DataFrame:
    """An even probability is a tie, whatever the judge called it."""
    tie = pl.col("status").is_in(["ok", "tie"]) & (pl.col("p_a") == 0.5)
    return comparisons.with_columns(status=pl.when(tie).then(pl.lit("tie")).otherwise("status"))


# --- what a judge returns -----------------------------------------------------------------------------------


def verdicts(call: Call, asked: Sequence[Any], options: Any) -> list[Verdict]:
    """One checked verdict for each thing asked: what the judge returns, or a failure and what was wrong.

    A KarmaError passes: it is about the judge's options or its server, not about an answer.
    """
    try:
        found = list(call(asked, options))
    except (KarmaError, ImportError):  # a package that is not installed is no fault of an answer
        raise
    except Exception as error:  # noqa: BLE001 (the author's code runs here, and its faults are rows)
        return [failure(f"{type(error).__name__}: {error}")] * len(asked)
    if len(found) != len(asked):
        return [failure(f"{len(found)} verdicts for {len(asked)} asked")] * len(asked)
    return [_verdict(value) for value in found]


def failure(reason: str) -> Verdict:
    """A failed verdict; its reason is one line of at most 200 characters."""
    line = ADDRESS.sub("0x", " ".join(reason.split()))
    return Verdict(None, "failed", line if len(line) <= 200 else f"{line[:199]}…")


def _verdict(value: Any) -> Verdict:
    if not isinstance(value, Verdict):
        value = Verdict(value)
    if value.status in ("skipped", "failed"):
        if value.value is not None:
            return failure(f"verdict with status {value.status} and a value")
        return Verdict(None, value.status, failure(value.reason or "no reason given").reason)
    if value.status not in ("ok", "tie"):
        return failure(f"unknown status {value.status!r}")
    if not isinstance(value.value, Real):
        return failure(f"{type(value.value).__name__} instead of a number")
    number = float(value.value)
    if not math.isfinite(number):
        return failure(f"{number} is no score")
    if not 0.0 <= number <= 1.0:
        return failure(OUTSIDE)
    if value.status == "tie" and number != 0.5:
        return failure(UNEVEN)
    return Verdict(number, value.status, None)


# --- judges that recall -------------------------------------------------------------------------------------


def recalled(
    judge: Bound[Judge],
    call: Callable[[Verdicts, Any], Verdicts],
    answers: pl.DataFrame,
    recorded: Verdicts | None,
) -> Verdicts:
    """What was recorded about the answers: one row more for each answer that nothing was recorded about."""
    empty = Verdicts(JUDGEMENTS.empty(), COMPARISONS.empty())
    try:
        found = call(recorded or empty, judge.options)
    except (KarmaError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001 (as in `verdicts`)
        return Verdicts(
            _unspoken(judge, answers, failure(f"{type(error).__name__}: {error}")), COMPARISONS.empty()
        )
    judgements = tables.check(found.judgements, JUDGEMENTS, where=f"judge '{judge.name}'")
    comparisons = tables.check(found.comparisons, COMPARISONS, where=f"judge '{judge.name}'")
    names = sorted({*judgements["judge"].unique(), *comparisons["judge"].unique()})
    if len(names) > 1:
        if judge.name not in names:
            raise PluginError(
                f"judge.judges.{judge.name}: verdicts of several judges are recorded ({', '.join(names)}). "
                f"Name one: `annotator: {names[0]}`.{did_you_mean(judge.name, names)}"
            )
        judgements = judgements.filter(pl.col("judge") == judge.name)
        comparisons = comparisons.filter(pl.col("judge") == judge.name)
    fitness = answers.select("response_id", "unfit")
    judgements = _validated(judgements.join(fitness, on="response_id"), "score", ["ok"])
    pool = answers["response_id"].implode()
    comparisons = comparisons.filter(pl.col("response_a").is_in(pool) | pl.col("response_b").is_in(pool))
    comparisons = comparisons.join(fitness, left_on="response_a", right_on="response_id", how="left")
    comparisons = comparisons.join(
        fitness, left_on="response_b", right_on="response_id", how="left", suffix="_b"
    )
    comparisons = comparisons.with_columns(unfit=pl.coalesce("unfit", "unfit_b"))
    comparisons = _validated(comparisons, "p_a", ["ok", "tie"])
    known = pl.concat([judgements["response_id"], comparisons["response_a"], comparisons["response_b"]])
    unknown = answers.filter(~pl.col("response_id").is_in(known.implode()))
    return Verdicts(
        pl.concat([_signed(judgements, judge, JUDGEMENTS), _unspoken(judge, unknown, SKIPPED)]),
        _signed(_with_ties(comparisons), judge, COMPARISONS),
    )


def _unspoken(judge: Bound[Judge], answers: pl.DataFrame, verdict: Verdict) -> pl.DataFrame:
    """Rows of table `judgements` for answers without a score: unfit ones skipped, others by the verdict."""
    unfit = pl.col("unfit").is_not_null()
    rows = answers.select(
        "prompt_id",
        "response_id",
        score=pl.lit(None, pl.Float64),
        status=pl.when(unfit).then(pl.lit("skipped")).otherwise(pl.lit(verdict.status)),
        reason=pl.coalesce("unfit", pl.lit(verdict.reason)),
    )
    return _signed(rows, judge, JUDGEMENTS)


def _validated(frame: pl.DataFrame, value: str, settled: list[str]) -> pl.DataFrame:
    """Recorded rows with what can't stand as a verdict turned into failures, and unfit answers skipped."""
    spoken = pl.col("status").is_in(settled)
    reason = (
        pl.when(pl.col("unfit").is_not_null())
        .then("unfit")
        .when(~spoken & pl.col("status").is_in(["failed", "skipped"]))
        .then(pl.col("reason").fill_null("no reason recorded"))
        .when(~spoken)
        .then(pl.format("unknown status '{}'", "status"))
        .when(pl.col(value).is_null())
        .then(pl.lit("no value recorded"))
        .when(~pl.col(value).is_between(0, 1))
        .then(pl.lit(OUTSIDE))
        .when((pl.col("status") == "tie") & (pl.col(value) != 0.5))
        .then(pl.lit(UNEVEN))
    )
    status = (
        pl.when(pl.col("unfit").is_not_null() | (pl.col("status") == "skipped"))
        .then(pl.lit("skipped"))
        .when(pl.col("reason").is_not_null())
        .then(pl.lit("failed"))
        .otherwise("status")
    )
    frame = frame.with_columns(reason=reason).with_columns(status=status)
    return frame.with_columns(pl.when(pl.col("reason").is_null()).then(value).alias(value))
