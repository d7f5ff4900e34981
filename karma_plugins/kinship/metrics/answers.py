"""Kinship metric `answers`: how alike the generated answers of two models are, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field

from karma_plugins.contracts import Evidence, KinshipMetric, Options, hookimpl
from karma_plugins.errors import PluginError
from karma_plugins.kinship.pairs import Floats, Ints, Pairs, gather, pairs_of, rows
from karma_plugins.kinship.resampling import item_counts, percentiles
from karma_plugins.texts.similarity import among, of_texts

#: Cells of prompts that the interval resamples; of fewer prompts each is its own.
CELLS = 200
#: Pairs whose interval is computed at a time.
BLOCK = 2_000


class AnswersOptions(Options):
    """Which answers are compared, and how long to resample."""

    samples: Annotated[int, Field(ge=1)] = Field(
        2, description="of each model's answers to a prompt the first so many, each with each"
    )
    crowd: bool = Field(
        True, description="take off what the two share with the other models of the pool on average"
    )
    prompts: Annotated[int, Field(ge=1)] = Field(
        5_000, description="of more prompts so many are looked at, evenly spread over their ids"
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(1000, description="rounds of the interval; 0 for none")


@dataclass(frozen=True)
class _Likeness:
    """Sums over the prompts of each cell: similarity of the answers, and prompts that count.

    Of pairs (cells, pairs), and of a model's samples among themselves (models).
    """

    total: Floats
    count: Floats
    own: Floats


def measure(evidence: Evidence, options: AnswersOptions) -> pl.DataFrame:
    """Mean similarity of two models' answers to the same prompts, less what is common; overall only.

    Similarity of two texts is the Jaccard index of their shingles (karma_plugins.texts.similarity), of two
    models on a prompt the mean over their answers, each with each; `raw` is the mean over the prompts that
    both answered, n_items. What the two models share with all others on average is no kinship: with e the
    mean of both models' mean similarities to the others, kinship = (raw - e) / (1 - e), at least 0; two
    models have no others, and e is 0. Two samples of one model differ too: `consistency` is a model's
    likeness to itself in the same terms, null for single samples. Raises PluginError where no responses are
    at hand.
    """
    if evidence.responses is None:
        raise PluginError(
            "metric 'answers' compares generated answers, and none were given. Add data/responses to the "
            "deps of stage kinship and `--responses data/responses` to its command."
        )
    pairs = pairs_of(evidence)
    if not len(pairs):
        return gather([])
    given = evidence.responses.filter(pl.col("text").is_not_null()).sort("prompt_id", "model", "sample")
    given = given.filter(pl.int_range(pl.len()).over("prompt_id", "model") < options.samples)
    ids = given["prompt_id"].unique().sort()
    sample = f"sample: {options.prompts} of {len(ids)} prompts" if len(ids) > options.prompts else None
    if sample:
        ids = ids.gather(np.linspace(0, len(ids) - 1, options.prompts).astype(np.int64))
        given = given.filter(pl.col("prompt_id").is_in(ids.implode()))
    likeness = _likeness(given, pairs)
    total, count = likeness.total.sum(axis=0), likeness.count.sum(axis=0)
    raw = _mean(total, count)
    common = _common(raw, pairs) if options.crowd else np.zeros(len(pairs))
    low = high = None
    if options.bootstrap and len(ids):
        low, high = _interval(likeness, pairs, evidence.seed, options)
    shared = count.astype(np.int64)
    notes = [f"shared: {n} of {len(ids)} prompts" if n < len(ids) else None for n in shared.tolist()]
    return rows(
        pairs,
        None,
        np.maximum((raw - common) / (1 - common), 0.0),
        raw=raw,
        low=low,
        high=high,
        consistency=_consistency(likeness.own, common, pairs),
        n_items=shared,
        missing=["; ".join(filter(None, (sample, note))) or None for note in notes],
        reason=["no prompt that both answered"] * len(pairs),
    )


def _likeness(given: pl.DataFrame, pairs: Pairs) -> _Likeness:
    place = {name: i for i, name in enumerate(pairs.names)}
    models = given["model"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    text = given["text"].str.strip_chars().str.to_lowercase()
    marks = of_texts(text)
    prompt = (given["prompt_id"].rank("dense") - 1).to_numpy().astype(np.int64)
    starts = np.searchsorted(prompt, np.arange(int(prompt[-1]) + 2 if len(prompt) else 1))
    cells = max(1, min(CELLS, len(starts) - 1))
    total, count = np.zeros((2, cells, len(pairs)))
    own, own_count = np.zeros((2, len(pairs.names)))
    for number, (start, stop) in enumerate(pairwise(starts.tolist())):
        who = models[start:stop]
        square, samples = _by_model(among(marks[start:stop]), who, len(place))
        value = square[pairs.first, pairs.second]
        there = samples[pairs.first] * samples[pairs.second]
        total[number % cells] += value / np.maximum(there, 1)
        count[number % cells] += there > 0
        several = samples > 1
        ways = samples * (samples - 1)
        own[several] += (np.diag(square) - samples)[several] / ways[several]
        own_count += several
    return _Likeness(total, count, _mean(own, own_count))


def _by_model(square: Floats, who: Ints, models: int) -> tuple[Floats, Floats]:
    """Similarities of answers summed by model, and how many answers each model gave."""
    if len(who) == models and (who == np.arange(models)).all():
        return square, np.ones(models)
    member = np.zeros((models, len(who)))
    member[who, np.arange(len(who))] = 1.0
    return member @ square @ member.T, member.sum(axis=1)


def _mean(total: Floats, count: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _common(raw: Floats, pairs: Pairs) -> Floats:
    """What the models of each pair share with the others on average."""
    models = len(pairs.names)
    if models < 3:
        return np.zeros(len(pairs))
    square = np.full((models, models), np.nan)
    square[pairs.first, pairs.second] = square[pairs.second, pairs.first] = raw
    sums, counts = np.nansum(square, axis=1), (~np.isnan(square)).sum(axis=1)
    value, known = np.nan_to_num(raw), ~np.isnan(raw)
    one, other = (
        (sums[side] - value) / np.maximum(counts[side] - known, 1) for side in (pairs.first, pairs.second)
    )
    common: Floats = np.minimum((one + other) / 2, 1.0 - 1e-9)
    return common


def _interval(likeness: _Likeness, pairs: Pairs, seed: int, options: AnswersOptions) -> tuple[Floats, Floats]:
    """95% interval of each pair over resampled cells of prompts; what is common stays that of all prompts."""
    cells = len(likeness.total)
    counts = item_counts(cells, options.bootstrap, seed, "prompts")
    whole = _mean(likeness.total.sum(axis=0), likeness.count.sum(axis=0))
    common = _common(whole, pairs) if options.crowd else np.zeros(len(pairs))
    low, high = np.full((2, len(pairs)), np.nan)
    for start in range(0, len(pairs), BLOCK):
        block = slice(start, start + BLOCK)
        raw = _mean(counts @ likeness.total[:, block], counts @ likeness.count[:, block])
        corrected = np.maximum((raw - common[block]) / (1 - common[block]), 0.0)
        low[block], high[block] = percentiles(corrected)
    return low, high


def _consistency(own: Floats, common: Floats, pairs: Pairs) -> Floats:
    """How alike the two models are to themselves, less what is common; geometric mean."""
    parts = [np.maximum((own[side] - common) / (1 - common), 0.0) for side in (pairs.first, pairs.second)]
    consistency: Floats = np.sqrt(parts[0] * parts[1])
    return consistency


@hookimpl
def karma_register_kinship_metrics() -> Sequence[KinshipMetric]:
    """The metric of this module."""
    return [KinshipMetric(name="answers", options=AnswersOptions, measure=measure)]
