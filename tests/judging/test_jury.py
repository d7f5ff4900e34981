"""The jury: votes to rewards, checked by hand on small cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest

from karma_plugins.contracts import Verdicts
from karma_plugins.judging.judges.recorded import karma_register_judges as recorded_judges
from karma_plugins.judging.jury import bradley_terry, settle, win_share
from karma_plugins.schemas import COMPARISONS
from tests.judging import jury_cases as cases

RECORDED = recorded_judges()[0]
MODELS = ("amber", "birch", "cedar")


def rewarded(
    votes: Mapping[str, Mapping[str, float | None]], weights: Mapping[str, float] | None = None, **how: Any
) -> dict[str, dict[str, Any]]:
    """Rewards by model, from each judge's score of each model's answer to one prompt."""
    answers = cases.responses(("p0000", m, f"{m} says") for m in MODELS)
    rows = [("p0000", cases.rid("p0000", m), j, s) for j, scores in votes.items() for m, s in scores.items()]
    jury = [
        cases.Seat(cases.bound(RECORDED, RECORDED.options(annotator=j), j), (weights or {}).get(j, 1.0))
        for j in votes
    ]
    done = cases.judge(
        cases.prompts(1), answers, None, jury, cases.settings(**how),
        recorded=Verdicts(cases.judgements(rows), COMPARISONS.empty()),
    )  # fmt: skip
    return {row["model"]: row for row in done.rewards.join(answers, on="response_id").iter_rows(named=True)}


def test_weighted_mean_and_disagreement() -> None:
    found = rewarded(
        {"x": {"amber": 0.2, "birch": 1.0}, "y": {"amber": 0.8, "birch": 1.0}}, {"x": 1.0, "y": 3.0}
    )
    assert found["amber"]["reward"] == pytest.approx(0.65)
    assert found["amber"]["disagreement"] == pytest.approx(0.3)
    assert found["birch"]["disagreement"] == 0.0
    assert (found["amber"]["n_judges"], found["amber"]["judges"]) == (2, "x+y")
    assert "cedar" not in found


@pytest.mark.filterwarnings("ignore:judge 'y'")
def test_a_missing_vote_changes_the_judges_or_drops_the_answer() -> None:
    votes = {"x": {"amber": 0.2, "birch": 1.0}, "y": {"amber": 0.8, "birch": None}}
    found = rewarded(votes)
    assert (found["birch"]["reward"], found["birch"]["judges"], found["birch"]["disagreement"]) == (
        1.0,
        "x",
        None,
    )
    assert found["amber"]["judges"] == "x+y"
    assert set(rewarded(votes, missing="drop")) == {"amber"}


def test_a_judge_without_weight_has_no_say() -> None:
    found = rewarded({"x": {"amber": 0.2}, "y": {"amber": 0.8, "birch": 0.5}}, {"y": 0.0})
    assert (found["amber"]["reward"], found["amber"]["judges"], found["amber"]["disagreement"]) == (
        0.2,
        "x",
        None,
    )
    assert "birch" not in found


def test_alignment() -> None:
    votes = {
        "x": {"amber": 0.0, "birch": 0.5, "cedar": 1.0},
        "y": {"amber": 0.70, "birch": 0.71, "cedar": 0.71},
    }
    ranks = {m: row["reward"] for m, row in rewarded(votes, align="rank").items()}
    assert ranks == {"amber": 0.0, "birch": pytest.approx(0.625), "cedar": pytest.approx(0.875)}
    z = {m: row["reward"] for m, row in rewarded(votes, align="z-score").items()}
    assert z["amber"] == pytest.approx((-math.sqrt(1.5) - math.sqrt(2)) / 2)
    assert z["cedar"] == pytest.approx((math.sqrt(1.5) + math.sqrt(0.5)) / 2)
    alone = {"x": {"amber": 0.3}}
    assert rewarded(alone, align="rank")["amber"]["reward"] == 0.5
    assert rewarded(alone, align="z-score")["amber"]["reward"] == 0.0
    flat = {"x": {"amber": 0.1 + 0.2, "birch": 0.3}}
    assert rewarded(flat, align="z-score")["amber"]["reward"] == 0.0


def pairs(*rows: tuple[str, str, float | None, str]) -> pl.DataFrame:
    return settle(cases.comparisons(("p", a, b, "x", p, order) for a, b, p, order in rows))


def test_settled_pairs_average_both_orders_first() -> None:
    found = pairs(
        ("a", "b", 1.0, "ab"),
        ("a", "b", 0.5, "ba"),
        ("c", "a", 0.25, "ab"),
        ("b", "c", 0.0, "ba"),
        ("b", "c", None, "ab"),
    )
    assert found.drop("prompt_id").rows() == [("a", "b", 1.0, 0.5, 0.75), ("a", "c", None, 0.75, 0.75)]
    assert dict(win_share(found).iter_rows()) == {"a": 0.75, "b": 0.25, "c": 0.25}


def test_bradley_terry_against_a_direct_maximisation() -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    rows = [(f"r{i}", f"r{j}", float(rng.uniform()), "ab") for i in range(5) for j in range(i + 1, 5)]
    found = pairs(*rows[:-2])

    def loss(theta: np.ndarray) -> float:
        names = [f"r{i}" for i in range(5)]
        total = 0.0
        for a, b, p in found.select("response_a", "response_b", "p").iter_rows():
            d = theta[names.index(a)] - theta[names.index(b)]
            total += p * np.log1p(np.exp(-d)) + (1 - p) * np.log1p(np.exp(d))
        return total + 0.5 * float(np.sum(np.log1p(np.exp(-theta)) + np.log1p(np.exp(theta))))

    best = minimize(loss, np.zeros(5), options={"gtol": 1e-9}).x
    scores = bradley_terry(found)["score"].to_numpy()
    assert scores == pytest.approx(1 / (1 + np.exp(-best)), abs=1e-6)


def test_bradley_terry_stays_within_bounds_where_one_always_wins() -> None:
    found = bradley_terry(pairs(("a", "b", 1.0, "ab"), ("a", "c", 1.0, "ab"), ("b", "c", 1.0, "ab")))
    scores = found["score"].to_list()
    assert scores == sorted(scores, reverse=True)
    assert 0.5 < scores[0] < 1.0
    assert scores[1] == pytest.approx(0.5)


def test_an_answer_without_a_verdict_gets_no_reward() -> None:
    votes = rewarded({"one": {"amber": 0.5, "birch": 0.25}})
    assert set(votes) == {"amber", "birch"}
