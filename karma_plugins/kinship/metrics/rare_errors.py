"""Kinship metric `rare-errors`: two models are kin where they err alike in ways that other models do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from karma_plugins.contracts import Evidence, KinshipMetric, Options, hookimpl
from karma_plugins.kinship import questions
from karma_plugins.kinship.agreement import Array, Channels, agreement
from karma_plugins.kinship.kappa import kappa_rows
from karma_plugins.kinship.pairs import Floats
from karma_plugins.kinship.questions import Questions

Channel = tuple[Floats, Floats]
#: Expected distance to a question below which there is none but rounding.
NO_ROOM = 1e-9


class RareErrorsOptions(Options):
    """How much the other models are trusted, and how long to resample."""

    kind: Literal["probabilistic", "hard"] = Field(
        "probabilistic", description="option probabilities where there are some, or choices alone"
    )
    prior: Annotated[float, Field(gt=0)] = Field(
        5.0, description="further models, beside those at hand, that are taken to err at random"
    )
    floor: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1,
        description="share of models below which an outcome counts as no rarer; 1: all alike",
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(1000, description="rounds of the interval; 0 for none")


def measure(evidence: Evidence, options: RareErrorsOptions) -> pl.DataFrame:
    """1 minus the distance of two models' errors over that of models that are no kin.

    A question has two parts: whether a model errs more than its accuracy and the question's difficulty tell,
    and by which wrong option. In both an outcome counts 1 / (f + (1 - f) p), p its share among all models and
    f the floor: what few models do counts most. `raw` is 1 - D / E with the sums of the squared distances D
    and of those expected E, kinship is it, and 0 where it is below 0; docs/kinship_metrics.md has the formula
    and says why.

    n_items are the questions that both answered. Which wrong option needs two of them; questions without
    options count by whether they were right. A reply that was not parsed is left out.
    """
    quiz = questions.read(evidence)
    channels = _channels(quiz, options)
    agreements = agreement(
        channels,
        _likeness,
        quiz.competencies,
        quiz.pairs,
        rounds=options.bootstrap,
        seed=evidence.seed,
    )
    answered = channels["n"][0] > 0
    return kappa_rows(quiz, agreements, answered, "neither model shows an error that could be compared")


def _channels(quiz: Questions, options: RareErrorsOptions) -> Channels:
    probability = quiz.probabilities() if options.kind == "probabilistic" else quiz.choices(quiz.most_options)
    keyed = (quiz.answer >= 0) & (quiz.answer < quiz.options)
    picked = np.take_along_axis(probability, np.maximum(quiz.answer, 0)[None, :, None], axis=2)[:, :, 0]
    right = np.where(keyed, picked, quiz.correct)
    parsed = (quiz.options < 0) | (probability.sum(axis=2) > 0)
    there = ~np.isnan(right) & parsed & quiz.asked
    probability *= (keyed & (quiz.options >= 3))[:, None]
    known = there.astype(np.float64)
    whether = _whether(np.where(there, right, 0.0), there, quiz.competencies, options)
    which = _which(quiz, probability, options)
    return {
        "n": (known, known),
        "distance": _joined(whether[0], which[0]),
        "expected": _joined(whether[1], which[1]),
    }


def _whether(
    right: Floats,
    there: NDArray[np.bool_],
    competencies: Mapping[str, slice],
    options: RareErrorsOptions,
) -> tuple[Channel, Channel]:
    """Distance and expected distance of what is right or wrong beyond accuracy and difficulty.

    What is usual is a first step of the Rasch model: logistic in a model's ability, in each competency, less
    a question's difficulty, to which the prior adds models that are right half the time. A model's own answer
    moves the difficulty too, so of models that are no kin the product of what is beyond the usual is not 0
    but -(v_b e_a^2 + v_a e_b^2) / S + v_a v_b R / S^2 with e = right - accuracy, v = slope, S that of all
    models, R the sum of all e^2; the expected distance takes that into account.
    """
    accuracy = np.zeros(right.shape)
    for part in competencies.values():
        answered = np.maximum(there[:, part].sum(axis=1), 1)
        accuracy[:, part] = (right[:, part].sum(axis=1) / answered)[:, None] * there[:, part]
    error, slope = right - accuracy, accuracy * (1.0 - accuracy)
    slopes = slope.sum(axis=0) + options.prior / 4
    usual = np.clip(accuracy + slope * error.sum(axis=0) / slopes, 0.0, 1.0) * there
    share = (usual.sum(axis=0) + options.prior / 2) / (there.sum(axis=0) + options.prior)
    weight = _weight(share, options) + _weight(1.0 - share, options)
    beyond = (np.sqrt(weight) * (right - usual))[:, :, None]
    known, own = there.astype(np.float64), beyond[:, :, 0] ** 2
    moved = 2 * weight / slopes
    bias = _channel(slope[:, :, None], -moved * (error**2).sum(axis=0) / slopes, slope, moved * error**2)
    expected = _joined(_channel(beyond[:, :, :0], 0.0, known, own), bias)
    return _channel(beyond, -2.0, known, own), expected


def _which(quiz: Questions, probability: Floats, options: RareErrorsOptions) -> tuple[Channel, Channel]:
    """Distance and expected distance of two models' wrong options where both err.

    With the weights put into x: d(x_a, x_b) = a a + b b - 2 a b, and the pair is taken out of the sums over
    all models, so that the mean over the T others and the prior's is
    (d(x_a, .) + d(x_b, .)) / 2 = (a a + b b) / 2 - (a s + b s) / T + 2 a b / T + r / T
    with s the sum of all x and r that of all x x, both with the prior.
    """
    option = np.arange(probability.shape[2])
    wrong = (option < quiz.options[:, None]) & (option != quiz.answer[:, None])
    mistaken = probability * wrong
    erring: Floats = mistaken.sum(axis=2)
    errs = erring > 0
    x = mistaken / np.where(errs, erring, 1.0)[:, :, None]
    count = errs.sum(axis=0)
    total = x.sum(axis=0) + options.prior * wrong / np.maximum(quiz.options - 1, 1)[:, None]
    share = total / (count + options.prior)[:, None]
    root = np.sqrt(wrong * _weight(share, options))
    x, total = x * root, total * root
    square, cross = (x * x).sum(axis=2), (x * total).sum(axis=2)
    others = np.maximum(count - 2, 0) + options.prior
    spread = square.sum(axis=0) * (1.0 + options.prior / np.maximum(count, 1))
    amount = np.sqrt(erring)
    x = x * amount[:, :, None]
    far = amount * (square / 2 - cross / others + spread / (2 * others))
    return _channel(x, -2.0, amount, amount * square), _channel(x, 2.0 / others, amount, far)


def _weight(share: Floats, options: RareErrorsOptions) -> Floats:
    """What an outcome counts that a share of the models has."""
    weight: Floats = 1.0 / (options.floor + (1.0 - options.floor) * share)
    return weight


def _channel(x: Floats, both: float | Floats, amount: Floats, own: Floats) -> Channel:
    """A channel whose sum is that of both * x_a x_b + own_a amount_b + amount_a own_b."""
    left = x * np.broadcast_to(both, x.shape[1])[:, None]
    return np.dstack([left, own, amount]), np.dstack([x, amount, own])


def _joined(one: Channel, other: Channel) -> Channel:
    """A channel whose sum is that of both."""
    return np.concatenate([one[0], other[0]], axis=2), np.concatenate([one[1], other[1]], axis=2)


def _likeness(sums: Mapping[str, Array]) -> Array:
    n, room = sums["n"], sums["expected"]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Array = np.where(room > NO_ROOM * n, 1.0 - sums["distance"] / room, np.nan)
    return np.minimum(ratio, 1.0)


@hookimpl
def karma_register_kinship_metrics() -> Sequence[KinshipMetric]:
    """The metric of this module."""
    return [KinshipMetric(name="rare-errors", options=RareErrorsOptions, measure=measure)]
