"""The bias report: planted habits are found within their intervals, and a fair judge shows none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from karma_plugins.contracts import Answer, AnswerPair, Verdicts
from karma_plugins.errors import ParamsError
from karma_plugins.judging import yardsticks
from karma_plugins.judging.deciding import Judged
from karma_plugins.judging.judges.recorded import karma_register_judges as recorded_judges
from karma_plugins.runtime.statistics import cohen_kappa, krippendorff_alpha, wilson
from karma_plugins.schemas import JUDGEMENTS
from tests.judging import jury_cases as cases

MODELS = tuple(f"m{i}" for i in range(6))
NEAR = {m: i / 5 for i, m in enumerate(reversed(MODELS))}
PROMPTS = 120


def chance(*parts: object) -> float:
    """A number in [0,1) that looks random and depends on the parts alone."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=6).digest(), "big") / 2**48


def quality(answer: Answer) -> float:
    """What an answer is worth: no matter of its length, its place or its model."""
    return 0.2 + 0.4 * chance("worth", answer.response_id)


def pool() -> pl.DataFrame:
    def text(prompt: str, model: str) -> str:
        return model + "x" * int(200 * chance("length", prompt, model))

    ids = [f"p{i:04d}" for i in range(PROMPTS)]
    return cases.responses((p, m, text(p, m)) for p in ids for m in MODELS)


def kinship() -> pl.DataFrame:
    """m0 is the judges' own model, m1 to m5 ever further from it."""
    return cases.kinship({(a, b): NEAR[b] if a == "m0" else 0.5 for a in MODELS for b in MODELS if a < b})


def scorer(
    name: str, favour: float = 0.0, longer: float = 0.0
) -> Callable[[Sequence[Answer], Any], list[float]]:
    def score(answers: Sequence[Answer], _: object) -> list[float]:
        return [
            quality(a)
            + 0.1 * chance(name, a.response_id)
            + favour * NEAR[a.model]
            + longer * len(a.text) / 200
            for a in answers
        ]

    return score


def comparer(
    name: str, *, first: float = 0.0, longer: float = 0.0
) -> Callable[[Sequence[AnswerPair], Any], list[float]]:
    """A judge that in so large a share of pairs looks at the place, or the length, and not at the worth."""

    def verdict(pair: AnswerPair) -> float:
        drawn = chance(name, pair.a.response_id, pair.b.response_id)
        if drawn < first:
            return 1.0
        if chance(name, *sorted((pair.a.response_id, pair.b.response_id))) < longer:
            return float(len(pair.a.text) > len(pair.b.text))
        return float(quality(pair.a) > quality(pair.b))

    return lambda pairs, _: [verdict(pair) for pair in pairs]


def run(*jury: cases.Seat, **how: Any) -> Judged:
    settings = cases.settings(compare_per_prompt=None, **how)
    return cases.judge(cases.prompts(PROMPTS), pool(), kinship(), list(jury), settings)


def habit(done: Judged, measure: str, of: str | None, detail: str | None = None) -> dict[str, Any]:
    found = done.bias.filter(
        (pl.col("measure") == measure) & pl.col("judge").eq_missing(of) & pl.col("detail").eq_missing(detail)
    )
    assert found.height == 1
    return found.row(0, named=True)


def test_a_fair_judge_shows_nothing() -> None:
    done = run(
        cases.juror("fair", compare=comparer("fair")),
        cases.juror("points", score=scorer("points"), kin_to="m0"),
    )
    for measure in ("first_wins", "longer_wins", "length_correlation"):
        row = habit(done, measure, "fair")
        assert row["low"] <= row["fair"] <= row["high"], measure
    assert habit(done, "position_flips", "fair")["value"] == 0.0
    for measure, detail in (("longer_wins", None), ("length_correlation", None), ("nepotism", "m0")):
        row = habit(done, measure, "points", detail)
        assert row["low"] <= row["fair"] <= row["high"], measure
    assert done.bias.filter(pl.col("measure") == "unspoken").is_empty()


def test_a_judge_that_always_takes_the_first_is_found() -> None:
    done = run(cases.juror("first", compare=comparer("first", first=1.0)))
    assert habit(done, "first_wins", "first")["value"] == 1.0
    assert habit(done, "position_flips", "first")["value"] == 1.0
    assert habit(done, "first_wins", "first")["low"] > 0.9
    assert set(done.rewards["reward"]) == {0.5}


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_taste_for_the_first_is_measured(share: float) -> None:
    done = run(cases.juror("leaning", compare=comparer("leaning", first=share)))
    row = habit(done, "first_wins", "leaning")
    assert row["low"] <= share + (1 - share) / 2 <= row["high"]
    assert row["high"] - row["low"] < 0.06


