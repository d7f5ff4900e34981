from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from karma_plugins import profiling
from karma_plugins.contracts import Model, Options, Profile, Profiler
from karma_plugins.errors import ModelError, ParamsError, PluginError
from karma_plugins.registry import Bound
from karma_plugins.registry.manager import OURS
from karma_plugins.schemas import ITEMS, SCORES

MODEL = Model("parrot", Path("parrot"), None)
TASKS = {"knowledge": ["mmlu", "arc"], "reasoning": ["gsm8k"]}


def scores(*rows) -> pl.DataFrame:
    return pl.DataFrame(
        [(model, competency, task, "acc", score, None, None) for model, competency, task, score in rows],
        schema=SCORES.columns,
        orient="row",
    )


GOOD = scores(
    ("parrot", "reasoning", "gsm8k", None),
    ("parrot", "knowledge", "mmlu", 0.25),
    ("parrot", "knowledge", "arc", 0.75),
)


def bound(answer) -> Bound[Profiler]:
    return Bound("guess", Profiler(name="guess", profile=answer), Options(), OURS)


def test_tables_come_back_checked_and_in_order():
    found = profiling.profile(MODEL, bound(lambda *_: Profile(GOOD, ITEMS.empty())), TASKS)
    assert found.scores["task"].to_list() == ["arc", "mmlu", "gsm8k"]
    assert profiling.competencies(found.scores) == {"knowledge": 0.5}


def test_a_competency_without_a_task_stops():
    with pytest.raises(ParamsError, match="competency 'writing' has no task"):
        profiling.profile(MODEL, bound(lambda *_: Profile(GOOD, ITEMS.empty())), {**TASKS, "writing": []})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (scores(("parrot", "knowledge", "mmlu", 0.5)), "no score for competency 'reasoning'"),
        (GOOD.with_columns(score=pl.lit(1.5)), r"score 1.5 of task .* is not in \[0,1\]"),
        (GOOD.with_columns(model=pl.lit("crow")), "a row of model 'crow'"),
        (GOOD.rename({"score": "points"}), "column 'score' of table scores is missing"),
    ],
)
def test_a_broken_profiler_is_named(table, message):
    with pytest.raises(PluginError, match=message) as caught:
        profiling.profile(MODEL, bound(lambda *_: Profile(table, ITEMS.empty())), TASKS)
    assert "guess" in str(caught.value)


def test_what_a_profiler_raises():
    def mendable(*_):
        raise ModelError("mend me")

    with pytest.raises(ModelError, match="mend me"):
        profiling.profile(MODEL, bound(mendable), TASKS)
    with pytest.raises(PluginError, match="profiler 'guess'.*ZeroDivisionError"):
        profiling.profile(MODEL, bound(lambda *_: 1 / 0), TASKS)
