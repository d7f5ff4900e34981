"""Nepotism: how much a judge favours models that are kin to it, and its scores with that taken off.

Score of judge j on an answer = level of j in the prompt + spread of j * quality of the answer
                                + favour of j * kinship(j, model of the answer) + noise.
Quality is what the judges share, so it takes a second judge. Spreads are measured net of kinship, levels and
qualities are differenced out, and the favours of all judges with known kin are estimated together by least
squares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from karma_plugins.errors import ParamsError, did_you_mean
from karma_plugins.judging.jury import Array, Ballot, Codes, group_mean
from karma_plugins.runtime.statistics import Z

ROUNDS, TOLERANCE = 1000, 1e-10
UNTOLD = "no other judge to compare with, or no kinship that differs"


@dataclass(frozen=True, slots=True)
class Favour:
    """A judge's favour: score given for kinship 1 above that for kinship 0, in units of its (aligned) scores.

    `value` is null where `reason` says why; low and high are its 95% interval, n the scores it rests on.
    """

    measure: str
    judge: str
    kin_to: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None

    @property
    def certain(self) -> bool:
        """Whether the interval excludes no favour at all."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def closeness(votes: Ballot, kinship: pl.DataFrame | None, kin_to: Mapping[str, str]) -> Array:
    """Kinship of judges (columns) to the models of answers (rows) by the acting metric, NaN where unknown.

    `kin_to` names the candidate that a judge is or descends from; that candidate's kinship to itself is 1.
    Raises ParamsError where no candidate has that name.
    """
    known = {} if kinship is None else _overall(kinship)
    models = votes.answers["model"]
    names = sorted({*models.unique(), *(name for pair in known for name in pair)})
    near_to = np.full(votes.scores.shape, np.nan)
    for j, judge in enumerate(votes.judges):
        if judge not in kin_to:
            continue
        relative = kin_to[judge]
        if relative not in names:
            hint = did_you_mean(relative, names)
            raise ParamsError(f"jury.kin_to.{judge}: no candidate is called '{relative}'.{hint}")
        near = {m: known.get((min(m, relative), max(m, relative))) for m in names} | {relative: 1.0}
        near_to[:, j] = models.replace_strict(near, return_dtype=pl.Float64).fill_null(np.nan).to_numpy()
    return near_to


def _overall(kinship: pl.DataFrame) -> dict[tuple[str, str], float]:
    acting = kinship.filter(
        pl.col("primary") & pl.col("competency").is_null() & pl.col("kinship").is_not_null()
    )
    return {
        (min(a, b), max(a, b)): k for a, b, k in acting.select("model_a", "model_b", "kinship").iter_rows()
    }


def favours(votes: Ballot, near: Array, kin_to: Mapping[str, str], measure: str = "nepotism") -> list[Favour]:
    """The favour of each judge in `kin_to`, in units of its scores.

    The interval is the wider of two: one that treats prompts as the units, for chance in the answers, and one
    that treats models as the units, for tastes that have nothing to do with kinship.
    """
    seats = [j for j, judge in enumerate(votes.judges) if judge in kin_to]
    if not seats:
        return []
    unknown = np.isnan(near) & np.isin(np.arange(near.shape[1]), seats)
    heard = ~np.isnan(votes.scores) & ~unknown
    answer, judge = np.nonzero(heard & (heard.sum(axis=1, keepdims=True) > 1))
    spread = _spreads(votes, near[:, seats])
    y = votes.scores[answer, judge] / spread[judge]
    x = np.column_stack([np.where(judge == j, near[answer, j], 0.0) for j in seats])
    swept = _swept(np.column_stack([y, x]), answer, votes.prompt[answer] * len(votes.judges) + judge)
    identified = [k for k in range(len(seats)) if float((swept[:, 1 + k] ** 2).sum()) > 1e-9]
    model = votes.answers["model"].rank("dense").cast(pl.Int64).to_numpy()[answer]
    fit = _least_squares(swept[:, 0], swept[:, [1 + k for k in identified]], votes.prompt[answer], model)
    measured = []
    for k, j in enumerate(seats):
        name = votes.judges[j]
        favour = Favour(measure, name, kin_to[name], None, None, None, int((judge == j).sum()), UNTOLD)
        if fit is not None and k in identified:
            value, half = (float(numbers[identified.index(k)] * spread[j]) for numbers in fit)
            favour = replace(favour, value=value, low=value - half, high=value + half, reason=None)
        measured.append(favour)
    return measured


