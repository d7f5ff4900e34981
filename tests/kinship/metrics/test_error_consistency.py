"""Error consistency: closed forms, and the numbers of lm-sim."""

from __future__ import annotations

from itertools import combinations

import pytest

from karma_plugins.kinship.metrics import error_consistency
from tests.kinship import quizzes
from tests.kinship.quizzes import evidence, items, measured, pair


def test_equals_lm_sim() -> None:
    from lmsim.metrics import EC

    table, probs, answer, names = quizzes.random_quiz(4, 50, 0)
    frame = measured(error_consistency, evidence(table))
    for i, j in combinations(range(4), 2):
        expected = EC().compute_k(list(probs[i]), list(probs[j]), answer)
        assert pair(frame, names[i], names[j])["raw"] == pytest.approx(expected, abs=1e-6)


def test_closed_forms() -> None:
    answer = [0, 0, 0, 0]
    choices = {"a": [0, 0, 1, 1], "same": [0, 0, 2, 3], "opposite": [1, 1, 0, 0], "half": [0, 1, 0, 1]}
    frame = measured(error_consistency, evidence(items(choices, answer)))
    assert pair(frame, "a", "same")["raw"] == pytest.approx(1.0)
    assert pair(frame, "a", "opposite")["raw"] == pytest.approx(-1.0)
    assert pair(frame, "a", "half")["raw"] == pytest.approx(0.0)
    assert pair(frame, "a", "opposite")["kinship"] == 0.0


def test_undefined_where_chance_explains_everything() -> None:
    row = pair(measured(error_consistency, evidence(items({"a": [0, 0], "b": [0, 0]}, [0, 0]))), "a", "b")
    assert (row["kinship"], row["n_items"]) == (None, 2)
    assert row["reason"] == "both models always give the same result by chance alone"


def test_unparsed_replies_are_left_out_or_wrong() -> None:
    table = items({"a": [0, 1, None, 0, 1], "b": [0, 1, 1, 1, None]}, [0] * 5)
    skipped = pair(measured(error_consistency, evidence(table)), "a", "b")
    wrong = pair(measured(error_consistency, evidence(table), unparsed="wrong"), "a", "b")
    assert (skipped["n_items"], wrong["n_items"]) == (3, 5)
    # a right on 2, b on 1 of 5, the same on 4: c_exp = 2/5 1/5 + 3/5 4/5
    assert wrong["raw"] == pytest.approx((4 / 5 - 14 / 25) / (1 - 14 / 25))


def test_questions_without_options_count() -> None:
    table = items({"a": [None] * 4, "b": [None] * 4}, [0] * 4).with_columns(
        correct=quizzes.pl.Series([1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    )
    bare = table.with_columns(
        choice=None, answer=None, n_choices=None, choice_probs=None
    ).cast(dict(table.schema))  # fmt: skip
    row = pair(measured(error_consistency, evidence(bare)), "a", "b")
    assert row["n_items"] == 4
    assert row["raw"] == pytest.approx((3 / 4 - 1 / 2) / (1 / 2))
