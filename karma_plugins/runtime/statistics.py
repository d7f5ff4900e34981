"""Intervals, agreement and tests that more than one room reports; scipy's where scipy has them.

Intervals are two-sided and hold 95%. What stands on too few numbers is null, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

LEVEL, POWER = 0.95, 0.8
TAILS = (0.025, 0.975)
#: The normal quantile of such an interval.
Z = 1.959963984540054
#: Rounds of a bootstrap that are drawn at once, which bounds its memory.
CHUNK = 256


def bootstrap(values: Floats, *, rounds: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Means of the columns of `values` (cases x measures) and their percentile bootstrap over cases.

    The rounds draw whole rows, so that paired measures stay paired. Returns mean, low and high, each of shape
    (measures,).
    """
    rng = np.random.default_rng(seed)
    n = len(values)
    means = [
        rng.multinomial(n, np.full(n, 1 / n), size=min(CHUNK, rounds - done)) @ values / n
        for done in range(0, rounds, CHUNK)
    ]
    low, high = np.quantile(np.concatenate(means), TAILS, axis=0)
    return values.mean(axis=0), low, high


def t_interval(groups: Sequence[Sequence[float]]) -> dict[str, float | None]:
    """Mean of all values, their sd within groups, the mean's t-interval and the p of a mean of 0.

    Groups are a fixed effect: each group's own mean is taken out of the spread, and costs one degree of
    freedom.
    sd, low, high are null where no freedom is left, p also where there is no spread.
    """
    from scipy.stats import t

    values = np.concatenate([np.asarray(group, dtype=np.float64) for group in groups])
    mean, n, free = float(values.mean()), len(values), len(values) - len(groups)
    if free < 1:
        return {"mean": mean, "sd": None, "low": None, "high": None, "p": None}
    square = sum(float(((np.asarray(group) - np.mean(group)) ** 2).sum()) for group in groups)
    sd = math.sqrt(square / free)
    error = sd / math.sqrt(n)
    half = float(t.ppf(0.5 + LEVEL / 2, free)) * error
    p = float(2 * t.sf(abs(mean) / error, free)) if error > 0 else None
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half, "p": p}


def detectable(sd: float, n: int) -> float:
    """The mean difference that a paired t-test at 0.05 over n pairs shows with a power of 0.8."""
    from scipy.stats import t

    reach = t.ppf(0.5 + LEVEL / 2, n - 1) + t.ppf(POWER, n - 1)
    return float(reach * sd / math.sqrt(n))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction (1979) of the p values that are known."""
    known = sorted((p, i) for i, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (p, i) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        corrected[i] = least
    return corrected


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share seen in n independent cases."""
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def krippendorff_alpha(scores: Floats) -> tuple[float | None, int]:
    """Krippendorff's alpha for interval data (2011), and the number of scores it rests on.

    `scores`: one row for each answer, one column for each judge, NaN where it gave none; answers with one
    score do not count. Null where nothing can be compared.
    """
    given = ~np.isnan(scores)
    rows = given.sum(axis=1) > 1
    scores, given = scores[rows], given[rows]
    count = given.sum(axis=1)
    n = int(count.sum())
    if not n:
        return None, 0
    filled = np.where(given, scores, 0.0)
    mean = filled.sum(axis=1) / count
    within = np.where(given, (scores - mean[:, None]) ** 2, 0.0).sum(axis=1)
    observed = float((2 * count * within / (count - 1)).sum()) / n
    everything = scores[given]
    expected = 2 * float(((everything - everything.mean()) ** 2).sum()) / (n - 1)
    return (1 - observed / expected if expected > 1e-12 else None), n


def cohen_kappa(one: NDArray[Any], other: NDArray[Any]) -> float | None:
    """Cohen's kappa (1960) of two raters' categories; null where chance alone would always agree."""
    seen = float((one == other).mean())
    chance = sum(
        float((one == c).mean()) * float((other == c).mean()) for c in np.unique(np.concatenate([one, other]))
    )
    return (seen - chance) / (1 - chance) if chance < 1 else None
