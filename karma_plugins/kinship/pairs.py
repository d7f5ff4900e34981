"""Rows of table `kinship` from arrays that hold one number for each unordered pair of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.contracts import Evidence
from karma_plugins.schemas import KINSHIP

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: What a metric fills in; the rest (metric, version, primary, uncertain) is the stage's.
COLUMNS = tuple(c for c in KINSHIP.columns if c not in ("metric", "version", "primary", "uncertain"))


@dataclass(frozen=True)
class Pairs:
    """The unordered pairs of some models: `first[k]` < `second[k]` are places in the sorted `names`."""

    names: tuple[str, ...]
    first: Ints = field(init=False)
    second: Ints = field(init=False)

    def __post_init__(self) -> None:
        first, second = np.triu_indices(len(self.names), 1)
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "second", second)

    def __len__(self) -> int:
        return len(self.first)

    def difference(self, grid: Floats) -> Floats:
        """First minus second model in each column of a grid (models, columns): shape (pairs, columns)."""
        return grid[self.first] - grid[self.second]


def pairs_of(evidence: Evidence) -> Pairs:
    """All pairs of the candidates."""
    return Pairs(tuple(sorted(model.name for model in evidence.models)))


def rows(
    pairs: Pairs,
    competency: str | None,
    kinship: Floats,
    *,
    reason: Sequence[str | None],
    raw: Floats | None = None,
    low: Floats | None = None,
    high: Floats | None = None,
    n_items: Ints | None = None,
    consistency: Floats | None = None,
    missing: Sequence[str | None] | None = None,
) -> pl.DataFrame:
    """The rows of one competency (null = overall).

    NaN becomes null, and `reason` counts only there. An interval is clipped to [0,1] and widened to hold the
    kinship itself: a percentile interval of a bounded number can miss it at the bound.
    """
    unknown = np.isnan(kinship)
    value = np.clip(kinship, 0.0, 1.0)
    interval = (
        {}
        if low is None or high is None
        else {
            "low": np.where(unknown, np.nan, np.minimum(np.clip(low, 0.0, 1.0), value)),
            "high": np.where(unknown, np.nan, np.maximum(np.clip(high, 0.0, 1.0), value)),
        }
    )
    names = np.array(pairs.names, dtype=object)
    data = {
        "competency": [competency] * len(pairs),
        "model_a": names[pairs.first].tolist() if len(pairs) else [],
        "model_b": names[pairs.second].tolist() if len(pairs) else [],
        "kinship": value,
        "raw": raw,
        "n_items": n_items,
        "consistency": None if consistency is None else np.where(unknown, np.nan, consistency),
        "missing": missing,
        "reason": [why if no else None for why, no in zip(reason, unknown.tolist(), strict=True)],
        **interval,
    }
    frame = pl.DataFrame(
        {k: v for k, v in data.items() if v is not None},
        schema_overrides={k: t for k, t in KINSHIP.columns.items() if data.get(k) is not None},
    )
    absent = [pl.lit(None, KINSHIP.columns[c]).alias(c) for c in COLUMNS if c not in frame.columns]
    return frame.with_columns(absent).with_columns(pl.selectors.float().fill_nan(None)).select(COLUMNS)


def gather(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows of several competencies, one below the other; the empty table where there are none."""
    empty = KINSHIP.empty().select(COLUMNS)
    return pl.concat([empty, *parts])
