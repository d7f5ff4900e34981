"""Blends of metrics."""

from __future__ import annotations

import polars as pl
import pytest

from karma_plugins import kinship, schemas
from karma_plugins.contracts import KinshipMetric
from karma_plugins.errors import ParamsError, PluginError
from karma_plugins.registry import manager
from tests.kinship import quizzes


def run(weights: dict[str, float], *others: str, items: pl.DataFrame | None = None) -> pl.DataFrame:
    registry = manager.load()
    given = quizzes.evidence(quizzes.random_quiz(4, 60, 0)[0] if items is None else items)
    names = {"blend": {"weights": weights}, **{name: {"bootstrap": 50} for name in others}}
    bound = [registry.bind(KinshipMetric, name, options, where="here") for name, options in names.items()]
    return kinship.kinship(given.models, schemas.SCORES.empty(), given.items, bound, primary="blend")


def test_a_blend_is_the_weighted_mean_of_kinship_and_interval() -> None:
    table = run({"capa": 3, "rare-errors": 1}, "capa", "rare-errors")
    key = ["competency", "model_a", "model_b"]
    blend, capa, rare = (table.filter(metric=m).sort(key) for m in ("blend", "capa", "rare-errors"))
    for column in ("kinship", "low", "high"):
        expected = (0.75 * capa[column] + 0.25 * rare[column]).to_list()
        assert blend[column].to_list() == pytest.approx(expected)
    assert blend.filter("primary").height == blend.height == capa.height


def test_a_pair_that_one_metric_does_not_know_is_null_with_its_reason() -> None:
    items = quizzes.items({"a": [0, 0, 0], "b": [0, 0, 0], "c": [1, 1, 1]}, [0, 0, 0])
    table = run({"capa": 1, "rare-errors": 1}, "capa", "rare-errors", items=items)
    row = quizzes.pair(table.filter(metric="blend"), "a", "b")
    assert row["kinship"] is None
    assert row["reason"].startswith("capa: both models are always right")


def test_wrong_blends_stop() -> None:
    with pytest.raises(PluginError, match=r"'capa' is asked for, but not measured"):
        run({"capa": 1})
    with pytest.raises(PluginError, match="asks for itself"):
        run({"blend": 1})
    with pytest.raises(ParamsError, match="weights"):
        run({})
    with pytest.raises(ParamsError, match="weights"):
        run({"capa": -1}, "capa")
