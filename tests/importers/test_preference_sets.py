"""UltraFeedback, its binarised forms and HH-RLHF on hand-made files in the true layouts, with their dirt."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from karma_plugins import tables
from karma_plugins.cli.import_ import command
from karma_plugins.errors import TableError
from karma_plugins.importers.conversations import dialogue as dialogue_of
from karma_plugins.importers.layouts import ultrafeedback
from karma_plugins.importers.recorded_folder import VERY_LONG
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS, RESPONSES, SCORES
from tests.importers.reading import imported, save, written


def answers(out: Path, model: str) -> list[str | None]:
    return tables.read(out / "models" / model / "responses.parquet", RESPONSES)["text"].to_list()


# --- UltraFeedback ------------------------------------------------------------------------------------------


def completion(model: str, text: Any, *ratings: Any, overall: Any = 7.0) -> dict[str, Any]:
    """A completion with ratings for instruction_following, honesty, truthfulness and helpfulness."""
    aspects = dict(zip(ultrafeedback.ASPECTS, ratings, strict=False))
    annotations = {name: {"Rating": rating, "Rationale": "because"} for name, rating in aspects.items()}
    return {
        "model": model, "response": text, "annotations": annotations, "overall_score": overall,
        "principle": "helpfulness", "custom_system_prompt": "Be helpful.", "critique": "fine",
    }  # fmt: skip


def alike(model: str, text: Any, rating: Any, overall: Any = 7.0) -> dict[str, Any]:
    """A completion with one rating for all aspects."""
    return completion(model, text, *[rating] * 4, overall=overall)


def rated(instruction: Any, *completions: Any) -> dict[str, Any]:
    models = [c["model"] for c in completions if isinstance(c, dict) and "model" in c]
    return {
        "source": "evol_instruct",
        "instruction": instruction,
        "models": models,
        "completions": [*completions],
    }


GOOD = rated(
    "Sort a list.",
    completion("gpt-4", "sorted(x)", "5", "5", "5", "5"),
    completion("wizardlm-7b", "no", "1", "N/A", "3", "2"),
)


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.jsonl.gz", "x.parquet"])
def test_ultrafeedback_in_every_file_kind(tmp_path: Path, name: str) -> None:
    counts = written(imported("ultrafeedback", save([GOOD], tmp_path / name)), tmp_path / "out")
    assert counts["answers"] == 2
    said = tables.read(tmp_path / "out/verdicts/judgements.parquet", JUDGEMENTS).join(
        tables.read(tmp_path / "out/models/wizardlm-7b/responses.parquet", RESPONSES), on="response_id"
    )
    found = {row["judge"]: (row["score"], row["status"], row["reason"]) for row in said.iter_rows(named=True)}
    assert found == {
        "instruction_following": (0.0, "ok", None),
        "honesty": (None, "failed", "rated 'N/A'"),
        "truthfulness": (0.5, "ok", None),
        "helpfulness": (0.25, "ok", None),
        "overall_score": (pytest.approx(6 / 9), "ok", None),
    }


def test_ultrafeedback_folder_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    save([rated("One?", completion("a", "1", 1, 1, 1, 1))], folder / "flan.jsonl")
    save([rated("Two?", completion("a", "2", 3, 3, 3, 3))], folder / "evol.jsonl")
    (folder / "README.md").write_text("not data")
    assert written(imported("ultrafeedback", folder), tmp_path / "out")["prompts"] == 2


def test_ultrafeedback_profile_is_the_mean_rating_of_each_aspect(tmp_path: Path) -> None:
    records = [
        rated(f"Question {i}?", completion("a", str(i), rating, "N/A", 2, 5))
        for i, rating in enumerate((1, 3, 5))
    ]
    written(imported("ultrafeedback", save(records, tmp_path / "x.json")), tmp_path / "out")
    scores = tables.read(tmp_path / "out/models/a/scores.parquet", SCORES)
    found = {
        row["task"]: (row["competency"], row["score"], row["stderr"], row["n"])
        for row in scores.iter_rows(named=True)
    }
    assert found["instruction_following"] == ("instruction", 0.5, pytest.approx(0.5 / 3**0.5), 3)
    assert found["honesty"] == ("honesty", None, None, 0)
    assert found["truthfulness"] == ("truthfulness", 0.25, 0.0, 3)


def test_ultrafeedback_dirt(tmp_path: Path) -> None:
    records = [
        GOOD,
        rated("Equal?", alike("a", "x", 3), alike("b", "y", 3)),
        rated("Wrong overall?", alike("a", "bad", 1, overall=10), alike("b", "good", 5, overall=10)),
        rated("Unrated?", {"model": "a", "response": "x"}, alike("b", "", 1), alike("c", None, 2)),
        rated("Twice?", alike("a", "first", 1), alike("a", "second", 5), {"response": "whose?"}, "junk"),
        rated("Odd ratings?", completion("a", "x", 6, 0, True, "five")),
        rated("Sort a list.", alike("gpt-4", "again", "5"), alike("c", "new", 4)),
        rated("Ответь по-русски", alike("a", "Конечно, вот ответ.", 4)),
        rated("Long?", alike("a", "é" * VERY_LONG + "é", 4)),
        rated("Nothing?"),
        rated("  ", alike("a", "x", 1)),
        {"completions": [alike("a", "x", 1)]},
    ]
    counts = written(imported("ultrafeedback", save(records, tmp_path / "x.jsonl")), tmp_path / "out")
    expected = {
        "prompts": 8, "prompts_with_equal_ratings": 1, "overall_scores_contradicted": 1, "answers_empty": 1,
        "completions_without_ratings": 2, "answers_missing": 1, "answers_repeated": 2, "prompts_repeated": 1,
        "completions_without_model": 2, "answers_in_other_scripts": 1, "answers_very_long": 1,
        "records_without_completions": 1, "records_without_instruction": 2,
    }  # fmt: skip
    assert {name: counts[name] for name in expected} == expected
    assert "é" * VERY_LONG + "é" in answers(tmp_path / "out", "a")
    assert "second" not in answers(tmp_path / "out", "a")
    said = tables.read(tmp_path / "out/verdicts/judgements.parquet", JUDGEMENTS)
    assert said.filter(pl.col("score").is_null() != (pl.col("status") == "failed")).is_empty()
    assert {"rated '6'", "rated '0'", "rated 'True'", "rated 'five'", "not rated"} <= set(said["reason"])


def test_ultrafeedback_of_another_layout(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no record has 'instruction' and 'completions'"):
        imported("ultrafeedback", save([{"prompt": "x"}], tmp_path / "x.json"))


# --- binarised ----------------------------------------------------------------------------------------------


def conversation(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def binarized(prompt: str, chosen: Any, rejected: Any, high: Any = 8.0, low: Any = 4.0) -> dict[str, Any]:
    return {
        "prompt": prompt, "prompt_id": "x", "chosen": conversation(prompt, chosen), "score_chosen": high,
        "rejected": conversation(prompt, rejected), "score_rejected": low,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.jsonl.gz", "x.parquet"])
def test_binarized_in_every_file_kind(tmp_path: Path, name: str) -> None:
    counts = written(
        imported(
            "ultrafeedback-binarized", save([binarized("Q?", "good", "bad", 10.0, 1.0)], tmp_path / name)
        ),
        tmp_path / "out",
    )
    assert counts["pairs"] == 1
    assert answers(tmp_path / "out", "chosen") == ["good"]
    said = tables.read(tmp_path / "out/verdicts/judgements.parquet", JUDGEMENTS)
    assert sorted(said["score"]) == [0.0, 1.0]


def test_binarized_with_models_and_ratings_from_1_to_5(tmp_path: Path) -> None:
    record = {
        "source": "flan", "prompt": "Q?", "chosen": conversation("Q?", "good"), "chosen-rating": 5.0,
        "chosen-model": "gpt-4", "rejected": conversation("Q?", "bad"), "rejected-rating": 3.0,
        "rejected-model": "mpt.30b",
    }  # fmt: skip
    written(imported("ultrafeedback-binarized", save([record], tmp_path / "x.parquet")), tmp_path / "out")
    assert answers(tmp_path / "out", "gpt-4") == ["good"]
    assert answers(tmp_path / "out", "mpt-30b") == ["bad"]
    assert sorted(tables.read(tmp_path / "out/verdicts/judgements.parquet", JUDGEMENTS)["score"]) == [
        0.5,
        1.0,
    ]


def test_binarized_dirt(tmp_path: Path) -> None:
    records = [
        binarized("Plain?", "good", "bad"),
        binarized("Tie?", "good", "bad", 7.0, 7.0),
        binarized("Reversed?", "good", "bad", 2.0, 9.0),
        binarized("Unscored?", "good", "bad", None, 3.0),
        binarized("Out of scale?", "good", "bad", 11.0, 0.0),
        binarized("Same?", "one", " one "),
        binarized("Empty?", "good", ""),
        binarized("Plain?", "other", "bad"),
        {**binarized("Asked?", "a", "b"), "rejected": conversation("Another?", "b")},
        {**binarized("Broken?", "a", "b"), "chosen": "no conversation", "prompt": None},
        {"prompt": "Texts?", "chosen": "good", "rejected": "bad", "score_chosen": 3, "score_rejected": 2},
        {**binarized("Last is asked?", "a", "b"), "chosen": conversation("Q?")},
    ]
    counts = written(
        imported("ultrafeedback-binarized", save(records, tmp_path / "x.jsonl")), tmp_path / "out"
    )
    expected = {
        "pairs": 7, "pairs_with_equal_scores": 1, "pairs_with_scores_against_the_label": 1,
        "pairs_with_identical_answers": 1,
        "pairs_with_empty_answer": 1, "pairs_of_repeated_prompt": 1, "pairs_with_different_prompts": 1,
        "records_without_pair": 1, "pairs_without_an_answer_at_the_end": 1,
    }  # fmt: skip
    assert {name: counts[name] for name in expected} == expected
    said = tables.read(tmp_path / "out/verdicts/judgements.parquet", JUDGEMENTS)
    assert said.filter(pl.col("status") == "failed").height == 1 + 2
    assert set(said["reason"].drop_nulls()) == {"no score in its scale"}
    labels = tables.read(tmp_path / "out/verdicts/comparisons.parquet", COMPARISONS)
    assert labels.height == 7 and set(labels["p_a"]) == {1.0} and set(labels["judge"]) == {"label"}


# --- HH-RLHF ------------------------------------------------------------------------------------------------


def dialogue(*texts: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[i % 2]}: {text}" for i, text in enumerate(texts))


def test_hh_dialogues_keep_their_turns_and_order(tmp_path: Path) -> None:
    talk = ("Hi", "Hello! How can I help?", "Tell me a joke.\n\nA short one.")
    records = [{"chosen": dialogue(*talk, "Knock knock."), "rejected": dialogue(*talk, "No.")}]
    counts = written(imported("hh-rlhf", save(records, tmp_path / "train.jsonl.gz")), tmp_path / "out")
    assert counts["pairs"] == 1
    (line,) = [json.loads(line) for line in (tmp_path / "out/prompts.jsonl").read_text().splitlines()]
    assert line["messages"] == conversation(*talk)
    said = tables.read(tmp_path / "out/verdicts/comparisons.parquet", COMPARISONS).row(0, named=True)
    chosen = tables.read(tmp_path / "out/models/chosen/responses.parquet", RESPONSES).row(0, named=True)
    assert (said["response_a"], said["p_a"], said["judge"]) == (chosen["response_id"], 1.0, "human")
    assert chosen["text"] == "Knock knock."
    assert answers(tmp_path / "out", "rejected") == ["No."]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello there",
        "\n\nAssistant: Nobody asked.",
        "\n\nHuman: Hi",
        "\n\nHuman: Hi\n\nHuman: Hello?\n\nAssistant: Yes",
        "\n\nHuman: Hi\n\nAssistant: One\n\nAssistant: Two",
        "\n\nHuman: Hi\n\nAssistant: One\n\nHuman: And?",
        "\n\nHuman:  \n\nAssistant: One",
        "Preface\n\nHuman: Hi\n\nAssistant: One",
    ],
)
def test_unbalanced_dialogues(text: str) -> None:
    assert dialogue_of(text) is None


def test_hh_dirt(tmp_path: Path) -> None:
    long = "long " * VERY_LONG
    records = [
        {"chosen": dialogue("Hi", "Hello."), "rejected": dialogue("Hi", "Go away.")},
        {"chosen": dialogue("Same?", "One"), "rejected": dialogue("Same?", "One")},
        {"chosen": dialogue("Empty?", ""), "rejected": dialogue("Empty?", "One")},
        {"chosen": dialogue("Unbalanced?", "a", "b"), "rejected": dialogue("Unbalanced?", "a", "c")},
        {"chosen": dialogue("Earlier?", "a", "b", "c"), "rejected": dialogue("Earlier?", "x", "b", "d")},
        {"chosen": dialogue("Hi", "Hey."), "rejected": dialogue("Hi", "Shoo.")},
        {"chosen": dialogue("你好", "你好，我能帮你什么？"), "rejected": dialogue("你好", "走开")},
        {"chosen": dialogue("Long?", long), "rejected": dialogue("Long?", "short")},
        {"chosen": None, "rejected": dialogue("Hi", "One")},
        {"text": "another set"},
    ]
    counts = written(imported("hh-rlhf", save(records, tmp_path / "x.jsonl")), tmp_path / "out")
    expected = {
        "pairs": 4, "pairs_with_identical_answers": 1, "pairs_with_empty_answer": 1,
        "pairs_with_unbalanced_dialogue": 1,
        "pairs_with_different_prompts": 1, "pairs_of_repeated_prompt": 1, "answers_in_other_scripts": 2,
        "answers_very_long": 1, "records_without_pair": 2,
    }  # fmt: skip
    assert {name: counts[name] for name in expected} == expected
    assert long.strip() in answers(tmp_path / "out", "chosen")


# --- all of them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("ultrafeedback", GOOD),
        ("ultrafeedback-binarized", binarized("Q?", "good", "bad")),
        ("hh-rlhf", {"chosen": dialogue("Hi", "Hello."), "rejected": dialogue("Hi", "Go away.")}),
    ],
)
def test_commands_write_a_folder_twice_with_the_same_bytes(
    tmp_path: Path, name: str, record: dict[str, Any]
) -> None:
    source, out = save([record], tmp_path / "x.jsonl"), tmp_path / "out"
    taken = []
    for _ in range(2):
        told = CliRunner().invoke(command, [name, str(source), "--out", str(out)])
        assert told.exit_code == 0, told.output
        assert "models.yaml" in told.output
        taken.append({file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()})
    assert taken[0] == taken[1]
    for model in out.glob("models/*"):
        assert tables.read(model / "scores.parquet", SCORES).height > 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"chosen": \n', "line 1: not JSON"),
        ("x.jsonl", b"[1]\n", "line 1: must be a JSON object"),
        ("x.jsonl.gz", b"no gzip", "not readable"),
        ("x.jsonl.gz", gzip.compress(b"{}\n" * 9999, mtime=0)[:-20], "not readable"),
        ("x.json.gz", b"no gzip", "not readable"),
        ("x.parquet", b"no parquet", "not a readable parquet file"),
        ("x.txt", b"a,b\n", "is no .json, .jsonl, .csv, .parquet file"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=message):
        imported("hh-rlhf", tmp_path / name)
