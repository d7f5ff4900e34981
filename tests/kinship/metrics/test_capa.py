"""CAPA: closed forms, and the numbers of lm-sim."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from karma_plugins.kinship.metrics import capa
from tests.kinship import quizzes
from tests.kinship.quizzes import evidence, items, measured, pair


def test_equals_lm_sim_on_probabilities() -> None:
    from lmsim.metrics import CAPA

    table, probs, answer, names = quizzes.random_quiz(4, 50, 0, options=5)
    frame = measured(capa, evidence(table))
    for i, j in combinations(range(4), 2):
        expected = CAPA().compute_k(list(probs[i]), list(probs[j]), answer)
        assert pair(frame, names[i], names[j])["raw"] == pytest.approx(expected, abs=1e-6)


def test_equals_lm_sim_on_choices_of_questions_with_different_options() -> None:
    from lmsim.metrics import CAPA

    rng = np.random.default_rng(1)
    counts = rng.integers(2, 11, size=80).tolist()
    answer = [int(rng.integers(n)) for n in counts]
    choices = {name: [int(rng.integers(n)) for n in counts] for name in "abc"}
    frame = measured(capa, evidence(items(choices, answer, counts)))
    for a, b in combinations("abc", 2):
        hot = [[np.eye(n)[c] for n, c in zip(counts, choices[m], strict=True)] for m in (a, b)]
        expected = CAPA(prob=False).compute_k(*hot, answer)
        assert pair(frame, a, b)["raw"] == pytest.approx(expected, abs=1e-6)


def test_hard_looks_at_choices_alone() -> None:
    table, *_ = quizzes.random_quiz(3, 40, 2)
    hard = measured(capa, evidence(table), kind="hard")
    bare = measured(capa, evidence(table.with_columns(choice_probs=None).cast(dict(table.schema))))
    assert hard.equals(bare)
    assert not hard["raw"].equals(measured(capa, evidence(table))["raw"])


def test_opposite_models_are_at_minus_one() -> None:
    """Two options, each right on half of the questions, never agreeing."""
    row = pair(
        measured(capa, evidence(items({"a": [0, 0, 1, 1], "b": [1, 1, 0, 0]}, [0, 1, 0, 1], 2))), "a", "b"
    )
    assert row["raw"] == pytest.approx(-1.0)
    assert row["kinship"] == 0.0


def test_one_shared_option_of_one_question() -> None:
    """Both wrong with the same of three options: c_obs 1, c_exp 1/2."""
    row = pair(measured(capa, evidence(items({"a": [1], "b": [1]}, [0], 3))), "a", "b")
    assert (row["raw"], row["n_items"]) == (1.0, 1)
    apart = pair(measured(capa, evidence(items({"a": [1], "b": [2]}, [0], 3))), "a", "b")
    assert apart["raw"] == pytest.approx(-1.0)


def test_two_models_that_are_always_right_are_null_with_a_reason() -> None:
    row = pair(measured(capa, evidence(items({"a": [0, 1], "b": [0, 1]}, [0, 1]))), "a", "b")
    assert row["kinship"] is None
    assert row["reason"] == "both models are always right, so chance explains all agreement"


def test_questions_without_options_or_with_one_do_not_count() -> None:
    table = items({"a": [0, 0], "b": [0, 0]}, [0, 0], [1, 1])
    assert pair(measured(capa, evidence(table)), "a", "b")["reason"] == "no question is shared"


def test_equals_lm_sim_on_real_models(shared_data: Path) -> None:
    """Every pair of twelve models, on the questions that both answered with one of the options."""
    from lmsim.metrics import CAPA, EC

    from karma_plugins.importers import profiles
    from karma_plugins.kinship.metrics import error_consistency

    imported = profiles.read([shared_data / "mmlu_pro_items" / "predictions.csv"])
    table = imported.items
    frame, errors = (measured(m, evidence(table)) for m in (capa, error_consistency))
    names = table["model"].unique().sort().to_list()
    replies = {
        name: {
            r["item_id"]: (np.eye(r["n_choices"])[r["choice"]], r["answer"])
            for r in table.filter(model=name).drop_nulls("choice").iter_rows(named=True)
        }
        for name in names
    }
    assert len(names) == 12
    for a, b in combinations(names, 2):
        shared = sorted(replies[a].keys() & replies[b].keys())
        hot = [[replies[m][i][0] for i in shared] for m in (a, b)]
        answer = [replies[a][i][1] for i in shared]
        row, error = pair(frame, a, b), pair(errors, a, b)
        assert row["n_items"] == error["n_items"] == len(shared)
        assert row["raw"] == pytest.approx(CAPA(prob=False).compute_k(*hot, answer), abs=1e-6)
        assert error["raw"] == pytest.approx(EC().compute_k(*hot, answer), abs=1e-6)
