"""Our own metric: closed forms, its definition computed question by question, and families that it finds."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest

from karma_plugins.kinship import family
from karma_plugins.kinship.metrics import capa, rare_errors
from tests.kinship import quizzes
from tests.kinship.quizzes import evidence, items, measured, pair


def by_definition(probs: Any, answer: list[int], a: int, b: int, prior: float, floor: float) -> float:
    """The metric as docs/kinship_metrics.md defines it, one question and one other model at a time."""
    distance = expected = 0.0
    right = np.stack([probs[:, q, r] for q, r in enumerate(answer)], axis=1)
    accuracy = right.mean(axis=1)
    slope = accuracy * (1 - accuracy)
    for question, option in enumerate(answer):
        error, slopes = right[:, question] - accuracy, slope.sum() + prior / 4
        usual = np.clip(accuracy + slope * error.sum() / slopes, 0, 1)
        share = (usual.sum() + prior / 2) / (len(usual) + prior)
        weight = 1 / (floor + (1 - floor) * share) + 1 / (floor + (1 - floor) * (1 - share))
        y = right[:, question] - usual
        distance += weight * (y[a] - y[b]) ** 2
        moved = (slope[b] * error[a] ** 2 + slope[a] * error[b] ** 2) / slopes
        product = slope[a] * slope[b] * (error**2).sum() / slopes**2 - moved
        expected += weight * (y[a] ** 2 + y[b] ** 2 - 2 * product)
        one, other = which(np.delete(probs[:, question], option, axis=1), a, b, prior, floor)
        distance, expected = distance + one, expected + other
    return 1 - distance / expected


def which(wrong: Any, a: int, b: int, prior: float, floor: float) -> tuple[float, float]:
    """Distance and expected distance of two models' wrong options to one question."""
    mass = wrong.sum(axis=1)
    if not (mass[a] > 0 and mass[b] > 0):
        return 0.0, 0.0
    x = {m: wrong[m] / mass[m] for m in np.flatnonzero(mass > 0)}
    p = (sum(x.values()) + prior / wrong.shape[1]) / (len(x) + prior)
    weight = 1 / (floor + (1 - floor) * p)
    others = [x[m] for m in x if m not in (a, b)]
    sharp = np.mean([(weight * v * v).sum() for v in x.values()])

    def far(u: Any) -> float:
        known = [(weight * (u - v) ** 2).sum() for v in others]
        random = (weight * u * u).sum() - 2 * (weight * u).sum() / len(u) + sharp
        return float((sum(known) + prior * random) / (len(others) + prior))

    scale = np.sqrt(mass[a] * mass[b])
    return scale * (weight * (x[a] - x[b]) ** 2).sum(), scale * (far(x[a]) + far(x[b])) / 2


@pytest.mark.parametrize("kind", ["probabilistic", "hard"])
@pytest.mark.parametrize(("prior", "floor"), [(0.5, 0.3), (3.0, 0.1), (2.0, 1.0)])
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


def test_a_competency_stands_alone() -> None:
    """Accuracy is that in the competency, so other questions change nothing."""
    maths, *_ = quizzes.random_quiz(4, 30, 1)
    other = quizzes.random_quiz(4, 20, 2)[0].with_columns(competency=pl.lit("law"), task=pl.lit("quiz-law"))
    alone = measured(rare_errors, evidence(maths))
    both = measured(rare_errors, evidence(maths, other))
    for a, b in combinations([f"m{i}" for i in range(4)], 2):
        assert pair(both, a, b, "knowledge")["raw"] == pytest.approx(pair(alone, a, b)["raw"])


def test_accuracy_alone_makes_no_kin() -> None:
    """Models of one accuracy that err on questions of their own are no kin, whatever their accuracy."""
    rng = np.random.default_rng(0)
    choices = {
        f"{accuracy}-{i}": np.where(rng.random(2000) < accuracy, 0, rng.integers(1, 4, 2000)).tolist()
        for accuracy in (0.2, 0.5, 0.95)
        for i in range(3)
    }
    frame = measured(rare_errors, evidence(items(choices, [0] * 2000)))
    assert frame["kinship"].max() < 0.08  # type: ignore[operator]


def test_models_that_never_err_are_null_with_a_reason() -> None:
    choices = {"a": [0] * 4, "b": [0] * 4, "c": [0, 1, 2, 2], "twin": [0, 1, 2, 2]}
    frame = measured(rare_errors, evidence(items(choices, [0] * 4)))
    row = pair(frame, "a", "b")
    assert (row["kinship"], row["n_items"]) == (None, 4)
    assert row["reason"] == "neither model shows an error that could be compared"
    assert pair(frame, "a", "c")["kinship"] == 0.0
    assert pair(frame, "c", "twin")["kinship"] == pytest.approx(1.0)


def test_questions_without_wrong_options_to_choose_from_count_by_right_and_wrong() -> None:
    """Two options, or none at all."""
    choices = {"a": [0, 1, 1, 0], "b": [0, 1, 1, 0], "c": [1, 0, 1, 0]}
    binary = items(choices, [0] * 4, 2)
    nothing = {c: pl.lit(None, pl.Int64) for c in ("choice", "answer", "n_choices")}
    written = binary.with_columns(**nothing)
    for table in (binary, written):
        frame = measured(rare_errors, evidence(table), kind="hard")
        assert pair(frame, "a", "b")["kinship"] == pytest.approx(1.0)
        assert pair(frame, "a", "c")["kinship"] < 0.5
        assert pair(frame, "a", "b")["n_items"] == 4


def test_unparsed_replies_are_left_out() -> None:
    choices = {"a": [0, 1, None, 2], "b": [0, 1, None, 2], "c": [2, 1, 1, "skip"]}
    frame = measured(rare_errors, evidence(items(choices, [0] * 4)))
    row = pair(frame, "a", "b")
    assert (row["n_items"], row["missing"]) == (3, "shared: 3 of 4 questions")
    assert row["kinship"] == pytest.approx(1.0)
    assert pair(frame, "a", "c")["n_items"] == 2


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


@pytest.mark.parametrize("questions", [100, 600])
@pytest.mark.parametrize("ability", [-0.5, 1.0, 3.0])
def test_finds_parents_as_well_as_capa_from_choices_alone(questions: int, ability: float) -> None:
    """Few and many questions, weak and strong models: mean reciprocal rank over many families."""
    ranks: dict[str, list[float]] = {"ours": [], "capa": []}
    for seed in range(12):
        table, parents = quizzes.families(seed, questions, ability)
        given = evidence(table)
        for name, module in (("ours", rare_errors), ("capa", capa)):
            frame = measured(module, given).with_columns(metric=pl.lit(name))
            ranks[name] += (1 / family.ranks(frame, parents)["rank"]).to_list()
    assert len(ranks["ours"]) == 72
    assert np.mean(ranks["ours"]) > np.mean(ranks["capa"]) - 0.05
