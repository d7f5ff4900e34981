"""Capability kinship: benchmark scores on scales of their own, missing cells, intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from karma_plugins import schemas
from karma_plugins.contracts import Evidence, Model
from karma_plugins.kinship.metrics import capability
from karma_plugins.testing import KinshipMetricContract

Vectors = Mapping[str, Mapping[str, float | None]]


def scores(vectors: Vectors, competency: str = "knowledge", **more: Any) -> pl.DataFrame:
    rows = [
        {"model": model, "competency": competency, "task": task, "metric": "acc", "score": score} | more
        for model, vector in vectors.items()
        for task, score in vector.items()
    ]
    columns = schemas.SCORES.columns
    return (
        pl.DataFrame(rows, schema={c: t for c, t in columns.items() if c in rows[0]})
        .with_columns(pl.lit(None, t).alias(c) for c, t in columns.items() if c not in rows[0])
        .select(columns.names())
    )


def measured(table: pl.DataFrame, items: pl.DataFrame | None = None, **options: Any) -> pl.DataFrame:
    evidence = Evidence(
        [Model(name, Path(name), None) for name in table["model"].unique()],
        table,
        schemas.ITEMS.empty() if items is None else items,
    )
    return capability.measure(evidence, capability.CapabilityOptions(**options))


def overall(frame: pl.DataFrame, a: str = "a", b: str = "b", column: str = "kinship") -> Any:
    return frame.filter(pl.col("competency").is_null(), model_a=a, model_b=b)[column].item()


class TestContract(KinshipMetricContract):
    plugin = capability.karma_register_kinship_metrics()[0]


POOL: Vectors = {"a": {"x": 0.2, "y": 0.5}, "b": {"x": 0.5, "y": 0.6}, "c": {"x": 0.8, "y": 0.9}}


def test_mean_distance_on_each_benchmark_s_own_range() -> None:
    frame = measured(scores(POOL))
    assert overall(frame) == pytest.approx(1 - (0.3 / 0.6 + 0.1 / 0.4) / 2)
    assert overall(frame, "a", "c") == pytest.approx(0.0)
    assert overall(frame, column="raw") == pytest.approx((0.3 / 0.6 + 0.1 / 0.4) / 2)


def test_equal_vectors_are_one_and_kinship_falls_with_distance() -> None:
    frame = measured(scores({**POOL, "d": POOL["a"]}))
    assert overall(frame, "a", "d") == 1.0
    assert overall(frame, "a", "d") > overall(frame, "a", "b") > overall(frame, "a", "c")


@pytest.mark.parametrize(("factor", "offset"), [(0.5, 0.0), (0.1, 0.0), (0.5, 0.25), (100.0, 0.0)])
def test_the_scale_of_a_benchmark_does_not_matter(factor: float, offset: float) -> None:
    table = scores(POOL)
    scaled = table.with_columns(
        score=pl.when(task="x").then(pl.col("score") * factor + offset).otherwise("score")
    )
    one, other = measured(table)["kinship"], measured(scaled)["kinship"]
    assert one.to_list() == pytest.approx(other.to_list())


def test_models_about_as_good_are_no_strangers() -> None:
    assert overall(measured(scores({"a": {"x": 0.80}, "b": {"x": 0.81}}))) > 0.8


def test_given_ranges_make_kinship_independent_of_the_pool() -> None:
    ranges = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
    two = {name: POOL[name] for name in ("a", "b")}
    assert overall(measured(scores(two), ranges=ranges)) == overall(measured(scores(POOL), ranges=ranges))


def test_missing_cells_are_compared_where_shared_and_recorded() -> None:
    vectors: Vectors = {**POOL, "d": {"x": 0.2, "y": None}}
    frame = measured(scores(vectors))
    assert overall(frame, "a", "d") == 1.0
    assert overall(frame, "a", "d", "n_items") == 1
    assert overall(frame, "a", "d", "missing") == "shared: 1 of 2 cells"
    assert overall(frame, "a", "b", "missing") is None
    strict = measured(scores(vectors), missing="complete")
    assert overall(strict, "a", "d") is None
    assert overall(strict, "a", "d", "reason") == "only 1 of 2 benchmark cells are shared"


def test_a_pair_without_a_shared_cell_is_null_with_a_reason() -> None:
    frame = measured(scores({"a": {"x": 0.1}, "b": {"y": 0.5}, "c": {"x": 0.3, "y": 0.2}}))
    assert overall(frame) is None
    assert overall(frame, column="reason") == "no benchmark cell is shared"
    assert overall(frame, column="raw") is None
    assert overall(frame, "a", "c") is not None


def test_a_row_for_each_competency_and_overall_their_mean() -> None:
    table = pl.concat(
        [scores(POOL), scores({"a": {"z": 0.0}, "b": {"z": 1.0}, "c": {"z": 0.5}}, "reasoning")]
    )
    frame = measured(table).filter(model_a="a", model_b="b")
    by = dict(frame.select("competency", "kinship").iter_rows())
    assert by["reasoning"] == 0.0
    assert by[None] == pytest.approx((by["knowledge"] + by["reasoning"]) / 2)


def test_intervals_hold_the_kinship_and_narrow_with_the_standard_error() -> None:
    wide = measured(scores(POOL, stderr=0.05)).filter(pl.col("competency").is_null())
    narrow = measured(scores(POOL, stderr=0.005)).filter(pl.col("competency").is_null())
    for frame in (wide, narrow):
        assert (frame["low"] <= frame["kinship"]).all() and (frame["kinship"] <= frame["high"]).all()
    assert overall(wide, column="high") - overall(wide, column="low") > 3 * (
        overall(narrow, column="high") - overall(narrow, column="low")
    )
    assert measured(scores(POOL))["low"].null_count() == wide.height * 2  # nothing says how sure a score is


def test_shared_items_are_resampled_together() -> None:
    """Two models that fail on the same items differ for certain, whatever items are drawn."""
    items = pl.DataFrame(
        [
            {
                "model": m, "competency": "knowledge", "task": "x", "item_id": f"{i:03}",
                "correct": float(i < k), "choice": None, "answer": None,
                "n_choices": None, "choice_probs": None,
            }
            for m, k in (("a", 50), ("b", 50), ("c", 90))
            for i in range(100)
        ],
        schema=schemas.ITEMS.columns,
    )  # fmt: skip
    table = scores({"a": {"x": 0.5}, "b": {"x": 0.5}, "c": {"x": 0.9}}, stderr=0.05)
    frame = measured(table, items)
    assert (overall(frame, column="low"), overall(frame, column="high")) == (1.0, 1.0)
    assert overall(measured(table), column="low") < 0.95  # without items the errors are independent
