"""Kinship metric `capability`: two models are alike where they are about as good at the same benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from karma_plugins.contracts import Evidence, KinshipMetric, Options, hookimpl
from karma_plugins.kinship.pairs import Floats, Pairs, gather, pairs_of, rows
from karma_plugins.kinship.resampling import generator, item_counts, percentiles

#: A benchmark's scale is at least this share of its best score: one on which all models are about as good
#: does not call them strangers.
LEAST_SCALE = 0.1
CELL = ("competency", "task", "metric")


class CapabilityOptions(Options):
    """How the scales of benchmarks and missing cells are treated."""

    ranges: Mapping[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="task -> its lowest and highest score, instead of those of the models at hand",
    )
    missing: Literal["shared", "complete"] = Field(
        "shared", description="compare the cells that both have, or only pairs that have every cell"
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(1000, description="rounds of the interval; 0 for none")


def measure(evidence: Evidence, options: CapabilityOptions) -> pl.DataFrame:
    """1 minus the mean distance of two models' scores, each benchmark on its own scale.

    In a competency the mean is over its benchmarks, overall over the competencies. `raw` is that distance,
    n_items the number of benchmark cells compared; `missing` says how many of how many where some are absent.
    """
    pairs = pairs_of(evidence)
    if not len(pairs):
        return gather([])
    cells = evidence.scores.select(CELL).unique().sort(CELL)
    score = _grid(evidence.scores, cells, pairs, "score")
    scale = _scales(score, cells["task"].to_list(), options.ranges)
    noise = _noise(evidence, cells, pairs, options.bootstrap)
    shared = ~np.isnan(pairs.difference(score))
    parts, distances, rounds = [], [], []
    for (name,), part in cells.with_row_index("column").group_by("competency", maintain_order=True):
        columns = part["column"].to_numpy()
        gap = pairs.difference(score[:, columns])
        drawn = [np.abs(gap + pairs.difference(each[:, columns])) / scale[columns] for each in noise]
        distances.append(_mean(np.abs(gap) / scale[columns]))
        rounds.append([_mean(each, of=gap) for each in drawn])
        parts.append(_rows(pairs, str(name), distances[-1], rounds[-1], shared[:, columns], options))
    if not parts:
        return _rows(pairs, None, np.full(len(pairs), np.nan), [], shared, options)
    known = np.stack(distances, axis=1)
    overall = [_mean(np.stack(each, axis=1), of=known) for each in zip(*rounds, strict=True)]
    return gather([_rows(pairs, None, _mean(known), overall, shared, options), *parts])


def _grid(scores: pl.DataFrame, cells: pl.DataFrame, pairs: Pairs, value: str) -> Floats:
    """A column of table scores as an array (models, cells), NaN where missing."""
    grid = np.full((len(pairs.names), cells.height), np.nan)
    joined = (
        scores.filter(pl.col(value).is_not_null())
        .join(cells.with_row_index("column"), on=CELL)
        .join(pl.DataFrame({"model": pairs.names}).with_row_index("row"), on="model")
    )
    grid[joined["row"].to_numpy(), joined["column"].to_numpy()] = joined[value].to_numpy()
    return grid


def _scales(score: Floats, tasks: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> Floats:
    """What a difference of 1 is in each cell: the range of the scores there, or the one that options give.

    Two scores alone can't tell a benchmark's range, so it is taken from all models at hand: scores on any
    scale give the same kinship, at the price that another pool of models gives another.
    """
    known = np.where(np.isnan(score), 0.0, score)
    top = np.max(score, axis=0, where=~np.isnan(score), initial=-np.inf)
    bottom = np.min(score, axis=0, where=~np.isnan(score), initial=np.inf)
    scale = np.maximum(top - bottom, LEAST_SCALE * np.abs(known).max(axis=0, initial=0.0))
    fixed = np.array([ranges[t][1] - ranges[t][0] if t in ranges else np.nan for t in tasks])
    scale = np.where(np.isnan(fixed), scale, fixed)
    return np.where(scale > 0, scale, 1.0)


def _noise(evidence: Evidence, cells: pl.DataFrame, pairs: Pairs, rounds: int) -> list[Floats]:
    """For each round what resampling adds to each score (models, cells), NaN where nobody can know it.

    The items of a task are resampled, the same for all models; without items a score gets normal noise of its
    standard error.
    """
    noise = np.full((rounds, len(pairs.names), cells.height), np.nan)
    if not rounds:
        return []
    stderr = _grid(evidence.scores, cells, pairs, "stderr")
    items = {name[:2]: part for name, part in evidence.items.group_by("competency", "task")}
    for column, (competency, task, metric) in enumerate(cells.iter_rows()):
        if (competency, task) in items:
            noise[:, :, column] = _item_noise(items[competency, task], pairs, rounds, (evidence.seed, task))
        for row in np.flatnonzero(np.isnan(noise[0, :, column]) & ~np.isnan(stderr[:, column])):
            chance = generator(evidence.seed, competency, task, metric, pairs.names[row])
            noise[:, row, column] = stderr[row, column] * chance.standard_normal(rounds)
    return list(noise)


def _item_noise(items: pl.DataFrame, pairs: Pairs, rounds: int, key: tuple[int, str]) -> Floats:
    """Mean correctness of resampled items minus that of all: (rounds, models), NaN for one without items."""
    ids = items["item_id"].unique().sort()
    place = pl.DataFrame({"item_id": ids}).with_row_index("column")
    known = items.filter(pl.col("correct").is_not_null()).join(place, on="item_id")
    known = known.join(pl.DataFrame({"model": pairs.names}).with_row_index("row"), on="model")
    correct, there = np.zeros((2, len(pairs.names), len(ids)))
    at = known["row"].to_numpy(), known["column"].to_numpy()
    correct[at], there[at] = known["correct"].to_numpy(), 1.0
    counts = item_counts(len(ids), rounds, *key)
    with np.errstate(invalid="ignore", divide="ignore"):
        noise: Floats = (counts @ correct.T) / (counts @ there.T) - correct.sum(axis=1) / there.sum(axis=1)
    return noise


def _mean(values: Floats, of: Floats | None = None) -> Floats:
    """Mean of each row over the columns that are known; where `of` is known and a value is not, it is NaN."""
    known = ~np.isnan(values if of is None else of)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _rows(
    pairs: Pairs,
    competency: str | None,
    distance: Floats,
    rounds: list[Floats],
    shared: np.ndarray,
    options: CapabilityOptions,
) -> pl.DataFrame:
    """The rows of a competency, without those pairs that the policy for missing cells leaves out."""
    count, cells = shared.sum(axis=1), shared.shape[1]
    kinship = 1.0 - distance
    if options.missing == "complete":
        kinship = np.where(count < cells, np.nan, kinship)
    gaps = [f"{options.missing}: {n} of {cells} cells" if n < cells else None for n in count.tolist()]
    reasons = [
        "no benchmark cell is shared" if n == 0 else f"only {n} of {cells} benchmark cells are shared"
        for n in count.tolist()
    ]
    low = high = None
    if rounds:
        low, high = percentiles(1.0 - np.stack(rounds))
    return rows(
        pairs, competency, kinship, raw=np.where(np.isnan(kinship), np.nan, distance), low=low, high=high,
        n_items=count, missing=gaps, reason=reasons,
    )  # fmt: skip


@hookimpl
def karma_register_kinship_metrics() -> Sequence[KinshipMetric]:
    """The metric of this module."""
    return [KinshipMetric(name="capability", options=CapabilityOptions, measure=measure)]
