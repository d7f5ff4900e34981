"""The lineage benchmark: how well a kinship metric finds each model's true parent among all other models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from karma_plugins.errors import EmptyResultError, TableError
from karma_plugins.families import families

#: With fewer children than this no metric is said to be better than another.
ENOUGH_CHILDREN = 10
ROUNDS = 10_000
CHILD, PARENT = "model", "direct_parent"
RANKS = pl.Schema(
    {
        "metric": pl.String, "model": pl.String, "parent": pl.String, "kinship": pl.Float64,
        "rank": pl.Float64, "others": pl.Int64, "nearest": pl.String, "margin": pl.Float64,
        "same_family": pl.Boolean,
    }
)  # fmt: skip


def read_parents(path: Path) -> dict[str, str]:
    """The known parents: a CSV with columns model and direct_parent, empty where there is none.

    Raises TableError where the file or a column is missing, or a model is there twice.
    """
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path}: not readable as CSV ({str(error).splitlines()[0]}).") from error
    for column in (CHILD, PARENT):
        if column not in frame.columns:
            raise TableError(f"{path}: no column '{column}' (found: {', '.join(frame.columns)}).")
    frame = frame.select(pl.col(CHILD, PARENT).str.strip_chars())
    if frame[CHILD].is_duplicated().any():
        twice = frame[CHILD].filter(frame[CHILD].is_duplicated())[0]
        raise TableError(f"{path}: model '{twice}' is there twice. A model has one direct parent.")
    known = frame.filter(pl.col(PARENT).is_not_null() & (pl.col(PARENT) != ""))
    for child, parent in known.iter_rows():
        if child == parent:
            raise TableError(f"{path}: model '{child}' is its own parent. Leave {PARENT} empty for none.")
    return dict(known.iter_rows())


def ranks(kinship: pl.DataFrame, parents: Mapping[str, str]) -> pl.DataFrame:
    """The rank of each child's parent among all other models by overall kinship, for each metric.

    Columns as in RANKS: rank 1 is the nearest, ties share the mean of their ranks, unknown kinship ranks
    last; `others` counts the models ranked; `margin` is the parent's kinship minus that of the nearest other
    model (null where one is unknown); `same_family` says whether a cut through the tree of kinship
    (`families`) leaves child and parent together. Children whose parent is not among the models are left out.
    Raises EmptyResultError where no child is left.
    """
    overall = kinship.filter(pl.col("competency").is_null()).select("metric", "model_a", "model_b", "kinship")
    turned = overall.rename({"model_a": "model_b", "model_b": "model_a"}).select(overall.columns)
    rows = pl.concat([overall, turned]).rename({"model_a": "model", "model_b": "other"})
    names = set(rows["model"])
    known = [(child, parent) for child, parent in sorted(parents.items()) if {child, parent} <= names]
    if not known:
        raise EmptyResultError(
            f"no child is among the models with its parent. Models: {', '.join(sorted(names))}."
        )
    kin = families(kinship).select("metric", "model", "family")
    wanted = pl.DataFrame(known, schema={"model": pl.String, "parent": pl.String}, orient="row")
    order = ("metric", "model")
    return (
        rows.join(wanted, on="model")
        .with_columns(value=pl.col("kinship").fill_null(-1.0))
        .with_columns(
            rank=pl.col("value").rank("average", descending=True).over(order),
            others=pl.len().over(order).cast(pl.Int64),
            rival=pl.col("kinship").filter(pl.col("other") != pl.col("parent")).max().over(order),
            nearest=pl.col("other").sort_by("value", "other", descending=[True, False]).first().over(order),
        )
        .filter(pl.col("other") == pl.col("parent"))
        .with_columns(margin=pl.col("kinship") - pl.col("rival"))
        .join(kin.rename({"family": "mine"}), on=["metric", "model"], how="left")
        .join(kin.rename({"model": "parent", "family": "theirs"}), on=["metric", "parent"], how="left")
        .with_columns(same_family=(pl.col("mine") == pl.col("theirs")).fill_null(value=False))
        .select(RANKS.names())
        .sort(order)
    )


def benchmark(ranked: pl.DataFrame, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Recall@1 and mean reciprocal rank of each metric from `ranks`, with 95% bootstrap intervals.

    Children are resampled. `parent_minus_nearest` is the mean margin between the parent and the nearest other
    model, whose interval holds 0 where they tie; `same_family` the share of children that a cut leaves with
    their parent. Also `children`, `chance` (the mean reciprocal rank of random ranks) and
    `mrr_minus`: the paired difference to the mean reciprocal rank of each other metric.
    """
    reciprocal = {
        str(metric): (1.0 / rows["rank"].to_numpy(), rows["others"].to_numpy())
        for (metric,), rows in ranked.sort("metric", "model").group_by("metric", maintain_order=True)
    }
    margins: dict[Any, dict[str, float] | None] = {}
    same: dict[Any, Any] = {}
    for (metric,), rows in ranked.group_by("metric", maintain_order=True):
        known = rows.sort("model")["margin"].drop_nulls().to_numpy()
        margins[metric] = None
        if len(known):
            resampled = np.random.default_rng(seed).integers(len(known), size=(ROUNDS, len(known)))
            margins[metric] = _interval(known, resampled)
        same[metric] = rows["same_family"].mean()
    result: dict[str, dict[str, Any]] = {}
    for metric, (values, others) in reciprocal.items():
        drawn = np.random.default_rng(seed).integers(len(values), size=(ROUNDS, len(values)))
        result[metric] = {
            "children": len(values),
            "recall_at_1": _interval((values == 1.0).astype(np.float64), drawn),
            "mrr": _interval(values, drawn),
            "parent_minus_nearest": margins[metric],
            "same_family": same[metric],
            "chance": float(np.mean([np.mean(1.0 / np.arange(1, n + 1)) for n in others])),
            "mrr_minus": {
                other: _interval(values - theirs, drawn)
                for other, (theirs, _) in reciprocal.items()
                if other != metric and len(theirs) == len(values)
            },
        }
    return result


def _interval(values: np.ndarray[Any, np.dtype[np.float64]], drawn: np.ndarray[Any, Any]) -> dict[str, float]:
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}
