from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest

from karma_plugins.curriculum import Curriculum
from karma_plugins.curriculum import build as build_curriculum
from karma_plugins.errors import EmptyResultError, ParamsError
from karma_plugins.params import CurriculumSection
from karma_plugins.schemas import SCORES
from tests.curriculum.curriculum_cases import Tables, build, by_chance, kinship_table, pairing, tables

#: Four models in two families: a, b are near, c, d are near, and nothing is known of b and c.
KINSHIP = {
    ("a", "b"): 0.9, ("c", "d"): 0.85, ("a", "c"): 0.3, ("a", "d"): 0.2, ("b", "d"): 0.25, ("b", "c"): None,
}  # fmt: skip
ANSWERS = [
    {"prompt": "p", "model": model, "reward": reward}
    for model, reward in (("a", 0.9), ("b", 0.6), ("c", 0.5), ("d", 0.1))
]


def pairs(name: str, options: Mapping[str, Any] | None = None, **settings: Any) -> list[str]:
    """Chosen and rejected model of every pair, sorted."""
    made = build(tables(ANSWERS, KINSHIP), name, options, **settings).pairs
    return sorted(made.select(made["chosen_model"] + made["rejected_model"]).to_series())


def dropped(name: str, options: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, int]:
    """What was dropped, by reason."""
    found: dict[str, int] = build(tables(ANSWERS, KINSHIP), name, options, **settings).report["pairs"][
        "dropped"
    ]
    return found


def test_random_takes_any_pair():
    assert pairs("random") == ["ab", "ac", "ad", "bc", "bd", "cd"]
    taken = {tuple(pairs("random", per_prompt=1, seed=seed)) for seed in range(40)}
    assert taken == {("ab",), ("ac",), ("ad",), ("bc",), ("bd",), ("cd",)}


def test_kin_takes_models_within_the_radius():
    assert pairs("kin", {"radius": 0.2}) == ["ab", "cd"]
    assert pairs("kin", {"radius": 0.1}) == ["ab"]
    assert dropped("kin", {"radius": 0.2}) == {"kin: beyond radius": 3, "kin: kinship unknown": 1}


@pytest.mark.parametrize(("prefer", "first"), [("margin", ["ad"]), ("kinship", ["ab"])])
def test_kin_prefers_the_widest_margin_or_the_nearest_kin(prefer: str, first: list[str]):
    assert pairs("kin", {"radius": 1.0, "prefer": prefer}, per_prompt=1) == first


def test_kin_by_chance_within_the_radius_differs_with_the_seed():
    taken = {tuple(pairs("kin", {"prefer": "chance"}, per_prompt=1, seed=seed)) for seed in range(20)}
    assert taken == {("ab",), ("cd",)}


def test_kin_may_leave_out_two_samples_of_one_model():
    answers = [{"prompt": "p", "model": "a", "sample": i, "reward": i / 2} for i in range(2)]
    assert build(tables(answers), "kin").pairs.height == 1
    both = [*answers, {"prompt": "p", "model": "b", "reward": 1.0}]
    made = build(tables(both, {("a", "b"): 0.9}), "kin", {"same_model": False})
    assert set(made.pairs["rejected_model"]) == {"a"}
    assert made.report["pairs"]["dropped"] == {"kin: same model": 1}


def test_kin_takes_pairs_where_one_is_among_the_nearest_of_the_other():
    # nearest: a-b (0.9) for a and b, c-d (0.85) for c and d
    assert pairs("kin", {"radius": 1.0, "nearest": 1}) == ["ab", "cd"]
    # second nearest: c for a (0.3), d for b (0.25), a for c (0.3), b for d (0.25)
    assert pairs("kin", {"radius": 1.0, "nearest": 2}) == ["ab", "ac", "bd", "cd"]
    assert dropped("kin", {"radius": 1.0, "nearest": 2}) == {
        "kin: kinship unknown": 1, "kin: not among the nearest": 1,
    }  # fmt: skip


