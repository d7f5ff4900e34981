"""Candidate pairs: all pairs of judged answers to one prompt, less those that the core's own rules drop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from karma_plugins.curriculum.answers import Answers, Bools, Floats, Ints
from karma_plugins.errors import ParamsError, did_you_mean
from karma_plugins.params import CurriculumSection
from karma_plugins.runtime import noise
from karma_plugins.schemas import CANDIDATES
from karma_plugins.texts import similarity

#: Pairs that are looked at in one go; a chunk holds whole prompts.
CHUNK = 1_000_000
#: Differences of rewards up to this are rounding, not judgement.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Pairs:
    """Pairs of answers as positions in `Answers`: `a` has the higher reward."""

    answers: Answers
    a: Ints
    b: Ints

    def __len__(self) -> int:
        return len(self.a)

    def only(self, mask: Bools) -> Pairs:
        """The pairs where the mask is true, in order."""
        return self if mask.all() else Pairs(self.answers, self.a[mask], self.b[mask])

    @property
    def margin(self) -> Floats:
        """Difference of the two rewards."""
        return self.answers.reward[self.a] - self.answers.reward[self.b]

    @property
    def disagreement(self) -> Floats:
        """Quadratic mean of the judges' standard deviations on the two answers, in units of the reward."""
        one, other = self.answers.disagreement[self.a], self.answers.disagreement[self.b]
        return np.sqrt((one**2 + other**2) / 2)

    @property
    def likelihood(self) -> Floats:
        """Geometric mean of the two answers' likelihoods under the model to be trained."""
        return np.sqrt(self.answers.likelihood[self.a] * self.answers.likelihood[self.b])

    @property
    def least_likelihood(self) -> Floats:
        """That of the less likely answer."""
        return np.minimum(self.answers.likelihood[self.a], self.answers.likelihood[self.b])

    def noise(self, seed: int) -> Floats:
        """Chance in [0,1) that belongs to each pair."""
        return noise.of_pairs(seed, self.answers.number[self.a], self.answers.number[self.b])


@dataclass(frozen=True)
class KinshipLookup:
    """The acting kinship of any two models, in the prompt's competency or overall; NaN where unknown."""

    values: Floats
    competency: Ints

    def of(self, pairs: Pairs) -> Floats:
        """Kinship of each pair's two models; 1 for a model with itself."""
        answers = pairs.answers
        competency = self.competency[answers.prompt[pairs.a]]
        return self.values[competency, answers.model[pairs.a], answers.model[pairs.b]]


def lookup(acting: pl.DataFrame, answers: Answers, by: Literal["overall", "competency"]) -> KinshipLookup:
    """Index the acting rows of table kinship (see `acting`) by competency and models."""
    place = {model: i for i, model in enumerate(answers.models)}
    names = answers.prompts["competency"].unique().sort()
    group: dict[str | None, int] = {None: 0} if by == "overall" else {c: i for i, c in enumerate(names)}
    values = np.full((len(group), len(place), len(place)), np.nan)
    columns = ("competency", "model_a", "model_b", "kinship")
    for competency, a, b, kinship in acting.select(columns).iter_rows():
        if competency in group and a in place and b in place and kinship is not None:
            values[group[competency], place[a], place[b]] = kinship
            values[group[competency], place[b], place[a]] = kinship
    values[:, range(len(place)), range(len(place))] = 1.0
    if by == "overall":
        return KinshipLookup(values, np.zeros(answers.prompts.height, dtype=np.uint32))
    return KinshipLookup(values, answers.prompts["competency"].cast(pl.Enum(names)).to_physical().to_numpy())


def acting(
    kinship: pl.DataFrame, by: Literal["overall", "competency"], metric: str | None = None
) -> pl.DataFrame:
    """The kinship rows that a pairing acts on: of a metric (null: the primary), overall or of competencies.

    Raises ParamsError for a metric that is not measured.
    """
    if metric is not None and metric not in (measured := set(kinship["metric"])):
        raise ParamsError(
            f"params.yaml, curriculum.pairings: metric '{metric}' is not measured."
            f"{did_you_mean(metric, measured)} Name it in kinship.metrics."
        )
    mine = pl.col("primary") if metric is None else pl.col("metric") == metric
    overall = pl.col("competency").is_null()
    return kinship.filter(mine, overall if by == "overall" else ~overall)


