"""People judge: tasks go out blind, what they said comes back as a judge of its own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from karma_plugins import schemas, tables
from karma_plugins.contracts import Tables
from karma_plugins.curriculum import Curriculum
from karma_plugins.errors import EmptyResultError, TableError
from karma_plugins.exporters.labelling import TaskOptions, as_text, tasks
from karma_plugins.exporters.layouts import argilla, label_studio
from karma_plugins.exporters.layouts.argilla import ArgillaOptions
from karma_plugins.importers import RecordedFolder
from tests.curriculum.curriculum_cases import build, by_chance
from tests.importers.reading import imported, save


@pytest.fixture(scope="module")
def made() -> Curriculum:
    return build(by_chance(60), "random", per_prompt=1)


def handed(pairs: pl.DataFrame) -> Tables:
    return Tables({"pairs": pairs}.__getitem__)


def chosen_first(made: Curriculum, key: str) -> bool:
    """Whether a task shows the chosen answer first."""
    _, first, second = key.split(".")
    row = made.pairs.filter(
        pl.col("chosen_id").is_in([first, second]), pl.col("rejected_id").is_in([first, second])
    )
    return bool(row["chosen_id"].item() == first)


def test_tasks_are_blind_and_shuffled_by_the_seed(made: Curriculum) -> None:
    todo = tasks(handed(made.pairs), TaskOptions())
    assert len(todo) == made.pairs.height
    shown = [chosen_first(made, task.key) for task in todo]
    assert 0.3 < sum(shown) / len(shown) < 0.7, "which answer comes first must be chance"
    assert [task.key for task in todo] == [
        task.key for task in tasks(handed(made.pairs.reverse()), TaskOptions())
    ]
    assert [task.key for task in todo] != [
        task.key for task in tasks(handed(made.pairs), TaskOptions(seed=1))
    ]


def test_a_sample_is_spread_over_the_strata(made: Curriculum) -> None:
    pairs = made.pairs.with_columns(
        competency=pl.when(pl.col("order") < 12).then(pl.lit("few")).otherwise(pl.lit("many"))
    )
    drawn = tasks(handed(pairs), TaskOptions(sample=20))
    assert len(drawn) == 20
    counts = Counter(task.stratum for task in drawn)
    assert abs(counts["few"] - 20 * 12 / pairs.height) <= 1
    assert len(tasks(handed(pairs), TaskOptions(sample=10_000))) == pairs.height


def test_single_answers_can_be_rated(made: Curriculum) -> None:
    prompts, responses, _, _ = by_chance(3)
    read = {"prompts": prompts, "responses": responses}.__getitem__
    todo = tasks(Tables(read), TaskOptions(unit="answers"))
    assert len(todo) == responses.filter(pl.col("text").str.strip_chars() != "").height
    assert all(len(task.texts) == 1 for task in todo)


def test_nothing_to_judge_is_said() -> None:
    with pytest.raises(EmptyResultError, match="no answer with text"):
        tasks(handed(schemas.PAIRS.empty()), TaskOptions())


def test_a_conversation_as_one_text() -> None:
    turns = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A"}]
    assert as_text(turns) == "User: Q?\n\nAssistant: A"
    assert as_text(turns[:1]) == "Q?"


def test_nothing_tells_who_answered(made: Curriculum, tmp_path: Path) -> None:
    """Models are called like nothing else in the files."""
    pairs = made.pairs.with_columns(chosen_model=pl.lit("zephyr-9"), rejected_model=pl.lit("mistral-9"))
    label_studio.write(handed(pairs), tmp_path / "ls", TaskOptions(stratum="models"))
    argilla.write(handed(pairs), tmp_path / "ar", ArgillaOptions(stratum="models"))
    for file in tmp_path.rglob("*.*"):
        text = file.read_text(encoding="utf-8")
        assert not any(word in text for word in ("zephyr", "mistral", "chosen", "rejected", "reward"))


# --- and back -----------------------------------------------------------------------------------------------


def keys_of(folder: Path) -> list[str]:
    if (folder / "tasks.json").is_file():
        return [task["data"]["task_key"] for task in json.loads((folder / "tasks.json").read_text())]
    return [record["id"] for record in json.loads((folder / "records.json").read_text())]


def annotated(key: str, *said: tuple[Any, Any]) -> dict[str, Any]:
    """A task as Label Studio's JSON export has it."""
    return {
        "id": 1, "data": {"task_key": key}, "annotations": [
            {"id": i, "completed_by": who, "was_cancelled": what is None, "result": [] if what is None else [
                {"from_name": "preference", "type": "choices", "value": {"choices": [what]}}
            ]}
            for i, (who, what) in enumerate(said)
        ],
    }  # fmt: skip