def test_a_judge_that_takes_the_longer_is_found() -> None:
    done = run(cases.juror("long", compare=comparer("long", longer=1.0)))
    row = habit(done, "longer_wins", "long")
    assert (row["value"], row["high"]) == (1.0, 1.0)
    assert habit(done, "length_correlation", "long")["low"] > 0.9
    assert habit(done, "length_correlation", None)["low"] > 0.9


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_taste_for_the_longer_is_measured(share: float) -> None:
    done = run(cases.juror("leaning", compare=comparer("leaning", longer=share)))
    row = habit(done, "longer_wins", "leaning")
    assert row["low"] <= share + (1 - share) / 2 <= row["high"]


def test_scores_that_follow_length_are_found() -> None:
    done = run(cases.juror("long", score=lambda answers, _: [len(a.text) / 200 for a in answers]))
    assert habit(done, "longer_wins", "long")["value"] == 1.0
    assert habit(done, "length_correlation", "long")["value"] == pytest.approx(1.0)


@pytest.mark.parametrize("favour", [0.05, 0.3])
@pytest.mark.parametrize("others", [1, 3])
def test_nepotism_is_found_within_its_interval(favour: float, others: int) -> None:
    fair = [cases.juror(f"fair{i}", score=scorer(f"fair{i}")) for i in range(others)]
    done = run(cases.juror("vain", score=scorer("vain", favour=favour), kin_to="m0"), *fair)
    row = habit(done, "nepotism", "vain", "m0")
    assert row["low"] <= favour <= row["high"]
    assert 0 < row["high"] - row["low"] < 0.05


def test_two_judges_with_kin_are_told_apart() -> None:
    done = run(
        cases.juror("vain", score=scorer("vain", favour=0.2), kin_to="m0"),
        cases.juror("kin", score=scorer("kin"), kin_to="m0"),
        cases.juror("stranger", score=scorer("stranger")),
    )
    vain, kin = habit(done, "nepotism", "vain", "m0"), habit(done, "nepotism", "kin", "m0")
    assert vain["low"] <= 0.2 <= vain["high"]
    assert kin["low"] <= 0.0 <= kin["high"]


def test_a_fair_judge_with_a_scale_of_its_own_shows_no_nepotism() -> None:
    """Kin are truly better here, and one judge spreads its scores over a third of the other's range."""
    merit = {m: 0.1 * NEAR[m] for m in MODELS}

    def score(name: str, spread: float) -> Callable[[Sequence[Answer], Any], list[float]]:
        return lambda answers, _: [
            0.5 + spread * (quality(a) + merit[a.model] - 0.4 + 0.02 * chance(name, a.response_id))
            for a in answers
        ]

    done = run(
        cases.juror("wide", score=score("wide", 1.0), kin_to="m0"),
        cases.juror("narrow", score=score("narrow", 0.3)),
    )
    row = habit(done, "nepotism", "wide", "m0")
    assert row["low"] <= 0.0 <= row["high"]
    assert row["high"] - row["low"] < 0.05


def test_a_taste_for_single_models_is_no_nepotism() -> None:
    """Its favourites are a near and a far model, which says nothing about kin."""
    taste = {"m1": 0.1, "m4": 0.1}

    def score(answers: Sequence[Answer], _: object) -> list[float]:
        return [quality(a) + taste.get(a.model, 0.0) for a in answers]

    done = run(cases.juror("odd", score=score, kin_to="m0"), cases.juror("fair", score=scorer("fair")))
    row = habit(done, "nepotism", "odd", "m0")
    assert row["low"] <= 0.0 <= row["high"]


def test_the_correction_brings_nepotism_to_zero_and_the_rewards_to_those_of_a_fair_judge() -> None:
    fair = cases.juror("fair", score=scorer("fair"))
    vain = cases.juror("vain", score=scorer("vain", favour=0.3), kin_to="m0")
    done = run(vain, fair, nepotism_correction=True)
    assert habit(done, "nepotism", "vain", "m0")["value"] > 0.25
    after = habit(done, "nepotism_after_correction", "vain", "m0")
    assert after["low"] <= 0.0 <= after["high"]

    def favoured(done: Judged) -> float:
        mean = done.rewards.join(pool(), on="response_id").group_by("model").agg(pl.col("reward").mean())
        by_model = dict(mean.iter_rows())
        return by_model["m0"] - by_model["m5"]

    honest = favoured(run(cases.juror("vain", score=scorer("vain")), fair))
    assert favoured(run(vain, fair)) - honest == pytest.approx(0.15, abs=0.001)
    assert favoured(done) - honest == pytest.approx(0.0, abs=0.015)


def test_nepotism_without_a_second_judge_is_no_number() -> None:
    row = habit(run(cases.juror("vain", score=scorer("vain"), kin_to="m0")), "nepotism", "vain", "m0")
    assert (row["value"], row["low"]) == (None, None)
    assert row["reason"].startswith("no other judge")


