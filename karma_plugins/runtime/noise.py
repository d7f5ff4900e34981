"""Chance that belongs to a pair, drawn from a seed and two ids: the same on every machine, in every order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def mixed(number: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each number scrambled: every bit of it decides every bit of the result (splitmix64's finaliser)."""
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))


def of_pairs(seed: int, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """A number in [0,1) for each pair of 64-bit ids; which of the two is called `a` does not matter."""
    start = np.array([(seed + 1) * _GOLDEN & _MASK], dtype=np.uint64)
    first = mixed(np.minimum(a, b) + mixed(start))
    both = mixed((first ^ np.maximum(a, b)) + np.uint64(_GOLDEN))
    return (both >> np.uint64(11)).astype(np.float64) * 2.0**-53
