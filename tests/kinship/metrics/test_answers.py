"""Kinship of answers: texts compared prompt by prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from karma_plugins import schemas
from karma_plugins.contracts import Evidence, Model
from karma_plugins.errors import PluginError
from karma_plugins.kinship.metrics import answers
from karma_plugins.testing import KinshipMetricContract
from tests.kinship.quizzes import pair

LONG = "the quick brown fox jumps over the lazy dog number "


def responses(texts: dict[str, list[str | None]], samples: int = 1) -> pl.DataFrame:
    rows = [
        {
            "response_id": f"{m}{i:03}", "prompt_id": f"p{i // samples:03}", "model": m,
            "sample": i % samples, "text": text, "error": None if text is not None else "no answer",
        }
        for m, row in texts.items()
        for i, text in enumerate(row)
    ]  # fmt: skip
    columns = schemas.RESPONSES.columns
    return pl.DataFrame(
        rows, schema_overrides={k: v for k, v in columns.items() if k in rows[0]}
    ).with_columns(pl.lit(None, t).alias(c) for c, t in columns.items() if c not in rows[0])


def measured(texts: dict[str, list[str | None]], given: int = 1, **options: Any) -> pl.DataFrame:
    return answers.measure(evidence(responses(texts, given)), answers.AnswersOptions(**options))


def evidence(table: pl.DataFrame) -> Evidence:
    models = [Model(m, Path(m), None) for m in sorted(set(table["model"]))]
    return Evidence(models, schemas.SCORES.empty(), schemas.ITEMS.empty(), table)


class TestContract(KinshipMetricContract):
    plugin = answers.karma_register_kinship_metrics()[0]

    def evidence(self) -> Evidence:
        texts = {
            "twin-a": [LONG + str(i) for i in range(5)],
            "twin-b": [LONG + str(i) for i in range(5)],
            "stranger": [f"{i} completely different words in this answer" for i in range(5)],
        }
        return evidence(responses(dict(texts)))


def test_equal_answers_are_one_and_others_near_zero() -> None:
    same = [f"{i} {LONG}" for i in range(20)]
    frame = measured(
        {"a": list(same), "b": list(same), "c": [f"{i} nothing shared here at all {i}" for i in range(20)]}
    )
    row = pair(frame, "a", "b")
    assert (row["kinship"], row["low"], row["high"], row["n_items"]) == (1.0, 1.0, 1.0, 20)
    assert pair(frame, "a", "c")["kinship"] < 0.1


def test_half_of_the_prompts_alike_is_about_a_half_with_a_wide_interval() -> None:
    one: list[str | None] = [f"{LONG} {i}" for i in range(20)]
    other = [text if i % 2 else f"{i * 7919} no such thing here {i}" for i, text in enumerate(one)]
    row = pair(measured({"a": one, "b": other}), "a", "b")
    assert row["kinship"] == pytest.approx(0.5, abs=0.1)
    assert row["low"] < 0.4 < 0.6 < row["high"]


def test_failed_answers_are_left_out_and_said() -> None:
    row = pair(measured({"a": [LONG, LONG, None], "b": [LONG, None, LONG]}), "a", "b")
    assert (row["n_items"], row["missing"]) == (1, "shared: 1 of 3 prompts")
    alone = pair(measured({"a": [LONG, None], "b": [None, LONG]}), "a", "b")
    assert (alone["kinship"], alone["reason"]) == (None, "no prompt that both answered")


def test_samples_are_compared_each_with_each() -> None:
    table: dict[str, list[str | None]] = {"a": [LONG, LONG], "b": [LONG, "something else entirely, you know"]}
    assert pair(measured(table, 2), "a", "b")["kinship"] == pytest.approx(0.5, abs=0.05)
    assert pair(measured(table, 2, samples=1), "a", "b")["kinship"] == 1.0


def test_without_responses_it_says_what_to_do() -> None:
    given = Evidence([], schemas.SCORES.empty(), schemas.ITEMS.empty())
    with pytest.raises(PluginError, match="Add data/responses to the deps of stage kinship"):
        answers.measure(given, answers.AnswersOptions())