def test_kinship_of_the_prompts_competency_decides_where_asked():
    answers = [answer | {"prompt": kind} for kind in ("sums", "facts") for answer in ANSWERS[:2]]
    kinship = {("sums", "a", "b"): 0.9, ("facts", "a", "b"): 0.1, ("a", "b"): 0.5}
    made = tables(answers, kinship, competencies={"sums": "sums", "facts": "facts"})
    assert build(made, "kin", kinship="competency").pairs["competency"].to_list() == ["sums"]
    assert build(made, "distant", kinship="competency").pairs["competency"].to_list() == ["facts"]
    found = build(made, "target-kin", kinship="competency", target="a").pairs
    assert found["competency"].to_list() == ["sums"]


def test_distant_takes_just_what_is_beyond_the_radius():
    assert pairs("distant", {"radius": 0.2}) == ["ac", "ad", "bd"]
    assert dropped("distant") == {"distant: within radius": 2, "distant: kinship unknown": 1}
    assert pairs("distant", {"prefer": "kinship"}, per_prompt=1) == ["ad"]


def test_best_worst_takes_the_widest_pair_of_each_prompt():
    assert pairs("best-worst") == ["ad"]
    assert pairs("best-worst", {"count": 2}) == ["ac", "ad"]
    assert pairs("best-worst", {"count": None}) == ["ab", "ac", "ad"]
    taken = {tuple(pairs("best-worst", {"against": "random"}, seed=seed)) for seed in range(30)}
    assert taken == {("ab",), ("ac",), ("ad",)}


def test_best_worst_falls_back_where_the_widest_pair_is_no_candidate():
    answers = [ANSWERS[0] | {"text": "same"}, *ANSWERS[1:3], ANSWERS[3] | {"text": "same"}]
    made = build(tables(answers), "best-worst").pairs
    assert (made["chosen_model"][0], made["rejected_model"][0]) == ("b", "d")
    widest = by_chance(3)
    per_prompt = build(widest, "best-worst").pairs
    every = build(widest, "random", repeats="keep").pairs
    assert per_prompt["prompt_id"].is_unique().all()
    assert sorted(per_prompt["margin"]) == sorted(every.group_by("prompt_id").max()["margin"])


def test_target_kin_takes_kin_of_the_model_that_will_be_trained():
    assert pairs("target-kin", {"radius": 0.2}, target="a") == ["ab"]
    assert pairs("target-kin", {"radius": 0.7}, target="a") == ["ab", "ac", "bc"]
    assert pairs("target-kin", {"radius": 0.2}, target="c") == ["cd"]
    assert dropped("target-kin", {"radius": 1.0}, target="b") == {"target-kin: kinship to target unknown": 3}
    assert pairs("target-kin", {"radius": 1.0, "prefer": "kinship"}, target="a", per_prompt=1) == ["ab"]


def test_target_kin_without_a_target_or_with_an_unknown_one_stops():
    with pytest.raises(ParamsError, match=r"curriculum\.target: pairing 'target-kin' needs the candidate"):
        pairs("target-kin")
    with pytest.raises(
        ParamsError, match=r"curriculum\.target: no candidate is called 'model-9'\. Did you mean 'model-4'"
    ):
        build(by_chance(0), "target-kin", target="model-9")


def test_a_wrong_option_is_refused():
    with pytest.raises(ParamsError, match="unknown key 'raduis'. Did you mean 'radius'"):
        pairs("kin", {"raduis": 0.1})
    with pytest.raises(ParamsError, match="prefer"):
        pairs("kin", {"prefer": "luck"})


# --- terms that do not depend on the metric -----------------------------------------------------------------


def with_metric(name: str, kinship: Mapping[Any, float | None], consistency: float | None = None) -> Tables:
    """The tables of ANSWERS with another metric measured beside the primary one."""
    *others, primary = tables(ANSWERS, KINSHIP)
    other = kinship_table(kinship).with_columns(
        metric=pl.lit(name), primary=pl.lit(value=False), consistency=pl.lit(consistency, pl.Float64)
    )
    return (*others, pl.concat([primary, other]))  # type: ignore[return-value]


#: By this metric a, c are near and b, d.
CROSSED = {
    ("a", "c"): 0.09, ("b", "d"): 0.08, ("a", "b"): 0.01, ("a", "d"): 0.0, ("b", "c"): 0.0, ("c", "d"): 0.01,
}  # fmt: skip


def paired(made: Curriculum) -> list[str]:
    return sorted(made.pairs.select(made.pairs["chosen_model"] + made.pairs["rejected_model"]).to_series())


