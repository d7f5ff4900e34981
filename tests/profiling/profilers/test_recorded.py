from __future__ import annotations

import polars as pl
import pytest

from karma_plugins import models
from karma_plugins.contracts import Options
from karma_plugins.errors import ModelError, TableError
from karma_plugins.profiling.profilers.recorded import profile
from karma_plugins.schemas import ITEMS, SCORES
from karma_plugins.tables import check, write


def write_scores(folder, *rows) -> None:
    frame = pl.DataFrame(
        [("parrot", competency, task, "acc", score, None, None) for competency, task, score in rows],
        schema=SCORES.columns,
        orient="row",
    )
    write(frame, folder / "scores.parquet", SCORES)


def test_scores_as_they_are(tmp_path):
    write_scores(tmp_path, ("knowledge", "mmlu", 0.5), ("reasoning", "gsm8k", None))
    found = profile(models.load("parrot", tmp_path), {}, Options())
    assert found.scores.select("task", "score").rows() == [("mmlu", 0.5), ("gsm8k", None)]
    assert found.items.height == 0


def test_the_named_tasks_in_the_competency_that_names_them(tmp_path):
    write_scores(tmp_path, ("other", "mmlu", 0.5), ("other", "arc", 0.7))
    items = pl.DataFrame(
        {"model": ["parrot"] * 2, "competency": ["x"] * 2, "task": ["mmlu", "arc"], "item_id": ["1", "2"],
         "correct": [1.0, 0.0], "choice": None, "answer": None, "n_choices": None, "choice_probs": None},
        schema=ITEMS.columns,
    )  # fmt: skip
    write(items, tmp_path / "items.parquet", ITEMS)
    tasks = {"knowledge": ["mmlu"], "reasoning": ["gsm8k"]}
    found = profile(models.load("parrot", tmp_path), tasks, Options())
    check(found.scores, SCORES, where="scores")
    rows = found.scores.select("competency", "task", "score").sort("task").rows()
    assert rows == [("reasoning", "gsm8k", None), ("knowledge", "mmlu", 0.5)]
    assert check(found.items, ITEMS, where="items").select("competency", "task").rows() == [
        ("knowledge", "mmlu")
    ]


def test_a_model_without_scores_has_a_null_for_each_task(tmp_path):
    (tmp_path / "responses.jsonl").write_text("")
    found = profile(models.load("parrot", tmp_path), {"knowledge": ["mmlu", "arc"]}, Options())
    assert found.scores["score"].null_count() == found.scores.height == 2
    assert set(found.scores["model"]) == {"parrot"}


def test_wrong_scores_stop_with_one_line(tmp_path):
    write_scores(tmp_path, ("knowledge", "mmlu", 50.0))
    with pytest.raises(TableError, match=r"score 50.0 of task 'mmlu' is not in \[0,1\]"):
        profile(models.load("parrot", tmp_path), {}, Options())
    with pytest.raises(TableError, match="rows of model 'parrot', not 'crow'"):
        profile(models.load("crow", tmp_path), {}, Options())


def test_a_model_without_recordings_says_so(tmp_path):
    path = tmp_path / "there.yaml"
    path.write_text("endpoint: http://127.0.0.1:1/v1\nmodel: x\n")
    with pytest.raises(ModelError, match="needs a folder of recorded"):
        profile(models.load("far", path), {}, Options())
