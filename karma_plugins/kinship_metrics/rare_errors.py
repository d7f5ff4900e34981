"""Kinship metric `rare-errors`: two models are kin where they err alike in ways that other models do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from karma_plugins.contracts import Evidence, KinshipMetric, Options
from karma_plugins.hookspecs import hookimpl
from karma_plugins.kinship_metrics import questions
from karma_plugins.kinship_metrics.agreement import Array, Channels, agreement
from karma_plugins.kinship_metrics.kappa import kappa_rows
from karma_plugins.kinship_metrics.pairs import Floats
from karma_plugins.kinship_metrics.questions import Questions


class RareErrorsOptions(Options):
    """How much the other models are trusted, and how long to resample."""

    kind: Literal["probabilistic", "hard"] = Field(
        "probabilistic", description="option probabilities where there are some, or choices alone"
    )
    prior: Annotated[float, Field(gt=0)] = Field(
        1.0, description="further models, beside those at hand, that are taken to err at random"
    )
    floor: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1,
        description="share of models below which a wrong option counts as no rarer; 1: all alike",
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(1000, description="rounds of the interval; 0 for none")


def measure(evidence: Evidence, options: RareErrorsOptions) -> pl.DataFrame:
    """1 minus the distance of two models' wrong answers over that of either from the other models'.

    For a question, x_u is the distribution of model u over the wrong options given that it errs (one option
    where only its choice is known), m_u the probability that it errs, p the mean of x over all models that
    err, with the prior. Rare options count most: d(x, y) = sum_o w(o) (x(o) - y(o))^2 with
    w = 1 / (f + (1 - f) p(o)), f the floor. With sums over the questions on which both err,
    D = sum sqrt(m_a m_b) d(x_a, x_b),
    E = sum sqrt(m_a m_b) mean_j (d(x_a, x_j) + d(x_b, x_j)) / 2
    over the other models j that err, a and b left out, and the prior's, which err at random and as sharply as
    the rest; kinship = 1 - D / E, and 0 where that is below 0. docs/kinship_metrics.md says why.

    `raw` is 1 - D / E, n_items those questions. A question needs two wrong options.
    """
    asked = questions.read(evidence)
    probability = (
        asked.probabilities() if options.kind == "probabilistic" else asked.choices(asked.most_options)
    )
    usable = (asked.options >= 3) & (asked.answer >= 0) & (asked.answer < asked.options)
    probability *= usable[:, None]
    channels = _channels(asked, probability, options)
    found = agreement(
        channels,
        _likeness,
        asked.competencies,
        asked.pairs,
        rounds=options.bootstrap,
        seed=evidence.seed,
    )
    answered = probability.sum(axis=2) > 0
    return kappa_rows(asked, found, answered, "there is no question with options that both got wrong")


def _channels(asked: Questions, probability: Floats, options: RareErrorsOptions) -> Channels:
    """D and E as products of one array of each model.

    With the weights put into x: d(x_a, x_b) = a a + b b - 2 a b, and the pair is taken out of the sums over
    all models, so that the mean over the T others and the prior's is
    (d(x_a, .) + d(x_b, .)) / 2 = (a a + b b) / 2 - (a s + b s) / T + 2 a b / T + r / T
    with s the sum of all x and r that of all x x, both with the prior.
    """
    option = np.arange(probability.shape[2])
    wrong = (option < asked.options[:, None]) & (option != asked.answer[:, None])
    mistaken = probability * wrong
    erring: Floats = mistaken.sum(axis=2)
    errs = erring > 0
    x = mistaken / np.where(errs, erring, 1.0)[:, :, None]
    count = errs.sum(axis=0)
    total = x.sum(axis=0) + options.prior * wrong / np.maximum(asked.options - 1, 1)[:, None]
    share = total / (count + options.prior)[:, None]
    root = np.sqrt(wrong / (options.floor + (1.0 - options.floor) * share))
    x, total = x * root, total * root
    square, cross = (x * x).sum(axis=2), (x * total).sum(axis=2)
    others = np.maximum(count - 2, 0) + options.prior
    spread = square.sum(axis=0) * (1.0 + options.prior / np.maximum(count, 1))
    amount = np.sqrt(erring)
    x = x * amount[:, :, None]
    far = amount * (square / 2 - cross / others + spread / (2 * others))
    return {
        "n": (errs.astype(np.float64), errs.astype(np.float64)),
        "distance": _channel(x, -2.0, amount, amount * square),
        "expected": _channel(x, 2.0 / others, amount, far),
    }


def _channel(x: Floats, both: float | Floats, amount: Floats, own: Floats) -> tuple[Floats, Floats]:
    """A channel whose sum is that of both * x_a x_b + own_a amount_b + amount_a own_b."""
    left = x * np.broadcast_to(both, x.shape[1])[:, None]
    return np.dstack([left, own, amount]), np.dstack([x, amount, own])


def _likeness(sums: Mapping[str, Array]) -> Array:
    room = sums["expected"]
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.where((sums["n"] > 0) & (room > 0), 1.0 - sums["distance"] / room, np.nan)
    return np.minimum(found, 1.0)


@hookimpl
def karma_register_kinship_metrics() -> Sequence[KinshipMetric]:
    """The metric of this module."""
    return [KinshipMetric(name="rare-errors", options=RareErrorsOptions, measure=measure)]
