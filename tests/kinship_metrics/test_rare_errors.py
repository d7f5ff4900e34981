"""Our own metric: closed forms, its definition computed question by question, and families that it finds."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import quizzes
from quizzes import evidence, items, measured, pair

from karma_plugins.kinship_metrics import rare_errors


def by_definition(probs: Any, answer: list[int], a: int, b: int, prior: float, floor: float) -> float:
    """The metric as docs/kinship_metrics.md defines it, one question and one other model at a time."""
    distance = expected = 0.0
    for question, right in enumerate(answer):
        wrong = np.delete(probs[:, question], right, axis=1)
        mass = wrong.sum(axis=1)
        if not (mass[a] > 0 and mass[b] > 0):
            continue
        x = {m: wrong[m] / mass[m] for m in np.flatnonzero(mass > 0)}
        options = wrong.shape[1]
        p = (sum(x.values()) + prior / options) / (len(x) + prior)
        weight = 1 / (floor + (1 - floor) * p)
        others = [x[m] for m in x if m not in (a, b)]
        sharp = np.mean([(weight * v * v).sum() for v in x.values()])

        def far(u: Any, weight: Any = weight, others: Any = others, sharp: float = sharp) -> float:
            known = [(weight * (u - v) ** 2).sum() for v in others]
            random = (weight * u * u).sum() - 2 * (weight * u).sum() / len(u) + sharp
            return float((sum(known) + prior * random) / (len(others) + prior))

        scale = np.sqrt(mass[a] * mass[b])
        distance += scale * (weight * (x[a] - x[b]) ** 2).sum()
        expected += scale * (far(x[a]) + far(x[b])) / 2
    return 1 - distance / expected


@pytest.mark.parametrize("kind", ["probabilistic", "hard"])
@pytest.mark.parametrize(("prior", "floor"), [(0.5, 0.3), (1.0, 0.1), (2.0, 1.0)])
def test_equals_its_definition(kind: str, prior: float, floor: float) -> None:
    table, probs, answer, names = quizzes.random_quiz(5, 40, 0)
    if kind == "hard":
        probs = np.eye(4)[probs.argmax(axis=2)]
    frame = measured(rare_errors, evidence(table), kind=kind, prior=prior, floor=floor)
    for i, j in combinations(range(5), 2):
        expected = by_definition(probs, answer, i, j, prior, floor)
        assert pair(frame, names[i], names[j])["raw"] == pytest.approx(expected, abs=1e-9)


def test_a_rare_shared_error_says_more_than_a_common_one() -> None:
    """`a` and `rare` share an error that nobody else makes, `a` and `common` one that all others make."""
    crowd = {f"other{i}": [3, 1] for i in range(6)}
    choices = {"a": [1, 1], "rare": [1, 2], "common": [2, 1], **crowd}
    frame = measured(rare_errors, evidence(items(choices, [0, 0])))
    assert pair(frame, "a", "rare")["kinship"] > 2 * max(pair(frame, "a", "common")["kinship"], 0.05)


def test_right_answers_play_no_part() -> None:
    choices = {"a": [0, 0, 1, 2], "b": [0, 1, 1, 3], "c": [1, 0, 2, 2]}
    answer = [0, 0, 0, 0]
    easy = {name: [*row, 0, 0, 0] for name, row in choices.items()}
    one = measured(rare_errors, evidence(items(choices, answer)))
    other = measured(rare_errors, evidence(items(easy, [*answer, 0, 0, 0])))
    assert one["raw"].to_list() == pytest.approx(other["raw"].to_list())
    assert one["n_items"].to_list() == other["n_items"].to_list()


def test_models_that_never_err_on_one_question_are_null_with_a_reason() -> None:
    frame = measured(rare_errors, evidence(items({"a": [0, 1], "b": [1, 0], "c": [2, 2]}, [0, 0])))
    row = pair(frame, "a", "b")
    assert (row["kinship"], row["n_items"]) == (None, 0)
    assert row["reason"] == "there is no question with options that both got wrong"
    binary = measured(rare_errors, evidence(items({"a": [1, 1], "b": [1, 1]}, [0, 0], 2)))
    assert pair(binary, "a", "b")["reason"] == "no question is shared"  # one wrong option tells nothing


def test_a_pool_of_two_falls_back_to_equally_common_errors() -> None:
    choices = {"a": [1, 2, 3, 1], "b": [1, 2, 3, 2]}
    row = pair(measured(rare_errors, evidence(items(choices, [0] * 4)), floor=1.0), "a", "b")
    # a distance of 2 on one question of four, where models that err at random would have 4/3 on each
    assert row["raw"] == pytest.approx(1 - 2 / (4 * 4 / 3))


def test_children_are_nearer_to_their_parent_than_to_models_as_good() -> None:
    """Children keep four fifths of their parent's answers; all models lean to the same wrong option."""
    rng = np.random.default_rng(4)
    questions = 400

    def draw(accuracy: float) -> Any:
        right = rng.random(questions) < accuracy
        lure = np.where(rng.random(questions) < 0.5, 1, rng.integers(2, 6, questions))
        return np.where(right, 0, lure)

    parents = {f"parent{i}": draw(0.3 + 0.1 * i) for i in range(4)}
    children = {
        f"child{i}": np.where(rng.random(questions) < 0.8, parents[f"parent{i}"], draw(0.6)) for i in range(4)
    }
    choices = {name: row.tolist() for name, row in {**parents, **children}.items()}
    frame = measured(rare_errors, evidence(items(choices, [0] * questions, 6)))
    for i in range(4):
        kinship = {
            other: pair(frame, f"child{i}", other)["kinship"] for other in choices if other != f"child{i}"
        }
        assert max(kinship, key=kinship.__getitem__) == f"parent{i}"
        strangers = [k for other, k in kinship.items() if other != f"parent{i}"]
        assert max(strangers) < 0.2 < kinship[f"parent{i}"]
