"""Kinship metric `error-consistency`: how often two models are right or wrong together, beyond chance."""

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

#: A graded answer counts as right from here on.
RIGHT = 0.5


class ErrorConsistencyOptions(Options):
    """What an unparsed reply is, and how long to resample."""

    unparsed: Literal["skip", "wrong"] = Field(
        "skip",
        description="a reply to a question with options that names none: leave the question out, or wrong",
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(1000, description="rounds of the interval; 0 for none")


def measure(evidence: Evidence, options: ErrorConsistencyOptions) -> pl.DataFrame:
    """Kappa of being right together (Geirhos et al. 2020); kinship = kappa, 0 where it is below 0.

    c_obs = share of shared questions on which both are right or both are wrong, c_exp = a1 a2 +
    (1 - a1)(1 - a2) with the accuracies a1, a2 on these questions, kappa = (c_obs - c_exp) / (1 - c_exp).
    """
    quiz = questions.read(evidence)
    known = ~np.isnan(quiz.correct)
    if options.unparsed == "skip":
        known &= (quiz.choice >= 0) | (quiz.options < 0)
    there = known.astype(np.float64)
    right = (known & (np.nan_to_num(quiz.correct) >= RIGHT)).astype(np.float64)
    channels: Channels = {
        "n": (there, there),
        "both": (right, right),
        "right_a": (right, there),
        "right_b": (there, right),
    }
    agreements = agreement(
        channels,
        _kappa,
        quiz.competencies,
        quiz.pairs,
        rounds=options.bootstrap,
        seed=evidence.seed,
    )
    return kappa_rows(quiz, agreements, known, "both models always give the same result by chance alone")


def _kappa(sums: Mapping[str, Array]) -> Array:
    n, both, a, b = (sums[name] for name in ("n", "both", "right_a", "right_b"))
    return kappa(n - a - b + 2 * both, a * b + (n - a) * (n - b), n)


@hookimpl
def karma_register_kinship_metrics() -> Sequence[KinshipMetric]:
    """The metric of this module."""
    return [KinshipMetric(name="error-consistency", options=ErrorConsistencyOptions, measure=measure)]
