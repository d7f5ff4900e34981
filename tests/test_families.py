"""Families: where the tree of kinship is cut, and that no family is an answer."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from karma_plugins import schemas
from karma_plugins.families import families, members, relative


def table(square: np.ndarray, *, width: float = 0.02, consistency: float | None = None) -> pl.DataFrame:
    """Overall rows of one metric."""
    rows = [
        {
            "metric": "test", "model_a": f"m{i}", "model_b": f"m{j}", "kinship": float(square[i, j]),
            "low": max(0.0, float(square[i, j]) - width), "high": min(1.0, float(square[i, j]) + width),
            "consistency": consistency, "uncertain": False, "version": "0", "primary": True,
        }
        for i in range(len(square))
        for j in range(i + 1, len(square))
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=schemas.KINSHIP.columns)


def blocks(sizes: list[int], within: float, across: float, noise: float = 0.03, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(sizes)), sizes)
    square = np.where(label[:, None] == label, within, across) + rng.normal(0, noise, (len(label),) * 2)
    square = np.clip((square + square.T) / 2, 0, 1)
    return np.asarray(square)


def groups(square: np.ndarray, **options: float) -> list[int]:
    return sorted((len(names) for names in members(table(square, **options))), reverse=True)


@pytest.mark.parametrize(("within", "across"), [(0.9, 0.05), (0.5, 0.05), (0.6, 0.2)])
@pytest.mark.parametrize("sizes", [[3, 2, 2], [6, 1], [2, 2], [10, 8, 1, 1], [2, 1]])
def test_families_are_found_whatever_the_level(sizes: list[int], within: float, across: float) -> None:
    assert groups(blocks(sizes, within, across)) == sizes


@pytest.mark.parametrize("seed", range(5))
def test_models_without_kin_are_alone(seed: int) -> None:
    assert groups(blocks([1] * 12, 1.0, 0.08, 0.05, seed)) == [1] * 12


@pytest.mark.parametrize("level", [0.7, 0.9])
def test_where_nothing_tells_models_apart_all_are_one(level: float) -> None:
    assert groups(blocks([7], level, level)) == [7]
    assert groups(blocks([2], level, level)) == [2]


def test_kinship_counts_relative_to_a_model_with_itself() -> None:
    square = blocks([3, 2, 2], 0.09, 0.005, 0.002)
    assert groups(square) == [1] * 7
    assert groups(square, consistency=0.1) == [3, 2, 2]
    assert relative(table(square, consistency=0.1)).max() <= 1.0


def test_the_table_says_who_is_central_how_sure_it_is_and_who_is_nearest() -> None:
    square = blocks([3, 1], 0.8, 0.1, 0.0)
    square[0, 1] = square[1, 0] = square[0, 2] = square[2, 0] = 0.9
    found = families(table(square)).rows_by_key("model", named=True, unique=True)
    assert {found[f"m{i}"]["family"] for i in range(3)} == {"m0"}
    assert found["m3"]["family"] is None
    assert found["m1"]["nearest"] == "m0"
    assert found["m0"]["sure"] == 1.0
    unsure = families(table(square, width=0.9)).rows_by_key("model", named=True, unique=True)
    assert unsure["m0"]["sure"] < 0.9


def test_unknown_kinship_is_none_and_one_model_is_a_family_of_its_own() -> None:
    rows = table(blocks([2, 1], 0.9, 0.1)).with_columns(
        kinship=pl.when(pl.col("model_b") != "m2").then("kinship")
    )
    assert [len(names) for names in members(rows)] == [2, 1]
    assert families(schemas.KINSHIP.empty()).is_empty()
