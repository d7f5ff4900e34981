"""Kinship metric `blend`: a weighted mean of other metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field

from karma_plugins.contracts import Evidence, KinshipMetric, Options, hookimpl
from karma_plugins.errors import PluginError
from karma_plugins.kinship.pairs import COLUMNS, gather, pairs_of, rows

Weight = Annotated[float, Field(gt=0)]


class BlendOptions(Options):
    """Which metrics count how much."""

    weights: Annotated[Mapping[str, Weight], Field(min_length=1)] = Field(
        description="metric -> its weight; each must be measured too"
    )


def measure(evidence: Evidence, options: BlendOptions) -> pl.DataFrame:
    """The weighted mean of the metrics' kinship, in each competency that all of them measure, and overall.

    A pair that one of them does not know is null with that one's reason. The interval is the weighted mean of
    the intervals, which holds wherever the metrics err together (Minkowski); null where one has none. n_items
    is the fewest.
    """
    if evidence.measure is None:
        raise PluginError(
            "metric 'blend': nothing measures the metrics that it blends. Use karma_plugins.kinship."
        )
    pairs = pairs_of(evidence)
    parts = {name: evidence.measure(name).select(COLUMNS) for name in options.weights}
    weights = np.array([options.weights[name] for name in parts])
    weights = weights / weights.sum()
    shared = set.intersection(*(set(part["competency"]) for part in parts.values())) if len(pairs) else set()
    blends = []
    for competency in sorted(shared, key=lambda name: (name is not None, name or "")):
        tables = [_of(part, competency) for part in parts.values()]
        columns = {
            name: np.stack([t[name].to_numpy().astype(np.float64) for t in tables], axis=1)
            for name in ("kinship", "low", "high", "n_items")
        }
        blended = {name: columns[name] @ weights for name in ("kinship", "low", "high")}
        least = np.nan_to_num(np.fmin.reduce(columns["n_items"], axis=1)).astype(np.int64)
        why = [
            _first(names)
            for names in zip(*(_reasons(n, t) for n, t in zip(parts, tables, strict=True)), strict=True)
        ]
        blends.append(
            rows(
                pairs,
                competency,
                blended["kinship"],
                reason=why,
                low=blended["low"],
                high=blended["high"],
                n_items=least,
            )
        )
    return gather(blends)


def _of(part: pl.DataFrame, competency: str | None) -> pl.DataFrame:
    """One competency's rows in the order of the pairs."""
    return part.filter(pl.col("competency").eq_missing(pl.lit(competency, pl.String))).sort(
        "model_a", "model_b"
    )


def _reasons(name: str, table: pl.DataFrame) -> list[str | None]:
    return [
        None if kinship is not None else f"{name}: {reason}"
        for kinship, reason in table.select("kinship", "reason").iter_rows()
    ]


def _first(reasons: Sequence[str | None]) -> str | None:
    return next((reason for reason in reasons if reason is not None), None)


@hookimpl
def karma_register_kinship_metrics() -> Sequence[KinshipMetric]:
    """The metric of this module."""
    return [KinshipMetric(name="blend", options=BlendOptions, measure=measure)]
