"""Agreement beyond chance: kappa, and its rows of table `kinship`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.kinship.agreement import Agreement, Array
from karma_plugins.kinship.pairs import gather, rows
from karma_plugins.kinship.questions import Questions


def kappa(observed: Array, expected: Array, n: Array) -> Array:
    """(c_obs - c_exp) / (1 - c_exp) from sums over n questions; NaN where n or 1 - c_exp is 0.

    `observed` is n * c_obs, `expected` is n^2 * c_exp.
    """
    room = n * n - expected
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Array = np.where(room > 1e-9 * n * n, (n * observed - expected) / room, np.nan)
    return ratio


def kappa_rows(
    quiz: Questions,
    agreements: Mapping[str | None, Agreement],
    answered: NDArray[np.bool_],
    undefined: str,
) -> pl.DataFrame:
    """Rows of all competencies: kinship is the raw number, or 0 where that is below chance.

    Channel `n` counts the questions compared. `answered` says where a model gave an answer of use; a pair
    that left out some of the questions that others answered says so in column `missing`. `undefined` is the
    reason where questions are shared, but the number is not defined.
    """
    parts = []
    for competency, result in agreements.items():
        part = slice(None) if competency is None else quiz.competencies[competency]
        given = answered[:, part].astype(np.float64)
        total = int((given.sum(axis=0) > 0).sum())
        shared = (given @ given.T)[quiz.pairs.first, quiz.pairs.second].astype(np.int64).tolist()
        parts.append(
            rows(
                quiz.pairs,
                competency,
                np.maximum(result.raw, 0.0),
                raw=result.raw,
                low=result.low,
                high=result.high,
                n_items=np.rint(result.sums["n"]).astype(np.int64),
                missing=[f"shared: {k} of {total} questions" if k < total else None for k in shared],
                reason=["no question is shared" if k == 0 else undefined for k in shared],
            )
        )
    return gather(parts)