def test_kin_of_nobody_is_an_error() -> None:
    with pytest.raises(ParamsError, match=r"kin_to\.vain: no candidate is called 'm00'\. Did you mean 'm0'"):
        run(cases.juror("vain", score=scorer("vain"), kin_to="m00"))


def test_agreement_of_judges() -> None:
    done = run(
        cases.juror("one", score=scorer("one")), cases.juror("two", score=scorer("two")),
        cases.juror("left", compare=comparer("left")), cases.juror("right", compare=comparer("right")),
        cases.juror("first", compare=comparer("first", first=1.0)),
    )  # fmt: skip
    assert habit(done, "krippendorff_alpha", "one", "two")["value"] > 0.8
    assert habit(done, "cohen_kappa", "left", "right")["value"] == 1.0
    assert habit(done, "cohen_kappa", "first", "left")["value"] == 0.0
    assert habit(done, "krippendorff_alpha", None)["n"] == 5 * 6 * PROMPTS


BASELINES = {"one": "base-1", "two": "base-2", "three": "base-1"}


def against_baselines(align: str = "none") -> Judged:
    """Judges that compared each answer with a baseline, `two` with another one."""
    rows = [
        (f"p{p:04d}", baseline, cases.rid(f"p{p:04d}", model), judge, float((p + i) % 3 != 0), "ab")
        for judge, baseline in BASELINES.items()
        for p in range(PROMPTS)
        for i, model in enumerate(MODELS)
    ]
    recorded = Verdicts(JUDGEMENTS.empty(), cases.comparisons(rows))
    plugin = recorded_judges()[0]
    seats = [cases.Seat(cases.bound(plugin, plugin.options(annotator=judge), judge)) for judge in BASELINES]
    return cases.judge(
        cases.prompts(PROMPTS), pool(), None, seats, cases.settings(align=align), recorded=recorded
    )


def test_scores_against_different_baselines_are_not_compared() -> None:
    done = against_baselines()
    apart = habit(done, "krippendorff_alpha", "one", "two")
    assert (apart["value"], apart["reason"]) == (None, yardsticks.APART)
    assert habit(done, "krippendorff_alpha", None)["reason"] == yardsticks.APART
    assert habit(done, "krippendorff_alpha", "one", "three")["value"] == 1.0
    assert habit(done, "disagreement", None)["reason"] == yardsticks.APART
    assert done.rewards["disagreement"].null_count() == done.rewards.height


def test_scores_aligned_within_the_prompt_are_compared_whatever_the_baselines() -> None:
    done = against_baselines("rank")
    assert habit(done, "krippendorff_alpha", "one", "two")["value"] == pytest.approx(1.0)
    assert done.rewards["disagreement"].to_list() == [0.0] * done.rewards.height
    assert done.bias.filter(measure="disagreement").is_empty()


def test_ties_are_those_of_the_pairs_that_a_judge_settled() -> None:
    """All of its answers that lose to the baseline have one score, which is no tie."""
    done = against_baselines()
    ties = habit(done, "ties", "one")
    assert (ties["value"], ties["n"]) == (0.0, 6 * PROMPTS)
    longer = habit(done, "longer_wins", "one")
    assert (longer["value"], longer["n"]) == (None, 0)
    assert longer["reason"] == "all its pairs are with answers from outside the pool"


def test_krippendorff_alpha_of_his_example() -> None:
    """Interval data of Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": 0.849."""
    o = np.nan
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, o, o, o],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, o, 3],
        [o, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, o],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, o],
    ]
    alpha, n = krippendorff_alpha(np.array(ratings, dtype=float).T)
    assert alpha == pytest.approx(0.849, abs=5e-4)
    assert n == 40
    assert krippendorff_alpha(np.array([[1.0, o], [o, 2.0]])) == (None, 0)


def test_cohen_kappa_of_a_closed_case() -> None:
    one = np.array([1] * 25 + [0] * 25, dtype=float)
    other = np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15, dtype=float)
    assert cohen_kappa(one, other) == pytest.approx(0.4)
    assert cohen_kappa(one * 0, one * 0) is None


def test_wilson_of_a_closed_case() -> None:
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)


def test_failures_are_reported_by_reason() -> None:
    def score(answers: Sequence[Answer], _: object) -> list[float]:
        return [float("nan") if a.model == "m0" else 0.5 for a in answers]

    with pytest.warns(UserWarning, match="120 of 720 verdicts failed"):
        done = run(cases.juror("odd", score=score))
    row = habit(done, "unspoken", "odd", "nan is no score")
    assert (row["value"], row["n"]) == (pytest.approx(1 / 6), 6 * PROMPTS)