def chunks(answers: Answers, settings: CurriculumSection, dropped: Counter[str]) -> Iterator[Pairs]:
    """Candidate pairs, some prompts at a time, in order; `dropped` counts what the core's rules drop."""
    size = np.diff(answers.first)
    ahead = np.cumsum(size * (size - 1) // 2)
    start = 0
    while start < len(size):
        done = ahead[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ahead, done + CHUNK, side="right")))
        pairs = _all_pairs(answers, int(answers.first[start]), int(answers.first[stop]))
        for reason, broken in _rules(answers, settings):
            drop = broken(pairs)
            dropped[reason] += int(drop.sum())
            pairs = pairs.only(~drop)
        yield pairs
        start = stop


def frame(pairs: Pairs, kinship: Floats, chance: Floats) -> pl.DataFrame:
    """The pairs as a pairing sees them, columns as in `schemas.CANDIDATES`."""
    answers, prompt = pairs.answers, pairs.answers.prompt[pairs.a]
    return pl.DataFrame(
        {
            "prompt_id": answers.prompts["prompt_id"].gather(prompt),
            "competency": answers.prompts["competency"].gather(prompt),
            "response_a": answers.ids.gather(pairs.a),
            "response_b": answers.ids.gather(pairs.b),
            "model_a": answers.models.gather(answers.model[pairs.a]),
            "model_b": answers.models.gather(answers.model[pairs.b]),
            "reward_a": answers.reward[pairs.a],
            "reward_b": answers.reward[pairs.b],
            "margin": pairs.margin,
            "disagreement": pl.Series(pairs.disagreement, nan_to_null=True),
            "kinship": pl.Series(kinship, nan_to_null=True),
            "noise": chance,
        },
        schema=CANDIDATES,
    )


def _all_pairs(answers: Answers, start: int, stop: int) -> Pairs:
    """Every unordered pair of answers to one prompt, for the answers from `start` up to `stop`."""
    position = np.arange(start, stop)
    partners = answers.first[answers.prompt[start:stop].astype(np.int64) + 1] - position - 1
    left = np.repeat(position, partners)
    right = np.arange(len(left)) - np.repeat(np.cumsum(partners) - partners, partners) + left + 1
    higher = answers.reward[left] >= answers.reward[right]
    return Pairs(answers, np.where(higher, left, right), np.where(higher, right, left))


def _rules(answers: Answers, settings: CurriculumSection) -> Iterator[tuple[str, Callable[[Pairs], Bools]]]:
    """The core's rules in the order they are tried: a reason, and which pairs it drops."""
    margin, units, likeness = settings.margin, settings.margin_in_disagreements, settings.similarity
    yield "judged by different judges", lambda p: p.answers.judges[p.a] != p.answers.judges[p.b]
    yield "tie", lambda p: p.margin <= ROUNDING
    yield "empty answer", lambda p: p.answers.blank[p.a] | p.answers.blank[p.b]
    yield "equal answers", lambda p: p.answers.digest[p.a] == p.answers.digest[p.b]
    if margin > 0:
        yield "below margin", lambda p: p.margin < margin - ROUNDING
    if units > 0:
        yield "disagreement unknown", lambda p: np.isnan(p.disagreement)
        yield "below margin_in_disagreements", lambda p: p.margin < units * p.disagreement - ROUNDING
    if settings.likelier < 1:
        known = answers.likelihood[~np.isnan(answers.likelihood)]
        least = float(np.quantile(known, 1 - settings.likelier)) if len(known) else 0.0
        yield "likelihood unknown", lambda p: np.isnan(p.likelihood)
        yield "unlikely answer", lambda p: p.least_likelihood < least
    if likeness < 1:
        yield "near-duplicate answers", lambda p: _alike(p) >= likeness


def _alike(pairs: Pairs) -> Floats:
    signature = pairs.answers.signature
    if signature is None:
        raise ValueError("answers were gathered without signatures")
    return similarity.jaccard(signature, pairs.a, pairs.b)
