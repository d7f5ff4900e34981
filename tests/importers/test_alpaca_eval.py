"""AlpacaEval results: the real ones as they are, and their dirt on hand-made folders."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from karma_plugins import prompts, tables
from karma_plugins.cli.import_ import command
from karma_plugins.errors import TableError
from karma_plugins.importers.layouts import alpaca_eval
from karma_plugins.params import MODEL_NAME, PromptsSection
from karma_plugins.schemas import COMPARISONS, RESPONSES, SCORES
from tests.importers.reading import imported

QUESTION, SECOND = "How tall is it?", "Name a colour."


def results(folder: Path, model: str, answers: list[Any], **judged: list[Any]) -> None:
    """Write one model's outputs, and annotations of each judge."""
    home = folder / "results" / model
    home.mkdir(parents=True)
    (home / "model_outputs.json").write_text(json.dumps(answers))
    for judge, said in judged.items():
        (home / judge).mkdir()
        (home / judge / "annotations.json").write_text(json.dumps(said))


def output(instruction: Any, text: Any) -> dict[str, Any]:
    return {"instruction": instruction, "output": text, "dataset": "koala", "generator": "m"}


def annotation(
    preference: Any, text: Any, baseline: Any = "base says", instruction: Any = QUESTION
) -> dict[str, Any]:
    return {
        "instruction": instruction, "output_1": baseline, "generator_1": "base", "output_2": text,
        "generator_2": "m", "preference": preference,
    }  # fmt: skip


def report_of(folder: Path, out: Path) -> dict[str, Any]:
    imported("alpaca-eval", folder).write(out)
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def comparisons(out: Path) -> list[tuple[Any, ...]]:
    rows = tables.read(out / "verdicts/comparisons.parquet", COMPARISONS)
    return rows.select("p_a", "status", "reason").rows()


# --- the real folder -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "alpaca"
    report_of(shared_data / "alpaca_eval", out)
    return out


def raw_win_rates(source: Path) -> dict[tuple[str, str], float]:
    """Mean of preference - 1, straight from the files."""
    rates = {}
    for file in source.glob("results/*/*/annotations.json"):
        preferences = [r["preference"] for r in json.loads(file.read_text()) if r["preference"] is not None]
        wins = [0.5 if p in (0, 1.5) else p - 1 for p in preferences]
        rates[file.parent.name, file.parent.parent.name] = math.fsum(wins) / len(wins)
    return rates


def test_every_model_and_answer_arrives(real: Path) -> None:
    report = json.loads((real / "report.json").read_text())
    assert report["counts"]["models"] == 14
    assert report["counts"]["prompts"] == 160
    assert report["counts"]["answers"] == 14 * 160 - 1
    assert report["counts"]["answers_empty"] == 1
    assert report["judges"]["alpaca_eval_gpt4"] == {"ok": 1743, "tie": 13, "failed": 4}
    assert report["judges"]["weighted_alpaca_eval_gpt4_turbo"] == {"ok": 1117, "tie": 3}
    assert report["models"]["vicuna-7b-v1-5"]["name"] == "vicuna-7b-v1.5"
    assert all(MODEL_NAME.fullmatch(name) for name in report["models"])


def test_win_rates_are_those_of_the_files_under_the_source_s_names(shared_data: Path) -> None:
    expected = raw_win_rates(shared_data / "alpaca_eval")
    folder = imported("alpaca-eval", shared_data / "alpaca_eval")
    found = {
        (row["judge"], row["model"]): row["win_rate"]
        for row in alpaca_eval.win_rates(folder).iter_rows(named=True)
    }
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-12)


def test_prompts_are_readable_by_stage_prompts(real: Path) -> None:
    table = prompts.read(PromptsSection(path=str(real / "prompts.jsonl")))
    assert table.height == 160
    assert set(table["competency"]) == {"instruction"}


def test_scores_are_shares_and_blank_cells_are_nulls(real: Path) -> None:
    phi = tables.read(real / "models/phi-2/scores.parquet", SCORES)
    assert dict(phi.select("task", "score").iter_rows())["ARC-C"] == pytest.approx(0.610068)
    assert phi.filter(pl.col("score").is_null())["task"].to_list() == ["AGIEval", "BBH"]
    assert set(phi["competency"]) == {"knowledge", "reasoning"}
    assert tables.read(real / "models/alpaca-7b/scores.parquet", SCORES)["score"].null_count() == 9


