"""Clustering of models by kinship."""

from __future__ import annotations

import polars as pl
import pytest

from karma_plugins import kinship, schemas
from karma_plugins.kinship import pictures
from karma_plugins.kinship.clustering import cluster

VALUES = {
    ("a", "b"): 0.1, ("a", "c"): 0.9, ("a", "d"): 0.2, ("b", "c"): 0.2, ("b", "d"): 0.8, ("c", "d"): None,
}  # fmt: skip
ROWS = pl.DataFrame(
    [{"model_a": a, "model_b": b, "kinship": k} for (a, b), k in VALUES.items()],
    schema={c: schemas.KINSHIP.columns[c] for c in ("model_a", "model_b", "kinship")},
).with_columns(consistency=pl.lit(None, pl.Float64))


def full() -> pl.DataFrame:
    table = ROWS.with_columns(metric=pl.lit("m"), version=pl.lit("m"), primary=pl.lit(value=True))
    both = [table.with_columns(competency=pl.lit(c, pl.String)) for c in (None, "maths")]
    rest = [pl.lit(None, t).alias(c) for c, t in schemas.KINSHIP.columns.items() if c not in both[0].columns]
    return pl.concat(both).with_columns(rest).select(schemas.KINSHIP.columns.names())


def test_kin_stand_side_by_side_and_the_tree_has_their_distance() -> None:
    found = cluster(ROWS)
    order = "".join(found.models)
    assert "ac" in order or "ca" in order
    assert "bd" in order or "db" in order
    heights = sorted(max(up) for _, up in found.branches)
    assert heights == pytest.approx([0.1, 0.2, 1 - (0.1 + 0.2 + 0.2 + 0.0) / 4])
    place = {name: i for i, name in enumerate(found.models)}
    assert found.kinship[place["a"], place["c"]] == 0.9
    assert (
        found.kinship[place["c"], place["d"]] != found.kinship[place["c"], place["d"]]
    )  # unknown stays unknown


def test_the_order_of_rows_does_not_matter() -> None:
    assert cluster(ROWS).models == cluster(ROWS.reverse()).models


def test_the_tree_is_of_relative_kinship_as_families_are() -> None:
    freed = cluster(ROWS.with_columns(consistency=pl.lit(0.9)))
    heights = sorted(max(up) for _, up in freed.branches)
    assert heights[:2] == pytest.approx([0.0, 1 - 0.8 / 0.9])
    assert sorted(freed.kinship[freed.kinship > 0.5]) == [0.8, 0.8, 0.9, 0.9]  # cells stay as measured


@pytest.mark.parametrize("names", [[], ["a", "b"]])
def test_few_models(names: list[str]) -> None:
    rows = ROWS.filter(pl.col("model_a").is_in(names), pl.col("model_b").is_in(names))
    assert cluster(rows).models == tuple(names)
    assert cluster(rows).branches == ()


def test_points_stand_in_the_order_of_the_tree() -> None:
    points = kinship.points(full()).filter(competency="overall")
    assert points.height == 12
    order = cluster(ROWS).models
    assert points.select("model_a", "order_a").unique().sort("order_a")["model_a"].to_list() == list(order)


def test_a_picture_for_each_competency() -> None:
    heatmap, tree = pictures.kinship_heatmap(full(), "maths").axes[:2]
    assert "maths" in heatmap.get_title()
    assert [label.get_text() for label in heatmap.get_yticklabels()] == list(cluster(ROWS).models)
    assert len(tree.lines) == 3
