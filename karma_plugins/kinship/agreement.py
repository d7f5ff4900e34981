"""Agreement of all pairs of models at once: sums over shared questions as matrix products, and the bootstrap.

A metric names channels, two arrays each (`left`, `right`) of shape (models, questions) or (models,
questions, options); a channel's sum for models a and b is over all questions and options of left[a] *
right[b], so both hold 0 where a model left a question out. `combine` turns the sums of all channels into
the metric's raw number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karma_plugins.kinship.pairs import Floats, Pairs
from karma_plugins.kinship.resampling import item_counts, percentiles

Array = NDArray[np.floating]
Channels = Mapping[str, tuple[Array, Array]]
#: From the sums of each channel (any shape) to the raw number, NaN where it is undefined.
Combine = Callable[[Mapping[str, Array]], Array]

#: Numbers that a block of the bootstrap may hold for each channel, and for each product of questions.
BLOCK_SUMS, BLOCK_PRODUCTS = 8_000_000, 4_000_000


@dataclass(frozen=True)
class Agreement:
    """The raw number of each pair with its 95% bootstrap interval (NaN without one), and channel sums."""

    raw: Floats
    low: Floats
    high: Floats
    sums: Mapping[str, Floats]


def agreement(
    channels: Channels,
    combine: Combine,
    competencies: Mapping[str, slice],
    pairs: Pairs,
    *,
    rounds: int,
    seed: int,
) -> dict[str | None, Agreement]:
    """The agreement of every pair in every competency, and overall (key null).

    The bootstrap draws questions within each competency, the same ones for all pairs and metrics.
    """
    agreements: dict[str | None, Agreement] = {}
    parts = {name: _sums(channels, part, pairs) for name, part in competencies.items()}
    whole = {name: sum((p[name] for p in parts.values()), np.zeros(len(pairs))) for name in channels}
    intervals = _intervals(channels, combine, competencies, pairs, rounds, seed)
    for key, sums in [(None, whole), *parts.items()]:
        low, high = intervals[key]
        agreements[key] = Agreement(np.asarray(combine(sums), dtype=np.float64), low, high, sums)
    return agreements


def _sums(channels: Channels, part: slice, pairs: Pairs) -> dict[str, Floats]:
    """Sums over the questions of a slice, for each pair."""
    models = len(pairs.names)
    sums = {}
    for name, (left, right) in channels.items():
        product = left[:, part].reshape(models, -1) @ right[:, part].reshape(models, -1).T
        sums[name] = product[pairs.first, pairs.second].astype(np.float64)
    return sums


def _intervals(
    channels: Channels,
    combine: Combine,
    competencies: Mapping[str, slice],
    pairs: Pairs,
    rounds: int,
    seed: int,
) -> dict[str | None, tuple[Floats, Floats]]:
    """Low and high of each pair; block by block of models, so that memory does not grow with their square."""
    keys: list[str | None] = [None, *competencies]
    bounds = {key: (np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)) for key in keys}
    if not rounds or not len(pairs):
        return bounds
    counts = {
        name: item_counts(part.stop - part.start, rounds, seed, name).astype(np.float32)
        for name, part in competencies.items()
    }
    turned = {name: (_by_question(left), _by_question(right)) for name, (left, right) in channels.items()}
    for rows, columns, mine in _blocks(pairs, rounds):
        total: dict[str, Array] = {}
        for name, part in competencies.items():
            sums = {
                channel: _resampled(left[part, rows], right[part, columns], counts[name])
                for channel, (left, right) in turned.items()
            }
            total = {channel: sums[channel] + total.get(channel, 0.0) for channel in sums}
            _put(bounds[name], combine(sums), pairs, mine)
        if total:
            _put(bounds[None], combine(total), pairs, mine)
    return bounds


def _put(bounds: tuple[Floats, Floats], rounds: Array, pairs: Pairs, mine: NDArray[np.int64]) -> None:
    """Write the interval of the pairs of a block, whose rows and columns start at the same model."""
    if not len(mine):
        return
    start = pairs.first[mine[0]]
    bounds[0][mine], bounds[1][mine] = percentiles(
        rounds[:, pairs.first[mine] - start, pairs.second[mine] - start]
    )


def _by_question(array: Array) -> Array:
    """Shape (questions, models, options), single precision: what the bootstrap reads slice by slice."""
    shaped = array if array.ndim == 3 else array[:, :, None]
    return np.ascontiguousarray(shaped.transpose(1, 0, 2), dtype=np.float32)


def _blocks(pairs: Pairs, rounds: int) -> Iterator[tuple[slice, slice, NDArray[np.int64]]]:
    """Blocks of rows and columns of the upper triangle, each with the places of the pairs that it holds."""
    models = len(pairs.names)
    height = max(1, min(models, BLOCK_SUMS // (rounds * models)))
    for start in range(0, models, height):
        rows = slice(start, min(start + height, models))
        inside = (pairs.first >= rows.start) & (pairs.first < rows.stop)
        yield rows, slice(start, models), np.flatnonzero(inside)


def _resampled(left: Array, right: Array, counts: Array) -> Array:
    """Sums over resampled questions: shape (rounds, rows, columns)."""
    questions, rows, options = left.shape
    columns = right.shape[1]
    step = max(1, BLOCK_PRODUCTS // (rows * columns))
    total = np.zeros((len(counts), rows * columns), dtype=np.float32)
    for start in range(0, questions, step):
        some = slice(start, start + step)
        other = right[some].transpose(0, 2, 1)
        # the same numbers; a matrix product of width one is slow
        product = left[some] * other if options == 1 else np.matmul(left[some], other)
        total += counts[:, some] @ product.reshape(len(product), -1)
    return total.reshape(len(counts), rows, columns)