def test_every_compared_answer_is_kept_somewhere(real: Path) -> None:
    files = [*real.glob("models/*/responses.parquet"), real / "verdicts/judged_only.parquet"]
    known = pl.concat([tables.read(file, RESPONSES) for file in files])["response_id"]
    said = tables.read(real / "verdicts/comparisons.parquet", COMPARISONS)
    assert set(said["response_a"]) | set(said["response_b"]) <= set(known)


def test_same_input_same_bytes(real: Path, shared_data: Path) -> None:
    before = {file.relative_to(real): file.read_bytes() for file in real.rglob("*") if file.is_file()}
    report_of(shared_data / "alpaca_eval", real)
    assert {file.relative_to(real): file.read_bytes() for file in real.rglob("*") if file.is_file()} == before


def test_command_prints_win_rates_and_counts(shared_data: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(
        command, ["alpaca-eval", str(shared_data / "alpaca_eval"), "--out", str(tmp_path / "out")]
    )
    assert told.exit_code == 0, told.output
    assert "alpaca_eval_gpt4: phi-2 beats text_davinci_003 in 34.71% of 157, 3 failed" in told.output
    assert "answers empty 1" in told.output


# --- dirt ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preference", "p_a", "status"),
    [
        (1, 1.0, "ok"),
        (2.0, 0.0, "ok"),
        (1.25, 0.75, "ok"),
        ("2", 0.0, "ok"),
        (1.5, 0.5, "tie"),
        (0, 0.5, "tie"),
        (None, None, "failed"),
        (math.nan, None, "failed"),
        (3, None, "failed"),
        (True, None, "failed"),
        ("better", None, "failed"),
        ([2], None, "failed"),
    ],
)
def test_preferences(tmp_path: Path, preference: Any, p_a: float | None, status: str) -> None:
    results(tmp_path, "m", [output(QUESTION, "tall")], judge=[annotation(preference, "tall")])
    report_of(tmp_path, tmp_path / "out")
    ((found, how, reason),) = comparisons(tmp_path / "out")
    assert (found, how) == (p_a, status)
    assert (reason is not None) == (status == "failed")


def test_missing_and_empty_answers_are_rows_that_say_so(tmp_path: Path) -> None:
    results(tmp_path, "full", [output(QUESTION, "a"), output(SECOND, "b")])
    results(tmp_path, "gaps", [output(QUESTION, " \n")])
    results(tmp_path, "odd", [output(QUESTION, None), output(SECOND, 7)])
    report = report_of(tmp_path, tmp_path / "out")
    assert report["counts"]["answers"] == 2
    assert report["counts"]["answers_empty"] == 1
    assert report["counts"]["answers_missing"] == 3
    gaps = tables.read(tmp_path / "out/models/gaps/responses.parquet", RESPONSES)
    assert gaps["text"].to_list() == [None, None]
    assert set(gaps["error"]) == {"no answer is recorded", "the recorded answer is empty"}


def test_repeated_instructions_and_verdicts_keep_the_first(tmp_path: Path) -> None:
    answers = [output(QUESTION, "first"), output(QUESTION, "second"), output("", "x"), output(None, "y")]
    results(tmp_path, "m", answers, judge=[annotation(2, "first"), annotation(1, "first")])
    report = report_of(tmp_path, tmp_path / "out")
    assert report["counts"]["answers_repeated"] == 1
    assert report["counts"]["outputs_without_instruction"] == 2
    assert report["judges"]["judge"] == {"ok": 1, "repeated": 1}
    assert comparisons(tmp_path / "out") == [(0.0, "ok", None)]
    assert tables.read(tmp_path / "out/models/m/responses.parquet", RESPONSES)["text"].to_list() == ["first"]


def test_a_verdict_on_another_text_is_no_verdict_on_the_answer(tmp_path: Path) -> None:
    results(tmp_path, "m", [output(QUESTION, "mine")], judge=[annotation(2, "another")])
    report = report_of(tmp_path, tmp_path / "out")
    assert report["counts"]["annotations_of_other_answers"] == 1
    mine = tables.read(tmp_path / "out/models/m/responses.parquet", RESPONSES)["response_id"].item()
    said = tables.read(tmp_path / "out/verdicts/comparisons.parquet", COMPARISONS)
    assert said["response_b"].item() != mine
    other = tables.read(tmp_path / "out/verdicts/judged_only.parquet", RESPONSES)
    assert sorted(other["text"]) == ["another", "base says"]


