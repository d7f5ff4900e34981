"""What a judge recalls: recorded verdicts on the answers, checked as if they were spoken now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from karma_plugins import tables
from karma_plugins.contracts import Judge, Verdicts
from karma_plugins.errors import KarmaError, PluginError, did_you_mean
from karma_plugins.judging.verdicts import OUTSIDE, SKIPPED, UNEVEN, failure, signed, unspoken, with_ties
from karma_plugins.registry import Bound
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS


def recalled(
    judge: Bound[Judge],
    call: Callable[[Verdicts, Any], Verdicts],
    answers: pl.DataFrame,
    recorded: Verdicts | None,
) -> Verdicts:
    """What was recorded about the answers: one row more for each answer that nothing was recorded about."""
    empty = Verdicts(JUDGEMENTS.empty(), COMPARISONS.empty())
    try:
        verdicts = call(recorded or empty, judge.options)
    except (KarmaError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001 (as in `verdicts`)
        return Verdicts(
            unspoken(judge, answers, failure(f"{type(error).__name__}: {error}")), COMPARISONS.empty()
        )
    judgements = tables.check(verdicts.judgements, JUDGEMENTS, where=f"judge '{judge.name}'")
    comparisons = tables.check(verdicts.comparisons, COMPARISONS, where=f"judge '{judge.name}'")
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
        pl.concat([signed(judgements, judge, JUDGEMENTS), unspoken(judge, unknown, SKIPPED)]),
        signed(with_ties(comparisons), judge, COMPARISONS),
    )


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
