from __future__ import annotations

import json

import polars as pl
import pytest

from karma_plugins import generation, models
from karma_plugins.contracts import Options
from karma_plugins.errors import ModelError, TableError
from karma_plugins.generation.generators import recorded
from karma_plugins.params import GenerateSection
from karma_plugins.prompts import prompt_id
from karma_plugins.registry import Bound
from karma_plugins.registry.manager import OURS
from karma_plugins.schemas import PROMPTS, RESPONSES
from karma_plugins.tables import check

QUESTIONS = ["one?", "two?", "three?"]
MESSAGES = [[{"role": "user", "content": text}] for text in QUESTIONS]
IDS = [prompt_id(m) for m in MESSAGES]
ASKED = pl.DataFrame(
    {
        "prompt_id": IDS,
        "messages": MESSAGES,
        "competency": ["knowledge"] * 3,
        "reference": [None] * 3,
        "constraints": [None] * 3,
        "split": ["train", "train", "heldout"],
    },
    schema=PROMPTS.columns,
)


def recall(folder, samples=1, **flags) -> pl.DataFrame:
    generator = Bound("recorded", recorded.karma_register_generators()[0], Options(), OURS)
    model = models.load("parrot", folder)
    return generation.generate(ASKED, model, generator, GenerateSection(samples=samples), **flags)


def write_lines(folder, *records) -> None:
    folder.mkdir(exist_ok=True)
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / "responses.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_answers_by_id_by_messages_and_by_prompt(tmp_path):
    write_lines(
        tmp_path,
        {"prompt_id": IDS[0], "text": "1", "finish_reason": "stop", "completion_tokens": 1},
        {"messages": MESSAGES[1], "text": "2", "sample": 0, "judge": "ignored"},
        {"prompt": QUESTIONS[1], "text": "II", "sample": 1},
        {"prompt": QUESTIONS[2], "text": "3"},
    )
    table = recall(tmp_path, samples=2)
    check(table, RESPONSES, where="test")
    texts = {(p, s): t for p, s, t in table.select("prompt_id", "sample", "text").iter_rows()}
    assert texts == {(IDS[0], 0): "1", (IDS[0], 1): None, (IDS[1], 0): "2", (IDS[1], 1): "II"}
    assert table.filter(pl.col("text").is_null())["error"].to_list() == ["no recorded answer"]
    assert table["seed"].null_count() == 4
    assert recall(tmp_path, split="heldout")["text"].to_list() == ["3"]


def test_answers_from_a_table(tmp_path):
    frame = pl.DataFrame(
        {"prompt_id": IDS[:2], "text": ["1", None], "error": [None, "timeout"], "model": "parrot"}
    )
    frame.write_parquet(tmp_path / "responses.parquet")
    table = recall(tmp_path).sort("text")
    assert table["text"].to_list() == [None, "1"]
    assert table["error"].to_list() == ["timeout", None]


def test_an_answer_without_text_is_a_failure_and_an_empty_one_is_an_answer(tmp_path):
    write_lines(tmp_path, {"prompt_id": IDS[0], "text": None}, {"prompt_id": IDS[1], "text": ""})
    table = recall(tmp_path)
    found = dict(table.select("prompt_id", "error").iter_rows())
    assert found == {IDS[0]: "recorded without a text", IDS[1]: None}


def test_ids_hash_what_is_said(tmp_path):
    write_lines(tmp_path, {"prompt_id": IDS[0], "text": "1"})
    first = recall(tmp_path)["response_id"].to_list()
    write_lines(tmp_path, {"prompt_id": IDS[0], "text": "other"})
    second = recall(tmp_path)["response_id"].to_list()
    assert len({*first, *second}) == 3


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"text": ', "line 2: not JSON"),
        ("[1]", "line 2: must be a JSON object"),
        ({"prompt_id": IDS[0], "test": "x"}, "key 'text' is missing. Did you mean 'test'"),
        ({"prompt_id": IDS[0], "text": 5}, "'text' must be of type str, found 5"),
        ({"prompt_id": IDS[0], "text": "x", "sample": True}, "'sample' must be of type int, found True"),
        ({"prompt_id": IDS[0], "text": "x", "sample": -1}, "'sample' must be a number from 0, found -1"),
        (
            {"prompt_id": IDS[0], "text": "x", "prompt_tokens": 10**30},
            "'prompt_tokens' must be a number from 0",
        ),
        ({"messages": "hi", "text": "x"}, "'messages' must be a list"),
        ({"prompt": "unheard of?", "text": "x"}, r"line 2: it answers prompt \w{16} \('unheard of\?'\)"),
        ({"prompt_id": "0" * 16, "text": "x"}, "line 2: it answers prompt 0000000000000000"),
        ({"prompt_id": IDS[1], "text": "again"}, f"two answers to prompt {IDS[1]}, sample 0"),
        ({"prompt_id": IDS[0], "text": "x", "model": "crow"}, "by model 'crow', not 'parrot'"),
    ],
)
def test_a_wrong_row_stops_with_one_line(tmp_path, record, message):
    write_lines(tmp_path, {"prompt_id": IDS[1], "text": "fine"}, record)
    with pytest.raises(TableError, match=message) as caught:
        recall(tmp_path)
    assert "\n" not in str(caught.value)
    assert "responses.jsonl" in str(caught.value)


def test_a_wrong_table_stops_with_one_line(tmp_path):
    odd = pl.DataFrame({"prompt_id": IDS, "text": IDS, "sample": [-1] * len(IDS)})
    odd.write_parquet(tmp_path / "responses.parquet")
    with pytest.raises(TableError, match="row 1: 'sample' must be a number from 0"):
        recall(tmp_path)
    pl.DataFrame({"prompt_id": IDS, "txt": IDS}).write_parquet(tmp_path / "responses.parquet")
    with pytest.raises(TableError, match="column 'text' is missing. Did you mean 'txt'"):
        recall(tmp_path)
    (tmp_path / "responses.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(TableError, match="not readable"):
        recall(tmp_path)


def test_a_model_without_recorded_answers_says_so(tmp_path):
    path = tmp_path / "there.yaml"
    path.write_text("endpoint: http://127.0.0.1:1/v1\nmodel: x\n")
    with pytest.raises(ModelError, match=r"responses\.parquet"):
        recall(path)


def test_a_conversation_under_prompt_marks_and_blank_lines(tmp_path):
    row = {"prompt": [{"role": "user", "content": "unheard of?"}], "text": "x"}
    write_lines(tmp_path, {"prompt_id": IDS[0], "text": "fine"})
    path = tmp_path / "responses.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n\n")
    assert recall(tmp_path).height
    write_lines(tmp_path, {"prompt_id": IDS[0], "text": "fine"}, row)
    with pytest.raises(TableError, match=r"line 2: it answers prompt \w{16} \('unheard of\?'\)"):
        recall(tmp_path)
