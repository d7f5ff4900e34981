"""Kinship metric `style`: how alike two models write, whatever they say; Cosine Delta of stylometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from karma_plugins.contracts import Evidence, KinshipMetric, Options, hookimpl
from karma_plugins.errors import PluginError
from karma_plugins.kinship import ngrams
from karma_plugins.kinship.pairs import Floats, Ints, Pairs, gather, pairs_of, rows
from karma_plugins.kinship.resampling import item_counts, percentiles

#: Cells of prompts that the interval resamples, in each competency.
CELLS = 24
#: Least variance of a share: what no float tells from none.
TINY = 1e-14
#: Standardised departures beyond this count as this: one odd habit does not make a style.
FARTHEST = 2.0
#: Rounds of the interval that are drawn at a time.
TOGETHER = 8


class StyleOptions(Options):
    """What is counted, and how long to resample."""

    runs: Annotated[int, Field(ge=10, le=32_000)] = Field(
        3000, description="commonest runs of one to three characters that are counted"
    )
    single: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the spread among single answers in what a run is standardised by"
    )
    alike: Annotated[float, Field(ge=0)] = Field(
        0.1, description="how much must tell models apart before they are held to be strangers"
    )
    prompts: Annotated[int, Field(ge=1)] = Field(
        20_000, description="of more prompts so many are looked at, evenly spread over their ids"
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(100, description="rounds of the interval; 0 for none")


def measure(evidence: Evidence, options: StyleOptions) -> pl.DataFrame:
    """How alike two models write: cosine of their standardised shares of common runs of characters.

    After Cosine Delta (Burrows 2002; Smith, Aldridge 2011; Evert et al. 2017); docs/kinship_metrics.md has
    the formula. `raw` is in [-1,1]: 1 for models that nothing tells apart, about 0 for strangers, below 0 for
    models that depart from the pool in opposite ways; kinship is raw, 0 where it is below. n_items counts
    prompts that both answered. Rows of each competency are there where prompts are given. Raises PluginError
    where no responses are at hand.
    """
    if evidence.responses is None:
        raise PluginError(
            "metric 'style' compares generated answers, and none were given. Add data/responses to the "
            "deps of stage kinship and `--responses data/responses` to its command."
        )
    pairs = pairs_of(evidence)
    if not len(pairs):
        return gather([])
    given = evidence.responses.filter(pl.col("text").is_not_null())
    prompts, sample = _asked(given, evidence.prompts, options.prompts)
    placed = given.join(prompts, on="prompt_id")
    groups = prompts["competency"].unique().sort().to_list()
    answers = [placed.filter(pl.col("model") == name) for name in pairs.names]
    counted = ngrams.usage(
        [(rows["text"], rows["cell"].to_numpy()) for rows in answers],
        max(1, len(groups)) * CELLS,
        options.runs,
    )
    answered = np.zeros((len(pairs.names), prompts.height), dtype=bool)
    for model, mine in enumerate(answers):
        answered[model, mine["prompt"].to_numpy()] = True
    tables_ = [_rows(pairs, None, counted, answered, sample, evidence.seed, options)]
    for number, competency in enumerate(groups):
        if competency:
            cells = slice(number * CELLS, (number + 1) * CELLS)
            of_it = answered[:, (prompts["competency"] == competency).to_numpy()]
            part = counted.only(cells)
            tables_.append(_rows(pairs, competency, part, of_it, sample, evidence.seed, options))
    return gather(tables_)


def _rows(
    pairs: Pairs,
    competency: str | None,
    counted: ngrams.Usage,
    answered: NDArray[np.bool_],
    sample: str | None,
    seed: int,
    options: StyleOptions,
) -> pl.DataFrame:
    """The rows of some cells of prompts."""
    total = counted.totals.sum(axis=1)
    wrote = np.flatnonzero(total > 0)
    raw = np.full((len(total), len(total)), np.nan)
    sure = np.full(len(total), np.nan)
    low = high = None
    if len(wrote) > 1:
        scale = _scale(counted, wrote, options)
        raw[np.ix_(wrote, wrote)] = _cosines(counted.counts[wrote].sum(axis=1), total[wrote], scale)
        sure[wrote] = _consistency(counted.counts[wrote], counted.totals[wrote], scale)
        if options.bootstrap:
            low, high = _interval(pairs, counted, wrote, scale, seed, competency, options.bootstrap)
    value = raw[pairs.first, pairs.second]
    count = (answered[pairs.first] & answered[pairs.second]).sum(axis=1)
    prompt_count = answered.shape[1]
    notes = [f"shared: {n} of {prompt_count} prompts" if n < prompt_count else None for n in count.tolist()]
    return rows(
        pairs,
        competency,
        np.maximum(value, 0.0),
        raw=value,
        low=low,
        high=high,
        n_items=count,
        consistency=np.sqrt(sure[pairs.first] * sure[pairs.second]),
        missing=["; ".join(filter(None, (sample, note))) or None for note in notes],
        reason=["a model answered nothing"] * len(pairs),
    )


@dataclass(frozen=True)
class _Scale:
    """How shares of runs become departures from the pool: the divisor of each run, and what is added to the
    product of two models.

    The pool's mean is only a guess, from so many models, of what is common to all: it takes 1/models of the
    variance from every product, which is given back. What speaks for kinship before anything is seen counts
    the more, the less of what single answers vary in is told by the model.
    """

    divisor: Floats
    prior: float

    def departures(self, counts: NDArray[np.floating], totals: Floats) -> Floats:
        """Standardised shares, shape (models, runs)."""
        shares = counts / np.maximum(totals, 1.0)[:, None]
        z: Floats = np.clip((shares - shares.mean(axis=0)) / self.divisor, -FARTHEST, FARTHEST)
        return z


def _scale(counted: ngrams.Usage, wrote: Ints, options: StyleOptions) -> _Scale:
    shares = counted.counts[wrote].sum(axis=1) / counted.totals[wrote].sum(axis=1)[:, None]
    between, models = shares.var(axis=0, ddof=1), len(wrote)
    square = between + options.single * counted.spread + TINY
    share = between / square
    # What so many single answers would tell by accident, of models that write alike.
    accident = counted.spread * float((1.0 / counted.answers[wrote].sum(axis=1)).mean())
    chance = accident / (accident + options.single * counted.spread + TINY)
    real = float((share**2).sum() - (chance**2).sum() * (1.0 + 2.0 / (models - 1)))
    alike = options.alike / max(real, TINY)
    return _Scale(np.sqrt(square), float(share.sum()) * (1.0 / models + alike) + TINY)


def _cosines(counts: NDArray[np.floating], totals: Floats, scale: _Scale) -> Floats:
    z = scale.departures(counts, totals)
    products = z @ z.T + scale.prior
    size = np.sqrt(np.maximum(np.diag(products), TINY))
    cosines: Floats = np.clip(products / size[:, None] / size, -1.0, 1.0)
    return cosines


def _consistency(counts: NDArray[np.float32], totals: Floats, scale: _Scale) -> Floats:
    """The share of each model's departure that is no accident of the prompts: what it shares with itself.

    The accident is the variance of the mean over cells of prompts (jackknife).
    """
    whole = scale.departures(counts.sum(axis=1), totals.sum(axis=1))
    size = (whole**2).sum(axis=1) + scale.prior
    noise = np.zeros(len(whole))
    cells = counts.shape[1]
    for cell in range(cells):
        rest = scale.departures(counts.sum(axis=1) - counts[:, cell], totals.sum(axis=1) - totals[:, cell])
        noise += ((rest - whole) ** 2).sum(axis=1)
    sure: Floats = np.clip(1.0 - noise * (cells - 1) / cells / size, 0.0, 1.0)
    return sure


def _interval(
    pairs: Pairs,
    counted: ngrams.Usage,
    wrote: Ints,
    scale: _Scale,
    seed: int,
    competency: str | None,
    rounds: int,
) -> tuple[Floats, Floats]:
    """95% interval of each pair over resampled cells of prompts.

    A sample of prompts that is drawn again is noisier than the first, and noise makes any two models
    strangers: so the rounds are moved to lie around what was found.
    """
    counts, totals = counted.counts[wrote], counted.totals[wrote]
    cells = totals.shape[1]
    drawn = item_counts(cells, rounds, seed, "cells", competency or "").astype(np.float32)
    place = np.full(len(pairs.names), -1)
    place[wrote] = np.arange(len(wrote))
    one, other = place[pairs.first], place[pairs.second]
    known = (one >= 0) & (other >= 0)
    resampled = np.full((rounds, len(pairs)), np.nan, dtype=np.float32)
    by_cell = np.ascontiguousarray(counts.transpose(1, 0, 2)).reshape(cells, -1)
    for start in range(0, rounds, TOGETHER):
        weights = drawn[start : start + TOGETHER]
        again = (weights @ by_cell).reshape(len(weights), len(wrote), -1)
        for number, (shares, sums) in enumerate(zip(again, weights @ totals.T, strict=True), start):
            square = _cosines(shares, sums, scale)
            resampled[number, known] = square[one[known], other[known]]
    measured = _cosines(counts.sum(axis=1), totals.sum(axis=1), scale)
    resampled[:, known] += measured[one[known], other[known]] - np.median(resampled[:, known], axis=0)
    return percentiles(np.clip(resampled, 0.0, 1.0))


def _asked(given: pl.DataFrame, prompts: pl.DataFrame | None, most: int) -> tuple[pl.DataFrame, str | None]:
    """The prompts that count: prompt_id, competency ("" = unknown), number and cell; and what was sampled."""
    ids = given["prompt_id"].unique().sort()
    sample = None
    if len(ids) > most:
        sample = f"sample: {most} of {len(ids)} prompts"
        ids = ids.gather(np.linspace(0, len(ids) - 1, most).astype(np.int64))
    counted = pl.DataFrame({"prompt_id": ids, "prompt": np.arange(len(ids))})
    if prompts is None:
        counted = counted.with_columns(competency=pl.lit(""))
    else:
        known = prompts.select("prompt_id", "competency")
        counted = counted.join(known, on="prompt_id", how="left", maintain_order="left").with_columns(
            pl.col("competency").fill_null("")
        )
    group = pl.col("competency").rank("dense").cast(pl.Int64) - 1
    within = pl.int_range(pl.len()).over("competency") % CELLS
    return counted.with_columns(cell=group * CELLS + within), sample


@hookimpl
def karma_register_kinship_metrics() -> Sequence[KinshipMetric]:
    """The metric of this module."""
    return [KinshipMetric(name="style", options=StyleOptions, measure=measure)]
