"""Kinship of style: how models write, whatever they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from karma_plugins import schemas
from karma_plugins.contracts import Evidence
from karma_plugins.errors import PluginError
from karma_plugins.families import members, relative
from karma_plugins.kinship.metrics import style
from karma_plugins.testing import KinshipMetricContract
from tests.kinship.metrics.test_answers import evidence, responses
from tests.kinship.quizzes import pair

FORMS = {"plain": "{}", "equals": "= {} !", "brackets": "({}) ok"}
HAN = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏"


def spoken(
    forms: dict[str, str],
    strength: float = 1.0,
    prompts: int = 120,
    letters: str = "abcdefghij",
    seed: int = 0,
) -> dict[str, list[str | None]]:
    """Models that say words by chance, each a word of its own, in a form for a share of the answers."""
    rng = np.random.default_rng(seed)
    return {
        model: [
            (FORMS[form] if rng.random() < strength else "{}").format("".join(rng.choice(list(letters), 5)))
            for _ in range(prompts)
        ]
        for model, form in forms.items()
    }


def measured(texts: dict[str, list[str | None]], **options: Any) -> pl.DataFrame:
    return style.measure(evidence(responses(texts)), style.StyleOptions(**options))


POOL = {"a1": "plain", "a2": "plain", "b1": "equals", "b2": "equals", "c1": "brackets", "c2": "brackets"}


class TestContract(KinshipMetricContract):
    plugin = style.karma_register_kinship_metrics()[0]

    def evidence(self) -> Evidence:
        return evidence(responses(spoken(POOL, prompts=20)))


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("letters", ["abcdefghij", HAN])
def test_models_of_a_form_are_kin_whatever_they_say_and_in_any_script(strength: float, letters: str) -> None:
    frame = measured(spoken(POOL, strength, letters=letters))
    frame = frame.with_columns(kinship=relative(frame))
    within = [pair(frame, f"{form}1", f"{form}2")["kinship"] for form in "abc"]
    across = frame.filter(pl.col("model_a").str.head(1) != pl.col("model_b").str.head(1))["kinship"]
    assert min(within) > 0.6
    assert max(across) < 0.4
    assert [len(names) for names in members(frame)] == [2, 2, 2]


def test_where_all_write_alike_all_are_kin() -> None:
    frame = measured(spoken(dict.fromkeys(POOL, "plain")))
    assert frame["kinship"].min() > 0.5


def test_two_models_are_told_apart_too() -> None:
    apart = measured(spoken({"a": "plain", "b": "brackets"}))
    alike = measured(spoken({"a": "plain", "b": "plain"}))
    assert pair(apart, "a", "b")["kinship"] < 0.1
    assert pair(alike, "a", "b")["kinship"] > 0.8


def test_the_interval_holds_the_estimate_and_narrows_with_more_prompts() -> None:
    few, many = (measured(spoken(POOL, 0.4, prompts=n)) for n in (30, 600))
    for frame in (few, many):
        assert frame.filter(~pl.col("kinship").is_between(pl.col("low"), pl.col("high"))).is_empty()
    wide, narrow = (pair(f, "a1", "a2")["high"] - pair(f, "a1", "a2")["low"] for f in (few, many))
    assert narrow < wide


def test_consistency_grows_with_the_prompts_and_stays_below_one() -> None:
    few, many = (pair(measured(spoken(POOL, 0.4, prompts=n)), "b1", "b2")["consistency"] for n in (30, 600))
    assert 0 <= few < many <= 1


def test_each_competency_is_measured_where_prompts_are_given() -> None:
    given = evidence(responses(spoken(POOL, prompts=60)))
    ids = given.responses["prompt_id"].unique().sort()  # type: ignore[index]
    prompts = pl.DataFrame(
        {"prompt_id": ids, "competency": ["knowledge" if i % 2 else "reasoning" for i in range(len(ids))]}
    )
    frame = style.measure(replace(given, prompts=prompts), style.StyleOptions())
    assert set(frame["competency"]) == {None, "knowledge", "reasoning"}
    assert set(frame.filter(competency="knowledge")["n_items"]) == {30}


def test_of_many_prompts_a_stated_sample_decides() -> None:
    row = pair(measured(spoken(POOL, prompts=100), prompts=40), "a1", "a2")
    assert (row["n_items"], row["missing"]) == (40, "sample: 40 of 100 prompts")


def test_a_model_without_answers_is_unknown_and_changes_no_other() -> None:
    texts = spoken(POOL, prompts=40)
    with_silent = measured({**texts, "mute": [None] * 40})
    row = pair(with_silent, "a1", "mute")
    assert (row["kinship"], row["reason"]) == (None, "a model answered nothing")
    assert pair(with_silent, "a1", "a2")["kinship"] == pair(measured(texts), "a1", "a2")["kinship"]


def test_the_order_of_rows_changes_nothing() -> None:
    table = responses(spoken(POOL, prompts=30))
    one, other = (
        style.measure(evidence(t.sort(schemas.RESPONSES.key)), style.StyleOptions())
        for t in (table, table.sample(fraction=1.0, shuffle=True, seed=1))
    )
    assert one.equals(other)


def test_without_responses_it_says_what_to_do() -> None:
    given = Evidence([], schemas.SCORES.empty(), schemas.ITEMS.empty())
    with pytest.raises(PluginError, match="Add data/responses to the deps of stage kinship"):
        style.measure(given, style.StyleOptions())