def test_kin_of_one_family():
    assert pairs("kin", {"family": True}) == ["ab", "cd"]
    assert dropped("kin", {"family": True})["kin: of another family"] == 3


def test_a_pairing_names_the_metric_that_it_acts_on():
    given = with_metric("style", CROSSED)
    assert paired(build(given, "kin", {"metric": "style", "nearest": 1})) == ["ac", "bd"]
    made = build(given, "kin", {"metric": "style", "nearest": 1})
    assert sorted(made.pairs["kinship"]) == [0.08, 0.09]
    with pytest.raises(ParamsError, match="metric 'stile' is not measured. Did you mean 'style'"):
        build(given, "kin", {"metric": "stile"})


def test_a_radius_is_relative_to_a_models_likeness_to_itself():
    assert paired(build(with_metric("style", CROSSED, 0.1), "kin", {"metric": "style", "radius": 0.15})) == [
        "ac"
    ]
    assert paired(build(with_metric("style", CROSSED, 0.1), "kin", {"metric": "style", "radius": 0.25})) == [
        "ac", "bd",
    ]  # fmt: skip
    with pytest.raises(EmptyResultError):
        build(with_metric("style", CROSSED), "kin", {"metric": "style", "radius": 0.25})


def test_several_metrics_must_all_find_a_pair_near():
    given = with_metric("style", {**CROSSED, ("a", "b"): 0.09}, 0.1)
    rule = {"also": {"style": {"radius": 0.2}}}
    made = build(given, "kin", {"radius": 0.2, **rule})
    assert paired(made) == ["ab"]
    assert made.report["pairs"]["dropped"]["kin: beyond radius by style"] == 1
    with pytest.raises(ParamsError, match="metric 'answers' is not measured"):
        build(given, "kin", {"also": {"answers": {"family": True}}})


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"family": True}, ["cd"]), ({"nearest": 1}, ["cd"]), ({"nearest": 2}, ["ac", "ad", "cd"])],
)
def test_target_kin_by_family_or_the_nearest(options: dict[str, Any], expected: list[str]):
    assert pairs("target-kin", options, target="c") == expected


# --- delta --------------------------------------------------------------------------------------------------


def profiles(scores: Mapping[str, float], stderr: float | None = 0.02) -> pl.DataFrame:
    rows = [
        {
            "model": model, "competency": "knowledge", "task": "t", "metric": "acc", "score": score,
            "stderr": stderr, "n": 100,
        }
        for model, score in scores.items()
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=SCORES.columns)


def delta(
    scores: pl.DataFrame | None, options: Mapping[str, Any] | None = None, **settings: Any
) -> Curriculum:
    section = CurriculumSection(pairing="delta", **settings)
    return build_curriculum(
        *tables(ANSWERS, KINSHIP), pairing("delta", **(options or {})), section, None, scores
    )


def test_delta_pairs_a_family_where_the_chosen_model_is_really_more_able():
    made = delta(profiles({"a": 0.9, "b": 0.5, "c": 0.6, "d": 0.58}))
    assert paired(made) == ["ab"]
    assert made.report["pairs"]["dropped"] == {
        "delta: of another family": 3, "delta: kinship unknown": 1, "delta: no real gap in competence": 1,
    }  # fmt: skip
    assert paired(delta(profiles({"a": 0.9, "b": 0.5, "c": 0.6, "d": 0.58}), {"deviate": 0})) == ["ab", "cd"]


def test_delta_never_chooses_the_less_able_and_knows_the_targets_family():
    scores = profiles({"a": 0.3, "b": 0.9, "c": 0.9, "d": 0.1})
    assert paired(delta(scores)) == ["cd"]
    with pytest.raises(EmptyResultError, match="chosen from the less able model"):
        delta(scores, target="a")


def test_delta_goes_by_ranks_or_says_what_it_lacks():
    assert paired(delta(None, {"rank": {"a": 70, "b": 7}})) == ["ab"]
    with pytest.raises(ParamsError, match="Add data/profile to the deps of stage curriculum"):
        delta(None)
    with pytest.raises(EmptyResultError, match="competence unknown"):
        delta(profiles({"z": 0.5}))
