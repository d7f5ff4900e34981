"""The kinship stage's domain: all metrics in one table, checked, with what tells a sure number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from karma_plugins import kinship, schemas, tables
from karma_plugins.contracts import Evidence, KinshipMetric, Model, Options
from karma_plugins.errors import PluginError
from karma_plugins.registry import Bound, Origin

NAMES = ("a", "b", "c")
VALUES = {("a", "b"): 0.9, ("a", "c"): 0.2, ("b", "c"): 0.3}
Rows = Callable[[Evidence], pl.DataFrame]


def given(*_: Any, width: float = 0.0) -> pl.DataFrame:
    rows = [
        {"model_a": a, "model_b": b, "kinship": k, "low": k - width / 2, "high": k + width / 2}
        for (a, b), k in VALUES.items()
    ]
    return pl.DataFrame(rows).with_columns(competency=pl.lit(None, pl.String))


def bound(name: str, rows: Rows) -> Bound[KinshipMetric]:
    plugin = KinshipMetric(name=name, measure=lambda evidence, _: rows(evidence))
    return Bound(name, plugin, Options(), Origin("demo", "1.0"))


def run(*metrics: Bound[KinshipMetric], primary: str | None = None) -> pl.DataFrame:
    models = [Model(name, Path(name), None) for name in reversed(NAMES)]
    empty = schemas.SCORES.empty(), schemas.ITEMS.empty()
    return kinship.kinship(models, *empty, metrics, primary=primary or metrics[0].name)


def test_every_metric_is_in_the_table_and_one_is_primary() -> None:
    table = run(bound("one", given), bound("two", given), primary="two")
    tables.check(table, schemas.KINSHIP, where="here")
    assert table.filter("primary")["metric"].unique().to_list() == ["two"]
    assert table.height == 6


def test_a_primary_metric_that_is_not_measured_stops() -> None:
    with pytest.raises(PluginError, match="'on' is not measured. Did you mean 'one'"):
        run(bound("one", given), primary="on")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.with_columns(kinship=pl.col("kinship") + 1), "outside"),
        (lambda f: f.with_columns(kinship=pl.lit(None, pl.Float64)), "without a reason"),
        (lambda f: f.with_columns(kinship=pl.lit(float("nan"))), "outside"),
        (lambda f: f.rename({"model_a": "model_b", "model_b": "model_a"}), "not in order"),
        (lambda f: pl.concat([f, f]), "twice"),
        (lambda f: f.with_columns(model_b=pl.lit("z")), "no candidate"),
        (lambda f: f.with_columns(kin=1), "'kin' is not in table kinship"),
        (lambda f: f.drop("kinship"), "no column 'kinship'"),
        (lambda f: f.with_columns(kinship=pl.lit("high")), "conversion"),
    ],
)
def test_a_metric_that_breaks_its_contract_is_named(
    change: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    with pytest.raises(PluginError, match=rf"metric bad \(demo 1.0\).*{message}"):
        run(bound("bad", lambda e: change(given())))


def test_an_interval_is_uncertain_where_it_is_wider_than_what_tells_pairs_apart() -> None:
    sure = run(bound("m", lambda e: given(width=0.1)))
    unsure = run(bound("m", lambda e: given(width=0.66)))
    assert sure["uncertain"].to_list() == [False, False, False]
    # (a, b) differs from its models' other pairs by 0.7 and 0.6, (a, c) by 0.7 and 0.1, (b, c) by 0.6 and 0.1
    assert unsure["uncertain"].to_list() == [False, True, True]
    assert run(bound("m", lambda e: given().drop("low", "high")))["uncertain"].null_count() == 3


def test_a_metric_may_ask_for_another_but_not_for_itself() -> None:
    def ask(name: str) -> Rows:
        def rows(evidence: Evidence) -> pl.DataFrame:
            assert evidence.measure is not None
            return evidence.measure(name).select("competency", "model_a", "model_b", "kinship")

        return rows

    table = run(bound("blend", ask("one")), bound("one", given))
    assert table.filter(metric="blend")["kinship"].to_list() == list(VALUES.values())
    with pytest.raises(PluginError, match="not measured"):
        run(bound("blend", ask("none")))
    with pytest.raises(PluginError, match="asks for itself"):
        run(bound("one", ask("two")), bound("two", ask("one")))


def test_summary_and_points() -> None:
    table = run(bound("one", given))
    assert kinship.summary(table) == pytest.approx(
        {
            "pairs": 3,
            "one.mean": 1.4 / 3,
            "one.low": 0.2,
            "one.high": 0.9,
            "one.unknown": 0,
            "one.uncertain": 0,
        }
    )
    points = kinship.points(table)
    assert points.height == 6
    assert set(points["competency"]) == {"overall"}
