"""Whose answers the trained model is to imitate: said, and warned of where they are strangers'."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from karma_plugins.checking import check
from karma_plugins.curriculum import Curriculum, card, target
from karma_plugins.params import CurriculumSection
from karma_plugins.registry import Registry
from tests.curriculum.curriculum_cases import Tables, build, build_judged, kinship_table, tables

FAMILIES = {
    ("a", "b"): 0.9, ("c", "d"): 0.85, ("a", "c"): 0.1, ("a", "d"): 0.1, ("b", "c"): 0.1, ("b", "d"): 0.1,
}  # fmt: skip
REWARDS = (("a", 0.2), ("b", 0.1), ("c", 0.9), ("d", 0.5))
ANSWERS = [
    {"prompt": f"p{i}", "model": model, "reward": reward} for i in range(4) for model, reward in REWARDS
]


def given(metric: str = "style") -> Tables:
    *others, primary = tables(ANSWERS, FAMILIES)
    other = kinship_table(FAMILIES).with_columns(metric=pl.lit(metric), primary=pl.lit(value=False))
    return (*others, pl.concat([primary, other]))  # type: ignore[return-value]


def made(
    trained: str | None, pairing: str = "random", metric: str = "style", **options: object
) -> Curriculum:
    return build(given(metric), pairing, options, target=trained)


def test_chosen_answers_of_strangers_are_warned_of_with_figures() -> None:
    told = made("a").report["target"]
    assert (told["metric"], told["family"]) == ("style", ["a", "b"])
    assert told["chosen"] == pytest.approx(1 / 6)
    assert told["pairs"] == pytest.approx(1 / 6)
    said = target.warning(told)
    assert said is not None
    assert "83% of the chosen answers" in said and "'a'" in said and "a, b" in said


@pytest.mark.parametrize(
    ("trained", "pairing", "options"), [("c", "random", {}), ("a", "target-kin", {"family": True})]
)
def test_chosen_answers_of_kin_are_not(trained: str, pairing: str, options: dict[str, object]) -> None:
    assert target.warning(made(trained, pairing, **options).report["target"]) is None


@pytest.mark.parametrize(
    ("own", "warned"), [(0.1, True), (0.52, True), (0.7, True), (0.76, False), (1.0, False)]
)
def test_a_quarter_of_strangers_is_borne_and_half_is_not(own: float, warned: bool) -> None:
    part = {**made("a").report["target"], "chosen": own}
    assert (target.warning(part) is not None) == warned


def test_where_nothing_looks_at_answers_nothing_is_said() -> None:
    assert "target" not in made("a", metric="capa").report
    assert "target" not in made(None).report
    assert target.warning(None) is None


def test_the_card_and_the_check_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curriculum = made("a")
    text = card.card(curriculum, CurriculumSection(), card.Provenance())
    assert "## Whose answers" in text and "They gave 16.7% of the chosen answers" in text
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("train: {base: nowhere}\n")
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/curriculum.json").write_text(json.dumps(curriculum.report))
    assert any("83% of the chosen answers" in line for line in check(Registry()).warnings)


# --- pair by pair -------------------------------------------------------------------------------------------


def likelihoods() -> pl.DataFrame:
    """Answers of a and b are likely under the model to be trained, those of d unlikely, of c in between."""
    responses = given()[1]
    value = {"a": 0.8, "b": 0.7, "c": 0.4, "d": 0.1}
    return responses.select(
        "prompt_id", "response_id", judge=pl.lit("base"), version=pl.lit("0"),
        score=pl.col("model").replace_strict(value, return_dtype=pl.Float64), status=pl.lit("ok"),
        reason=pl.lit(None, pl.String),
    )  # fmt: skip


def test_pairs_hold_the_likelihood_of_both_answers() -> None:
    pairs = build_judged(given(), likelihoods(), likelihood="base").pairs
    row = pairs.filter(chosen_model="c", rejected_model="d").row(0, named=True)
    assert (row["chosen_likelihood"], row["rejected_likelihood"]) == (0.4, 0.1)
    assert build(given()).pairs["chosen_likelihood"].null_count() == build(given()).pairs.height


def test_pairs_of_likely_answers_alone_and_likely_ones_first() -> None:
    likely = build_judged(given(), likelihoods(), likelihood="base", likelier=0.5)
    assert set(likely.pairs["chosen_model"]) == {"a"}
    assert likely.report["pairs"]["dropped"]["unlikely answer"] == 20
    ordered = build_judged(given(), likelihoods(), likelihood="base", difficulty={"likelihood": 1.0}).pairs
    both = (ordered["chosen_likelihood"] * ordered["rejected_likelihood"]).to_list()
    assert both == sorted(both, reverse=True)


def test_a_filter_without_a_judge_is_refused() -> None:
    with pytest.raises(Exception, match="go by a judge that `likelihood` names"):
        build(given(), likelier=0.5)
