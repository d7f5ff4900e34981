"""What the scores of a judge are measured against, and whether those of two judges can be compared at all.

A judge that compares an answer with one from outside the pool (a baseline) says how often it beats that one.
Two such scores stand on one scale only where they were measured against the same answers; or where they were
aligned within the prompt, whatever they were before.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import polars as pl

from karma_plugins.judging.jury import Ballot

APART = "the judges measured against different answers from outside the pool: different scales"


def outsiders(votes: Ballot, settled: pl.DataFrame) -> pl.DataFrame:
    """The settled pairs with an answer from outside the pool: columns response_id (of the pool), other."""
    pool = votes.answers["response_id"].implode()
    a, b = pl.col("response_a"), pl.col("response_b")
    inside_a, inside_b = a.is_in(pool), b.is_in(pool)
    return (
        settled.filter(inside_a != inside_b)
        .select(
            response_id=pl.when(inside_a).then(a).otherwise(b),
            other=pl.when(inside_a).then(b).otherwise(a),
        )
        .sort("response_id", "other")
    )


def apart(votes: Ballot, settled: Mapping[str, pl.DataFrame], *, aligned: bool) -> set[tuple[str, str]]:
    """The pairs of judges (names in order) whose scores can't be compared; none where they were aligned.

    `settled` holds the pairs of those judges that speak by their pairs.
    """
    if aligned:
        return set()
    measured = {name: outsiders(votes, pairs) for name, pairs in settled.items()}
    measured = {name: pairs for name, pairs in measured.items() if pairs.height}
    unlike = set()
    for i, j in combinations(range(len(votes.judges)), 2):
        one, other = votes.judges[i], votes.judges[j]
        if one not in measured and other not in measured:
            continue
        both = ~np.isnan(votes.scores[:, i]) & ~np.isnan(votes.scores[:, j])
        shared = votes.answers["response_id"].filter(pl.Series(both)).implode()
        sides = [
            measured[name].filter(pl.col("response_id").is_in(shared)) if name in measured else None
            for name in (one, other)
        ]
        if sides[0] is None or sides[1] is None or not sides[0].equals(sides[1]):
            unlike.add((one, other))
    return unlike
