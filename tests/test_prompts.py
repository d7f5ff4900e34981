"""Prompts of every source become one table; a bad row is named by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from karma_plugins import prompts, schemas, tables
from karma_plugins.errors import TableError
from karma_plugins.params import PromptColumns, PromptsSection

ROWS = [
    {"prompt": "What is 2 + 2?", "competency": "reasoning", "reference": "4", "split": "train"},
    {"prompt": "Who wrote Faust?", "competency": "knowledge", "reference": "Goethe", "split": "test"},
]


def jsonl(path: Path, rows: list[Any]) -> PromptsSection:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows), encoding="utf-8")
    return PromptsSection(path=str(path))


def test_formats_give_the_same_table(tmp_path: Path) -> None:
    one = prompts.read(jsonl(tmp_path / "p.jsonl", ROWS))
    pl.DataFrame(ROWS).write_csv(tmp_path / "p.csv")
    pl.DataFrame(ROWS).write_parquet(tmp_path / "p.parquet")
    for name in ("p.csv", "p.parquet"):
        assert prompts.read(PromptsSection(path=str(tmp_path / name))).equals(one)
    assert one.height == 2
    assert set(one["split"]) == {"train", "heldout"}
    tables.check(one, schemas.PROMPTS, where="test")


def test_conversations_and_mapped_columns(tmp_path: Path) -> None:
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    section = jsonl(tmp_path / "p.jsonl", [{"talk": talk, "skill": "chat"}])
    columns = PromptColumns(messages="talk", competency="skill")
    section = section.model_copy(update={"columns": columns, "competencies": {"chat": "instruction"}})
    row = prompts.read(section).row(0, named=True)
    assert row["messages"] == talk
    assert row["competency"] == "instruction"


def test_a_dataset_folder_is_read_by_the_datasets_library(tmp_path: Path) -> None:
    pl.DataFrame(ROWS).write_parquet(tmp_path / "train.parquet")
    section = PromptsSection(dataset=str(tmp_path))
    assert prompts.read(section).height == 2


def test_held_out_share_depends_on_the_prompts_alone(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}.", "competency": "c"} for i in range(400)]
    section = jsonl(tmp_path / "p.jsonl", rows).model_copy(update={"heldout": 0.25})
    table = prompts.read(section)
    share = (table["split"] == "heldout").mean()
    assert 0.15 < share < 0.35
    turned = jsonl(tmp_path / "q.jsonl", rows[::-1]).model_copy(update={"heldout": 0.25})
    assert prompts.read(turned).equals(table)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROWS[0], "{broken"], "line 2: not JSON"),
        ([ROWS[0], "[1]"], "line 2: must be a JSON object"),
        ([ROWS[0], ROWS[0]], "is there twice"),
        ([ROWS[0], ROWS[0] | {"split": "heldout"}], "is also a training prompt"),
        ([{"prompt": "  ", "competency": "c"}], "line 1: the prompt is empty"),
        ([{"messages": [], "competency": "c"}], "line 1: the prompt is empty"),
        ([{"prompt": "Hi"}], "no competency in column 'competency'"),
        (
            [{"text": "Hi", "competency": "c"}],
            "neither 'messages' nor 'prompt' is there (found: text, competency)",
        ),
        ([{"prompt": "Hi", "competency": "c", "split": "odd"}], "split 'odd'"),
        ([{"messages": [{"role": "robot", "content": "x"}], "competency": "c"}], "a message needs 'role'"),
        ([], "holds no prompt"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(TableError) as error:
        prompts.read(jsonl(tmp_path / "p.jsonl", rows))
    assert message in str(error.value)
    assert "p.jsonl" in str(error.value)


def test_a_missing_source_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="does not exist"):
        prompts.read(PromptsSection(path=str(tmp_path / "none.jsonl")))
    with pytest.raises(TableError, match="exactly one of"):
        prompts.read(PromptsSection())
    with pytest.raises(TableError, match=r"dataset 'nobody/nothing' .*hf download --repo-type dataset"):
        prompts.read(PromptsSection(dataset="nobody/nothing"))