def comparisons(folder: RecordedFolder, judge: str) -> dict[str, tuple[float, str]]:
    rows = folder.comparisons().filter(judge=judge)
    return {
        f"{row['prompt_id']}.{row['response_a']}.{row['response_b']}": (row["p_a"], row["status"])
        for row in rows.iter_rows(named=True)
    }


@pytest.fixture
def exported(made: Curriculum, tmp_path: Path) -> Path:
    label_studio.write(handed(made.pairs), tmp_path / "ls", TaskOptions())
    return tmp_path / "ls"


def test_annotations_come_back_as_a_judge_with_ties_and_annotators(exported: Path, tmp_path: Path) -> None:
    one, two, three, *_ = keys_of(exported)
    records = [
        annotated(one, (1, "Answer 1"), (2, "Answer 1")),
        annotated(two, (1, "Answer 2"), ({"id": 2, "email": "x@y.z"}, "Answer 1")),
        annotated(three, (1, "Tie"), (2, None), (2, "Answer 2")),
        annotated("not.ours", (1, "Tie")),
        annotated(three, (3, "Perhaps")),
    ]
    folder = imported("label-studio", save(records, tmp_path / "x.json"), judge="people")
    assert comparisons(folder, "people") == {one: (1.0, "ok"), two: (0.5, "tie"), three: (0.25, "ok")}
    assert comparisons(folder, "people-2") == {one: (1.0, "ok"), two: (1.0, "ok"), three: (0.0, "ok")}
    assert folder.counts["annotations_skipped"] == folder.counts["tasks_of_another_source"] == 1
    assert folder.counts["annotations_that_say_nothing"] == 1
    assert folder.notes == ["2 annotators, 3 tasks seen by several; Krippendorff's alpha: 0.138"]
    folder.write(tmp_path / "out")
    said = tables.read_verdicts(tmp_path / "out")
    assert said.comparisons.height == 3 * 3 and "x@y.z" not in (tmp_path / "out/report.json").read_text()


def test_json_min_and_csv_say_the_same(exported: Path, tmp_path: Path) -> None:
    one, two, *_ = keys_of(exported)
    rows = [
        {"task_key": one, "preference": "Answer 1", "annotator": 1, "id": 5},
        {"task_key": two, "preference": {"choices": ["Tie"]}, "annotator": 1, "id": 6},
    ]
    folder = imported("label-studio", save(rows, tmp_path / "x.json"))
    assert comparisons(folder, "human") == {one: (1.0, "ok"), two: (0.5, "tie")}
    (tmp_path / "x.csv").write_text(f"annotator,task_key,preference\n1,{one},Answer 1\n1,{two},Tie\n")
    assert comparisons(imported("label-studio", tmp_path / "x.csv"), "human") == comparisons(folder, "human")


def test_ratings_are_shares_of_their_scale(tmp_path: Path) -> None:
    key = f"{'0' * 16}.{'1' * 16}"
    records = [
        {"data": {"task_key": key}, "annotations": [{"completed_by": who, "result": [
            {"from_name": "rating", "type": "rating", "value": {"rating": value}}]}]}
        for who, value in ((1, 5), (2, 2), (3, 9))
    ]  # fmt: skip
    folder = imported("label-studio", save(records, tmp_path / "x.json"))
    assert dict(folder.judgements().select("judge", "score").iter_rows()) == {
        "human": 0.625, "human-1": 1.0, "human-2": 0.25,
    }  # fmt: skip
    assert folder.counts["annotations_that_say_nothing"] == 1


