"""Kinship metric `capa`: chance-adjusted probabilistic agreement on options (Goel et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from karma_plugins.contracts import Evidence, KinshipMetric, Options, hookimpl
from karma_plugins.kinship import questions
from karma_plugins.kinship.agreement import Array, Channels, agreement
from karma_plugins.kinship.kappa import kappa, kappa_rows


class CapaOptions(Options):
    """Whether option probabilities are used, and how long to resample."""

    kind: Literal["probabilistic", "hard"] = Field(
        "probabilistic", description="option probabilities where there are some, or choices alone"
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(1000, description="rounds of the interval; 0 for none")


def measure(evidence: Evidence, options: CapaOptions) -> pl.DataFrame:
    """Kappa_p over the questions that both answered; kinship = kappa_p, 0 where it is below 0.

    c_obs = mean over questions of sum_o p1(o) p2(o), c_exp = p1 p2 + (1 - p1)(1 - p2) mean 1 / (options - 1)
    with p1, p2 the mean probability of the right option, kappa_p = (c_obs - c_exp) / (1 - c_exp). Questions
    need two options or more; a reply that was not parsed, or named none of them, is left out.
    """
    quiz = questions.read(evidence)
    probability = quiz.probabilities() if options.kind == "probabilistic" else quiz.choices(quiz.most_options)
    usable = (quiz.options >= 2) & (quiz.answer >= 0) & (quiz.answer < quiz.options)
    there = (usable & (probability.sum(axis=2) > 0)).astype(np.float64)
    probability *= there[:, :, None]
    right = np.take_along_axis(probability, np.maximum(quiz.answer, 0)[None, :, None], axis=2)[:, :, 0]
    channels: Channels = {
        "n": (there, there),
        "same": (probability, probability),
        "right_a": (right, there),
        "right_b": (there, right),
        "chance": (there / np.maximum(quiz.options - 1, 1), there),
    }
    agreements = agreement(
        channels,
        _kappa,
        quiz.competencies,
        quiz.pairs,
        rounds=options.bootstrap,
        seed=evidence.seed,
    )
    return kappa_rows(
        quiz, agreements, there > 0, "both models are always right, so chance explains all agreement"
    )


def _kappa(sums: Mapping[str, Array]) -> Array:
    n, same, a, b, chance = (sums[name] for name in ("n", "same", "right_a", "right_b", "chance"))
    with np.errstate(invalid="ignore", divide="ignore"):
        return kappa(same, a * b + (n - a) * (n - b) * chance / n, n)


@hookimpl
def karma_register_kinship_metrics() -> Sequence[KinshipMetric]:
    """The metric of this module."""
    return [KinshipMetric(name="capa", options=CapaOptions, measure=measure)]
