"""Families: which models belong together, by a cut through the tree of their kinship, and how sure."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.schemas import FAMILIES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: A pair is kin where unrelated pairs are so alike in one case of a hundred (normal deviate) …
DEVIATE = 2.33
#: … and at least so much of the way from unrelated models to a model with itself.
LEAST = 0.25
#: Unrelated pairs this alike, relative to a model with itself, are not told from kin: the pool is one family.
ALIKE = 0.5
ROUNDS = 200


def relative(rows: pl.DataFrame) -> pl.Series:
    """Kinship in units that are the same for every metric: relative to the models' likeness to themselves.

    kinship / consistency, at most 1; a metric without a consistency is taken to find a model like itself.
    """
    known = pl.col("consistency").fill_null(1.0)
    value = pl.when(known > 0).then((pl.col("kinship") / known).clip(0.0, 1.0)).otherwise(pl.col("kinship"))
    return rows.select(value.alias("relative")).to_series()


def families(kinship: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """The families of the models by each metric of table kinship, overall; gives table `families`.

    Average linkage of relative kinship, cut against a null of unrelated models: of all pairs the less alike
    ones, parted from the others where that leaves the least variance (Otsu 1979), are taken to be unrelated;
    their mean and spread give the cut (DEVIATE, LEAST). Where they are alike themselves (ALIKE) the pool is
    one family. How sure: the kinship of each pair is drawn again from its interval, `ROUNDS` times.
    """
    parts = [FAMILIES.empty()]
    overall = kinship.filter(pl.col("competency").is_null())
    for (metric,), rows in overall.sort("metric").group_by("metric", maintain_order=True):
        parts.append(_families_of(str(metric), rows, seed))
    return pl.concat(parts).sort(FAMILIES.key)


def sentences(rows: pl.DataFrame) -> list[str]:
    """The families of one metric's rows of table `families` in words, the largest first, and who is alone."""
    if rows.is_empty():
        return []
    if rows["size"][0] == rows.height > 1:
        return ["families: nothing tells the models apart, all are one"]
    lines = [f"families, cut at a relative kinship of {rows['cut'][0]:.2f}:"]
    groups = rows.drop_nulls("family").group_by("family", maintain_order=True)
    for (family,), mates in sorted(groups, key=lambda group: (-group[1].height, group[0])):
        sure = mates["sure"].to_numpy().min()
        lines.append(f"  {family}: {', '.join(mates['model'])} (in {sure:.0%} of resampled tables)")
    if alone := rows.filter(pl.col("family").is_null())["model"].to_list():
        lines.append(f"  alone: {', '.join(alone)}")
    return lines


def members(kinship: pl.DataFrame) -> list[list[str]]:
    """The families by one metric's overall rows, in order of names; one that is alone is a family too."""
    names, square, _ = _squares(kinship)
    label = _labels(square)[0]
    if not names:
        return []
    groups = [[names[i] for i in np.flatnonzero(label == number)] for number in range(int(label.max()) + 1)]
    return sorted(groups)


def cut(kinship: pl.DataFrame) -> float:
    """From which relative kinship on models are of one family, by one metric's overall rows; 0: all are."""
    return _labels(_squares(kinship)[1])[1]


def _families_of(metric: str, rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    names, square, spread = _squares(rows)
    label, level = _labels(square)
    same = label[:, None] == label
    agreed = np.zeros(len(names))
    chance = np.random.default_rng([seed, *metric.encode()])
    for _ in range(ROUNDS):
        drawn = np.triu(chance.standard_normal(square.shape), 1)
        again, _ = _labels(np.clip(square + (drawn + drawn.T) * spread, 0.0, 1.0))
        agreed += ((again[:, None] == again) == same).all(axis=1)
    others = np.where(np.eye(len(names), dtype=bool), -1.0, square)
    centre = np.where(same, square, 0.0).sum(axis=1)
    family_rows = []
    for i, name in enumerate(names):
        mates = np.flatnonzero(same[i])
        near = int(others[i].argmax())
        family = names[int(mates[centre[mates].argmax()])] if len(mates) > 1 else None
        family_rows.append(
            (metric, name, family, len(mates), agreed[i] / ROUNDS, level, names[near], float(others[i, near]))
        )
    return pl.DataFrame(family_rows, schema=FAMILIES.columns, orient="row")


def _squares(rows: pl.DataFrame) -> tuple[list[str], Floats, Floats]:
    """The models, their relative kinship (1 with itself, 0 where unknown), and the standard error of each."""
    names = sorted({*rows["model_a"], *rows["model_b"]})
    place = {name: i for i, name in enumerate(names)}
    known = rows.with_columns(relative=relative(rows)).drop_nulls("relative")
    a, b = (
        known[side].replace_strict(place, return_dtype=pl.Int64).to_numpy().astype(np.int64)
        for side in ("model_a", "model_b")
    )
    square, spread = np.eye(len(names)), np.zeros((len(names), len(names)))
    square[a, b] = square[b, a] = known["relative"].to_numpy()
    unit = pl.col("consistency").fill_null(1.0)
    error = known.select(
        (
            (pl.col("high") - pl.col("low")) / (2 * 1.96 * pl.when(unit > 0).then(unit).otherwise(1.0))
        ).fill_null(0.0)
    )
    spread[a, b] = spread[b, a] = error.to_series().to_numpy()
    return names, square, spread


def _labels(square: Floats) -> tuple[Ints, float]:
    """The family of each model as a number, and the cut."""
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    if len(square) < 2:
        return np.zeros(len(square), dtype=np.int64), ALIKE
    values = square[np.triu_indices(len(square), 1)]
    cut = _cut(values)
    if len(square) == 2:
        return np.array([0, 0 if values[0] >= cut else 1]), cut
    distance = 1.0 - square
    np.fill_diagonal(distance, 0.0)
    tree = hierarchy.linkage(squareform(distance, checks=False), method="average")
    return hierarchy.fcluster(tree, 1.0 - cut, criterion="distance").astype(np.int64) - 1, cut


def _cut(values: Floats) -> float:
    """From which relative kinship on models are of one family; 0 where all are."""
    ordered = np.sort(values)
    if len(ordered) < 2:
        return ALIKE
    count = np.arange(1, len(ordered))
    total = np.cumsum(ordered)
    below, above = total[:-1] / count, (total[-1] - total[:-1]) / (len(ordered) - count)
    parted = count * (len(ordered) - count) * (above - below) ** 2
    unrelated = ordered[: int(count[parted.argmax()])]
    mean = float(unrelated.mean())
    if mean >= ALIKE:
        return 0.0
    return mean + max(DEVIATE * float(unrelated.std()), LEAST * (1.0 - mean))
