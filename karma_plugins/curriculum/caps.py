"""Caps on what is kept: the pairs of lowest priority first, then those of lowest noise."""

from __future__ import annotations

import numpy as np
import polars as pl

from karma_plugins.curriculum.answers import Bools, Floats, Ints

#: Pairs that a cap per member looks at in one go.
BLOCK = 65_536


def ranked(*keys: Ints | Floats) -> Ints:
    """Positions in order of the first key, then the next; where all are equal, the order given decides."""
    table = pl.DataFrame({str(i): key for i, key in enumerate(keys)})
    return table.select(pl.arg_sort_by(table.columns, maintain_order=True)).to_series().to_numpy()


def rank(group: Ints, *keys: Ints | Floats) -> Ints:
    """Each position's place (from 0) within its group, in order of the keys."""
    order = ranked(group, *keys)
    ordered = group[order]
    opens = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])[: len(order)]
    places = np.empty(len(group), dtype=np.int64)
    places[order] = np.arange(len(order)) - np.repeat(opens, np.diff(np.r_[opens, len(order)]))
    return places


def per_member(order: Ints, one: Ints, other: Ints, cap: int) -> Bools:
    """Keep pairs in order while neither member (a model) is in `cap` kept pairs already.

    A pair of a member with itself counts once. Goes block by block, in rounds that each fill a member, so
    that no pair is looked at singly.
    """
    keep = np.zeros(len(one), dtype=bool)
    taken = np.zeros(int(max(one.max(initial=0), other.max(initial=0))) + 1, dtype=np.int64)
    for start in range(0, len(order), BLOCK):
        left = order[start : start + BLOCK]
        while len(left := left[(taken[one[left]] < cap) & (taken[other[left]] < cap)]):
            wanted = taken + _counts(one[left], other[left], len(taken))
            full = np.flatnonzero(wanted > cap).tolist()
            ends = [_end(one[left], other[left], member, int(cap - taken[member])) for member in full]
            stop = min(ends, default=len(left))
            now, left = left[:stop], left[stop:]
            keep[now] = True
            taken += _counts(one[now], other[now], len(taken))
    return keep


def _counts(one: Ints, other: Ints, members: int) -> Ints:
    """In how many of the pairs each member is."""
    return np.bincount(one, minlength=members) + np.bincount(other[one != other], minlength=members)


def _end(one: Ints, other: Ints, member: int, room: int) -> int:
    """How many of the pairs can be taken, in order, until `member` is in `room` of them."""
    return int(np.flatnonzero((one == member) | (other == member))[room - 1]) + 1
