"""Kinship metric `answers`: how alike the generated answers of two models are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field

from karma_plugins.contracts import Evidence, KinshipMetric, Options
from karma_plugins.errors import PluginError
from karma_plugins.hookspecs import hookimpl
from karma_plugins.kinship.pairs import Floats, Pairs, gather, pairs_of, rows
from karma_plugins.kinship.resampling import item_counts, percentiles
from karma_plugins.texts.similarity import jaccard, signatures


class AnswersOptions(Options):
    """Which answers are compared, and how long to resample."""

    samples: Annotated[int, Field(ge=1)] = Field(
        2, description="of each model's answers to a prompt the first so many, each with each"
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(1000, description="rounds of the interval; 0 for none")


def measure(evidence: Evidence, options: AnswersOptions) -> pl.DataFrame:
    """Mean similarity of two models' answers to the same prompts; overall only.

    Similarity of two texts is the Jaccard index of their shingles (karma_plugins.similarity), of two models
    on a prompt the mean over their answers, each with each; kinship = `raw` = the mean over the prompts that
    both answered, n_items. Two samples of one model differ too, so a model's likeness to itself is its own
    consistency and may be below 1. Raises PluginError where no responses are at hand.
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
    alike = _alike(given, pairs)
    known = ~np.isnan(alike)
    count = known.sum(axis=0)
    total = np.where(known, alike, 0.0)
    with np.errstate(invalid="ignore"):
        kinship = np.where(count > 0, total.sum(axis=0) / np.maximum(count, 1), np.nan)
    low = high = None
    if options.bootstrap and len(alike):
        counts = item_counts(len(alike), options.bootstrap, evidence.seed, "prompts")
        with np.errstate(invalid="ignore", divide="ignore"):
            low, high = percentiles((counts @ total) / (counts @ known))
    asked = given["prompt_id"].n_unique()
    return rows(
        pairs,
        None,
        kinship,
        raw=kinship,
        low=low,
        high=high,
        n_items=count,
        missing=[f"shared: {n} of {asked} prompts" if n < asked else None for n in count.tolist()],
        reason=["no prompt that both answered"] * len(pairs),
    )


def _alike(given: pl.DataFrame, pairs: Pairs) -> Floats:
    """Mean similarity of each pair's answers to each prompt: (prompts, pairs), NaN where one has none."""
    place = {name: i for i, name in enumerate(pairs.names)}
    number = np.full((len(place), len(place)), -1)
    number[pairs.first, pairs.second] = np.arange(len(pairs))
    sides = given.select(
        "prompt_id",
        name=pl.col("model").replace_strict(place, return_dtype=pl.Int64),
        row=pl.int_range(pl.len()),
        prompt=pl.col("prompt_id").rank("dense") - 1,
    )
    both = sides.join(sides, on="prompt_id", suffix="_b").filter(pl.col("name") < pl.col("name_b"))
    marks = signatures(given.lazy(), given["response_id"])
    similar = jaccard(marks, both["row"].to_numpy(), both["row_b"].to_numpy())
    pair = number[both["name"].to_numpy(), both["name_b"].to_numpy()]
    cell = both["prompt"].to_numpy() * len(pairs) + pair
    size = int(given["prompt_id"].n_unique()) * len(pairs)
    count = np.bincount(cell, minlength=size)
    total = np.bincount(cell, weights=similar, minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(-1, len(pairs))


@hookimpl
def karma_register_kinship_metrics() -> Sequence[KinshipMetric]:
    """The metric of this module."""
    return [KinshipMetric(name="answers", options=AnswersOptions, measure=measure)]
