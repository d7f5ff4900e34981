"""Two profiles compared: one model's benchmark scores against another's, with intervals."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from karma_plugins.contracts import Profile

#: Of a normal distribution, in standard deviations: what 95% lie within.
Z = 1.959963984540054


def compared(before: Profile, after: Profile) -> dict[str, dict[str, Any]]:
    """What became of the scores, by competency: every task counts alike that both models have a score in.

    Gives `base`, `aligned` (mean scores), `items` (null where a task does not say how many) and `difference`:
    mean, and low and high of its 95% interval. The interval is of item by item differences where both models
    answered the same items of a task, of both standard errors elsewhere; null where neither is known. A
    competency without a task that both have a score in is left out.
    """
    cells = _cells(before.scores).join(
        _cells(after.scores), on=["competency", "task", "metric"], suffix="_after"
    )
    paired = _paired(before.items, after.items)
    apart = (pl.col("stderr") ** 2 + pl.col("stderr_after") ** 2).alias("apart")
    cells = (
        cells.join(paired, on=["competency", "task"], how="left")
        .with_columns(apart)
        .with_columns(variance=pl.coalesce("variance", "apart"))
        .sort("competency", "task", "metric")
    )
    return {
        str(competency): _block(rows)
        for (competency,), rows in cells.group_by("competency", maintain_order=True)
    }


def _cells(scores: pl.DataFrame) -> pl.DataFrame:
    return scores.drop_nulls("score").select("competency", "task", "metric", "score", "stderr", "n")


def _paired(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The variance of the mean difference of each task whose very same items both models answered."""
    keys = ["competency", "task", "item_id"]
    both = before.select(*keys, "correct").join(
        after.select(*keys, "correct"), on=keys, how="full", coalesce=True, suffix="_after"
    )
    change = pl.col("correct_after") - pl.col("correct")
    return (
        both.sort(keys)
        .group_by("competency", "task", maintain_order=True)
        .agg(variance=change.var() / change.len(), whole=change.is_not_null().all())
        .filter("whole")
        .select("competency", "task", "variance")
    )


def _block(rows: pl.DataFrame) -> dict[str, Any]:
    base, aligned = (float(rows[name].mean()) for name in ("score", "score_after"))  # type: ignore[arg-type]
    counts, variances = rows["n"].to_list(), rows["variance"].to_list()
    mean = float((rows["score_after"] - rows["score"]).mean())  # type: ignore[arg-type]
    low = high = None
    if None not in variances:
        half = Z * math.sqrt(sum(variances)) / len(variances)
        low, high = mean - half, mean + half
    items = None if None in counts else sum(counts)
    difference = {"mean": mean, "low": low, "high": high}
    return {"base": base, "aligned": aligned, "items": items, "difference": difference}