def corrected(votes: Ballot, near: Array, measured: list[Favour]) -> Ballot:
    """The votes without each judge's favour where its interval excludes none; mean scores of prompts stay."""
    scores = votes.scores.copy()
    for favour in measured:
        if favour.value is None or not favour.certain:
            continue
        j = votes.judges.index(favour.judge)
        here = ~np.isnan(scores[:, j]) & ~np.isnan(near[:, j])
        scores[here, j] -= favour.value * (near[here, j] - group_mean(near[here, j], votes.prompt[here]))
    return replace(votes, scores=scores)


def _spreads(votes: Ballot, near: Array) -> Array:
    """Each judge's standard deviation within prompts, net of kinships in `near`; 1 where there is none."""
    spreads = np.ones(len(votes.judges))
    for j in range(len(votes.judges)):
        here = ~np.isnan(votes.scores[:, j]) & ~np.isnan(near).any(axis=1)
        if not here.any():
            continue
        columns = np.column_stack([votes.scores[here, j], near[here]])
        columns -= np.column_stack([group_mean(column, votes.prompt[here]) for column in columns.T])
        square, pull = _products(columns[:, 1:], columns[:, 0])
        left = columns[:, 0] - _combined(columns[:, 1:], np.linalg.pinv(square) @ pull)
        spread = math.sqrt(float((left * left).mean()))
        spreads[j] = spread if spread > 1e-9 else 1.0
    return spreads


def _swept(columns: Array, answer: Codes, level: Codes) -> Array:
    """The columns without the means of each answer and of each judge's prompt, taken off in turns."""
    answer, level = (np.unique(codes, return_inverse=True)[1] for codes in (answer, level))
    columns = columns.copy()
    for k in range(columns.shape[1]):
        for _ in range(ROUNDS):
            mean = group_mean(columns[:, k], answer)
            columns[:, k] -= mean
            more = group_mean(columns[:, k], level)
            columns[:, k] -= more
            if max(np.abs(mean).max(initial=0.0), np.abs(more).max(initial=0.0)) < TOLERANCE:
                break
    return columns


def _least_squares(y: Array, x: Array, prompt: Codes, model: Codes) -> tuple[Array, Array] | None:
    """Coefficients and half their 95% intervals, clustered (Liang, Zeger 1986); null where untold."""
    if not x.shape[1]:
        return None
    square, pull = _products(x, y)
    if np.linalg.matrix_rank(square) < x.shape[1]:
        return None
    inverse = np.asarray(np.linalg.inv(square), dtype=np.float64)
    value = inverse @ pull
    left = y - _combined(x, value)
    half = Z * _errors(x, left, inverse, prompt)
    models = len(np.unique(model))
    if models > 2:
        from scipy.stats import t

        half = np.maximum(half, float(t.ppf(0.975, models - 2)) * _errors(x, left, inverse, model))
    return value, half


def _errors(x: Array, left: Array, inverse: Array, cluster: Codes) -> Array:
    """Standard errors of the coefficients where only clusters are independent."""
    _, group = np.unique(cluster, return_inverse=True)
    clusters = int(group.max()) + 1
    pulls: Array = np.column_stack([np.bincount(group, column * left) for column in x.T])
    spread: Array = inverse @ _products(pulls, pulls[:, 0])[0] @ inverse * (clusters / max(clusters - 1, 1))
    return np.sqrt(np.maximum(np.diag(spread), 0.0))


def _products(x: Array, y: Array) -> tuple[Array, Array]:
    """x'x and x'y, added up in an order that is fixed: that of a threaded matrix product is not."""
    columns = range(x.shape[1])
    square = np.array([[float((x[:, i] * x[:, j]).sum()) for j in columns] for i in columns])
    return square, np.array([float((x[:, i] * y).sum()) for i in columns])


def _combined(x: Array, weights: Array) -> Array:
    total = np.zeros(len(x))
    for i, weight in enumerate(weights):
        total += x[:, i] * weight
    return total