def test_argilla_s_two_exports_say_the_same(made: Curriculum, tmp_path: Path) -> None:
    argilla.write(handed(made.pairs), tmp_path / "ar", ArgillaOptions(annotators=2))
    one, two, *_ = keys_of(tmp_path / "ar")
    nested = [
        {"id": one, "fields": {}, "responses": {"preference": [
            {"value": "answer_1", "user_id": "u1"},
            {"value": "answer_2", "user_id": "u2", "status": "draft"}]}},
        {"id": two, "fields": {}, "responses": {"preference": [{"value": "tie", "user_id": "u1"}]}},
    ]  # fmt: skip
    flat = [
        {"id": one, "preference.responses": ["answer_1", "answer_2"],
         "preference.responses.users": ["u1", "u2"],
         "preference.responses.status": ["submitted", "draft"]},
        {"id": two, "preference.responses": ["tie"], "preference.responses.users": ["u1"],
         "preference.responses.status": ["submitted"]},
    ]  # fmt: skip
    for rows in (nested, flat):
        folder = imported("argilla", save(rows, tmp_path / "x.json"))
        assert comparisons(folder, "human") == {one: (1.0, "ok"), two: (0.5, "tie")}
        assert folder.counts["responses_draft"] == 1
    settings = json.loads((tmp_path / "ar/settings.json").read_text())
    assert settings["distribution"]["min_submitted"] == 2
    assert [o["value"] for o in settings["questions"][0]["settings"]["options"]] == [
        "answer_1",
        "tie",
        "answer_2",
    ]


def test_agreement_with_other_judges_is_said(made: Curriculum, exported: Path, tmp_path: Path) -> None:
    """People prefer the chosen answer but in 6 tasks; a judge that scores agrees with the choice."""
    keys = keys_of(exported)
    records = [
        annotated(key, (1, "Answer 1" if chosen_first(made, key) == (i >= 6) else "Answer 2"))
        for i, key in enumerate(keys)
    ]
    rows = [
        {"prompt_id": row["prompt_id"], "response_id": row[f"{side}_id"], "judge": "machine", "version": "1",
         "score": score, "status": "ok", "reason": None}
        for row in made.pairs.iter_rows(named=True)
        for side, score in (("chosen", 0.9), ("rejected", 0.2))
    ]  # fmt: skip
    unique = pl.DataFrame(rows, schema=schemas.JUDGEMENTS.columns).unique("response_id", keep="first")
    tables.write(unique, tmp_path / "judge/judgements.parquet", schemas.JUDGEMENTS)
    folder = imported("label-studio", save(records, tmp_path / "x.json"), against=tmp_path / "judge")
    (note,) = folder.notes
    n = len(keys)
    assert f"human and machine: the same answer preferred in {(n - 6) / n:.1%} of {n} pairs" in note
    folder = imported("label-studio", save(records, tmp_path / "x.json"), against=tmp_path / "empty")
    assert folder.notes == [f"{tmp_path / 'empty'}: holds no verdicts of another judge"]


def test_an_export_without_a_word_is_an_error(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="nobody said anything of an exported task"):
        imported("label-studio", exported / "tasks.json")
    with pytest.raises(TableError, match="tasks of another source 1"):
        imported("argilla", save([{"id": "x"}], tmp_path / "x.json"))


def test_people_are_a_recorded_judge(made: Curriculum, exported: Path, tmp_path: Path) -> None:
    from karma_plugins.contracts import Judge
    from karma_plugins.registry import manager

    keys = keys_of(exported)
    records = [annotated(key, (1, "Answer 1"), (2, "Answer 2")) for key in keys]
    imported("label-studio", save(records, tmp_path / "x.json")).write(tmp_path / "out")
    bound = manager.load([]).bind(Judge, "recorded", {"annotator": "human"})
    recall = bound.plugin.recall
    assert recall is not None
    said = recall(tables.read_verdicts(tmp_path / "out"), bound.options)
    assert said.comparisons.height == len(keys) and set(said.comparisons["status"]) == {"tie"}