def test_annotations_that_belong_to_nothing_are_counted(tmp_path: Path) -> None:
    judged = [
        annotation(2, "a", instruction="Never asked?"),
        annotation(2, None),
        annotation(2, "a", baseline=None),
    ]
    results(tmp_path, "m", [output(QUESTION, "a")], judge=judged)
    (tmp_path / "results/only-annotations").mkdir()
    counts = report_of(tmp_path, tmp_path / "out")["counts"]
    assert counts["annotations_of_unknown_prompts"] == 1
    assert counts["annotations_without_answers"] == 2
    assert counts["folders_without_outputs"] == 1
    assert comparisons(tmp_path / "out") == []


def test_characters_that_no_file_can_hold_are_replaced_and_counted(tmp_path: Path) -> None:
    results(tmp_path, "m", [output(QUESTION, "half \ud83d a pair")])
    assert report_of(tmp_path, tmp_path / "out")["counts"]["texts_with_broken_characters"] == 1
    text = tables.read(tmp_path / "out/models/m/responses.parquet", RESPONSES)["text"].item()
    assert text == "half \ufffd a pair"


def test_models_without_scores_get_a_null_cell(tmp_path: Path) -> None:
    results(tmp_path, "m", [output(QUESTION, "a")])
    report_of(tmp_path, tmp_path / "out")
    assert tables.read(tmp_path / "out/models/m/scores.parquet", SCORES)["score"].to_list() == [None]


@pytest.mark.parametrize(("cell", "score"), [("0.5", 0.5), ("50", 0.5)])
def test_scale_of_scores(tmp_path: Path, cell: str, score: float) -> None:
    results(tmp_path, "m", [output(QUESTION, "a")])
    (tmp_path / "capability_vectors.csv").write_text(
        f"model,MMLU,GSM8K,Novelty,sources\nm,{cell},,3,x\nz,0,0,,\n"
    )
    counts = report_of(tmp_path, tmp_path / "out")["counts"]
    rows = tables.read(tmp_path / "out/models/m/scores.parquet", SCORES).select("task", "score").rows()
    assert rows == [("MMLU", score), ("GSM8K", None)]
    assert counts["score_columns_ignored"] == 1
    assert counts["scored_models_without_answers"] == 1


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("model,MMLU\nm,high\n", "row 'm', column 'MMLU': 'high' is no number"),
        ("model,MMLU\nm,120\n", "120.0 is not between 0 and 100"),
        ("model,MMLU\nm,-0.1\n", "-0.1 is not between 0 and 1"),
        ("model,MMLU\nm,1\nm,1\n", "model 'm' is there twice"),
        ("name,MMLU\nm,1\n", "must have a column 'model'"),
        ("model,Novelty\nm,1\n", "no column is a benchmark"),
    ],
)
def test_broken_scores(tmp_path: Path, csv: str, message: str) -> None:
    results(tmp_path, "m", [output(QUESTION, "a")])
    (tmp_path / "capability_vectors.csv").write_text(csv)
    with pytest.raises(TableError, match=message):
        imported("alpaca-eval", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", "model_outputs.json, record 1: not JSON"),
        ("5", "must hold a list of JSON objects, but starts with '5'"),
        ("[{}", "the list does not end|no comma"),
        ("[1]", "record 1: must be a JSON object, found int"),
        ("\x80", "not UTF-8"),
    ],
)
def test_unreadable_outputs(tmp_path: Path, content: str, message: str) -> None:
    results(tmp_path, "m", [])
    (tmp_path / "results/m/model_outputs.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(TableError, match=message):
        imported("alpaca-eval", tmp_path)


def test_nothing_to_import(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such folder"):
        imported("alpaca-eval", tmp_path / "nowhere")
    with pytest.raises(TableError, match="no folder holds a model_outputs"):
        imported("alpaca-eval", tmp_path)
    results(tmp_path, "m", [])
    with pytest.raises(TableError, match="holds no prompt"):
        report_of(tmp_path, tmp_path / "out")


def test_names_that_would_collide_stop(tmp_path: Path) -> None:
    results(tmp_path, "m.1", [output(QUESTION, "a")])
    results(tmp_path, "m-1", [output(QUESTION, "a")])
    with pytest.raises(TableError, match=r"'m-1' and 'm\.1' would both be named 'm-1'"):
        imported("alpaca-eval", tmp_path)


def test_only_an_earlier_import_is_replaced(tmp_path: Path) -> None:
    results(tmp_path, "m", [output(QUESTION, "a")])
    precious = tmp_path / "mine"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(TableError, match="holds no earlier import"):
        report_of(tmp_path, precious)
    assert (precious / "thesis.txt").read_text() == "years of work"
