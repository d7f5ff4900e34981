"""What the metrics that look at single questions share: symmetry, range, order, nulls, intervals."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import polars as pl
import pytest

from karma_plugins.contracts import Evidence
from karma_plugins.kinship import agreement
from karma_plugins.kinship.metrics import capa, error_consistency, rare_errors
from karma_plugins.testing import KinshipMetricContract
from tests.kinship import quizzes
from tests.kinship.quizzes import evidence, items, measured, pair

METRICS = [capa, error_consistency, rare_errors]


class TestCapaContract(KinshipMetricContract):
    plugin = capa.karma_register_kinship_metrics()[0]


class TestErrorConsistencyContract(KinshipMetricContract):
    plugin = error_consistency.karma_register_kinship_metrics()[0]


class TestRareErrorsContract(KinshipMetricContract):
    plugin = rare_errors.karma_register_kinship_metrics()[0]


@pytest.fixture(params=METRICS, ids=lambda m: m.__name__.rpartition(".")[2])
def metric(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def two_competencies(seed: int = 0) -> Evidence:
    table, *_ = quizzes.random_quiz(5, 60, seed)
    other = table.with_columns(
        competency=pl.lit("reasoning"),
        task=pl.lit("quiz-r"),
        choice=pl.col("choice"),
        correct=pl.col("correct"),
    )
    return evidence(table, other.filter(pl.col("item_id") < "00040"))


def test_a_model_s_copy_has_kinship_one(metric: ModuleType) -> None:
    given = two_competencies()
    copy = given.items.filter(model="m0").with_columns(model=pl.lit("copy"))
    hard = {} if metric is error_consistency else {"kind": "hard"}
    frame = measured(metric, evidence(given.items, copy), bootstrap=100, **hard)
    for competency in (None, "knowledge", "reasoning"):
        row = pair(frame, "m0", "copy", competency)
        assert row["kinship"] == pytest.approx(1.0)
        assert row["low"] == pytest.approx(1.0, abs=1e-3)


def test_independent_models_are_near_zero_and_their_interval_says_so(metric: ModuleType) -> None:
    table, *_ = quizzes.random_quiz(5, 3000, 1)
    frame = measured(metric, evidence(table), bootstrap=200).filter(pl.col("competency").is_null())
    assert frame["raw"].abs().max() < 0.1  # type: ignore[operator]
    assert (frame["high"] < 0.12).all()


def test_the_order_of_models_and_questions_changes_nothing(metric: ModuleType) -> None:
    given = two_competencies()
    turned = Evidence(list(reversed(given.models)), given.scores, given.items.reverse())
    one, other = measured(metric, given, bootstrap=50), measured(metric, turned, bootstrap=50)
    assert one.equals(other)


def test_every_number_lies_in_range_with_its_interval_around_it(metric: ModuleType) -> None:
    frame = measured(metric, two_competencies(), bootstrap=200)
    assert frame.height == 3 * 10
    assert frame.select(pl.col("kinship", "low", "high").is_between(0, 1).all()).row(0) == (True,) * 3
    assert (frame["low"] <= frame["kinship"]).all() and (frame["kinship"] <= frame["high"]).all()
    assert (frame["raw"] >= -1).all()
    assert (frame["high"] > frame["low"]).any()


def test_models_that_share_no_question_are_null_with_a_reason(metric: ModuleType) -> None:
    frame = measured(metric, evidence(items({"a": [1, 2], "b": ["skip", "skip"], "c": [1, 0]}, [0, 0])))
    assert set(frame["model_a"]) | set(frame["model_b"]) == {"a", "c"}  # b is in no row of items
    table = pl.concat(
        [items({"a": [1, 2], "c": [1, 0]}, [0, 0]), items({"b": [1, 2]}, [0, 0], competency="reasoning")]
    )
    row = pair(measured(metric, evidence(table), bootstrap=20), "a", "b")
    assert (row["kinship"], row["low"], row["high"], row["raw"]) == (None,) * 4
    assert row["reason"] == "no question is shared"
    assert row["n_items"] == 0


def test_a_question_that_one_model_left_out_is_left_out_for_its_pairs(metric: ModuleType) -> None:
    choices = {"a": [0, 1, 2, 3, 1, 1], "b": [0, 2, 2, 3, 1, 2], "c": [1, 1, 0, 3, 2, 1]}
    answer = [0, 0, 1, 2, 3, 3]
    gap = {**choices, "b": [*choices["b"][:-1], "skip"]}
    found = measured(metric, evidence(items(gap, answer)))
    whole = measured(metric, evidence(items(choices, answer)))
    short = measured(metric, evidence(items({n: c[:-1] for n, c in choices.items()}, answer[:-1])))
    assert pair(found, "a", "b")["missing"] == "shared: 5 of 6 questions"
    assert pair(found, "a", "c")["missing"] is None
    if metric is not rare_errors:  # there the others' errors count too
        assert pair(found, "a", "b")["raw"] == pytest.approx(pair(short, "a", "b")["raw"])
        assert pair(found, "a", "c")["raw"] == pytest.approx(pair(whole, "a", "c")["raw"])


def test_questions_with_other_options_or_another_right_one_are_not_shared(metric: ModuleType) -> None:
    one = items({"a": [1, 2, 3], "c": [1, 1, 1]}, [0, 0, 0])
    other = items({"b": [1, 2, 3]}, [0, 0, 1], [4, 5, 4])
    row = pair(measured(metric, evidence(one, other)), "a", "b")
    assert row["missing"] == "shared: 1 of 5 questions"


def test_no_bootstrap_gives_no_interval(metric: ModuleType) -> None:
    assert measured(metric, two_competencies())["low"].null_count() == 30


def test_a_seed_gives_one_interval_and_no_model_changes_another_s(metric: ModuleType) -> None:
    given = two_competencies()
    again = measured(metric, given, bootstrap=50)
    assert measured(metric, given, bootstrap=50).equals(again)
    other = Evidence(given.models, given.scores, given.items, seed=1)
    assert not measured(metric, other, bootstrap=50)["low"].equals(again["low"])
    if metric is not rare_errors:
        fewer = evidence(given.items.filter(pl.col("model") != "m4"))
        one, two = pair(measured(metric, fewer, bootstrap=50), "m0", "m1"), pair(again, "m0", "m1")
        assert one["low"] == pytest.approx(two["low"], abs=1e-5)


def test_blocks_of_models_change_nothing(metric: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(metric, two_competencies(), bootstrap=40)
    monkeypatch.setattr(agreement, "BLOCK_SUMS", 1)
    monkeypatch.setattr(agreement, "BLOCK_PRODUCTS", 1)
    blocks = measured(metric, two_competencies(), bootstrap=40)
    for column in ("kinship", "low", "high"):
        np.testing.assert_allclose(blocks[column].to_numpy(), whole[column].to_numpy(), atol=1e-4)


def test_the_interval_is_that_of_a_plain_bootstrap() -> None:
    """About the spread that resampling the questions by hand gives."""
    table, *_ = quizzes.random_quiz(2, 200, 3)
    row = pair(measured(capa, evidence(table), bootstrap=2000), "m0", "m1")
    rng = np.random.default_rng(5)
    ids = table["item_id"].unique().sort()
    by_hand = []
    for _ in range(200):
        drawn = pl.DataFrame({"item_id": rng.choice(ids.to_numpy(), len(ids)), "copy": range(len(ids))})
        sample = drawn.join(table, on="item_id").with_columns(
            item_id=pl.col("item_id") + "-" + pl.col("copy").cast(pl.String)
        )
        by_hand.append(
            pair(measured(capa, evidence(sample.drop("copy").select(table.columns))), "m0", "m1")["raw"]
        )
    low, high = np.quantile(by_hand, (0.025, 0.975))
    assert row["high"] == pytest.approx(max(high, 0.0), abs=0.03)
    assert row["low"] == pytest.approx(max(low, 0.0), abs=0.03)
