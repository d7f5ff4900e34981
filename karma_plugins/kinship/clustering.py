"""Which models belong together: the tree of average linkage of their kinship, and its order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.families import relative

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clustering:
    """Models in the order of the tree's leaves, and the tree's branches.

    `kinship` is the square of the models in that order (NaN where unknown and on the diagonal). Each branch
    is three lines: four places along the leaves (0 is the first leaf) and their four heights (1 - relative
    kinship, as families are cut by).
    """

    models: tuple[str, ...]
    kinship: Floats
    branches: tuple[tuple[list[float], list[float]], ...]


def cluster(rows: pl.DataFrame) -> Clustering:
    """Cluster the models of some rows of table kinship, all of one metric and competency.

    Average linkage of 1 - relative kinship (`families.relative`), neighbouring leaves as near as the tree
    allows (Bar-Joseph et al. 2001); unknown kinship counts as none.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    names = sorted({*rows["model_a"], *rows["model_b"]})
    place = {name: i for i, name in enumerate(names)}
    square = np.full((len(names), len(names)), np.nan)
    near = np.zeros_like(square)
    known = rows.select("model_a", "model_b", "kinship", relative(rows)).drop_nulls()
    for a, b, value, freed in known.iter_rows():
        square[place[a], place[b]] = square[place[b], place[a]] = value
        near[place[a], place[b]] = near[place[b], place[a]] = freed
    if len(names) < 3:
        return Clustering(tuple(names), square, ())
    distance = 1.0 - near
    np.fill_diagonal(distance, 0.0)
    condensed = squareform(distance, checks=False)
    tree = hierarchy.linkage(condensed, method="average")
    tree = hierarchy.optimal_leaf_ordering(tree, condensed)
    drawn = hierarchy.dendrogram(tree, no_plot=True)
    order = np.array(drawn["leaves"])
    # scipy puts leaf k at 10 k + 5
    branches = tuple(
        ([(x - 5) / 10 for x in across], [float(y) for y in up])
        for across, up in zip(drawn["icoord"], drawn["dcoord"], strict=True)
    )
    return Clustering(tuple(names[i] for i in order), square[np.ix_(order, order)], branches)
