"""Bootstrap over items: how often each item is drawn in each round, by a seed and names, not by order."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from karma_plugins.kinship.pairs import Floats

#: Share of bootstrap rounds below and above the interval.
TAILS = (0.025, 0.975)


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator of its own for some names: no result depends on what else is measured."""
    digest = hashlib.blake2b("\0".join(names).encode(), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])


def item_counts(items: int, rounds: int, seed: int, *names: str) -> Floats:
    """How often each item is drawn with replacement: shape (rounds, items), each row sums to `items`."""
    drawn = generator(seed, *names).integers(items, size=(rounds, items))
    drawn += np.arange(rounds)[:, None] * items
    return np.bincount(drawn.ravel(), minlength=rounds * items).reshape(rounds, items).astype(np.float64)


def percentiles(values: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """The 95% interval of each column over the rounds (first axis) that define it; NaN where none does."""
    ordered = np.sort(values, axis=0)  # NaN last
    known = (~np.isnan(ordered)).sum(axis=0)
    bounds = []
    for tail in TAILS:
        at = tail * np.maximum(known - 1, 0)
        below = np.floor(at).astype(np.int64)
        above = np.minimum(below + 1, np.maximum(known - 1, 0))
        one = np.take_along_axis(ordered, below[None], axis=0)[0].astype(np.float64)
        other = np.take_along_axis(ordered, above[None], axis=0)[0].astype(np.float64)
        bounds.append(one + (at - below) * (other - one))
    return bounds[0], bounds[1]
