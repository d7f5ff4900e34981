"""The report of a run: what it says, what it can't be broken by, and that it needs nothing but itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from karma_plugins import tables
from karma_plugins.cli import main as karma
from karma_plugins.schemas import BIAS, FAMILIES, HELDOUT, JUDGEMENTS, JUDGES, KINSHIP, PAIRS, PROMPTS
from karma_plugins.study import reporting
from karma_plugins.study.reporting import browsing, findings

EVIL = "</script><script>alert(1)</script>"
NAME = "<b>m</b>"


def message(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def interval(mean: float, low: float, high: float) -> dict[str, float]:
    return {"mean": mean, "low": low, "high": high}


def block(base: float, aligned: float, half: float) -> dict[str, object]:
    change = aligned - base
    return {
        "accuracy": {
            "base": interval(base, base, base),
            "aligned": interval(aligned, aligned, aligned),
            "difference": interval(change, change - half, change + half),
        },
        "win_rate": interval(0.6, 0.5, 0.7),
    }


def write_run(folder: Path, pairs: int = 3) -> Path:
    """A small run whose prompts, models and reasons try to be markup."""
    frame = pl.DataFrame
    tables.write(
        frame(
            [
                {"prompt_id": f"p{i}", "messages": message("user", EVIL), "competency": "sums",
                 "reference": "1", "constraints": None, "split": "heldout"}
                for i in range(2)
            ],
            schema=PROMPTS.columns,
        ),
        folder / "data/prompts.parquet", PROMPTS,
    )  # fmt: skip
    kin = {
        "metric": "style", "competency": None, "model_a": NAME, "model_b": "z", "kinship": 0.4, "low": 0.3,
        "high": 0.5, "raw": 0.4, "consistency": None, "n_items": 3, "uncertain": True, "missing": None,
        "reason": None, "version": "1", "primary": True,
    }  # fmt: skip
    tables.write(frame([kin], schema=KINSHIP.columns), folder / "data/kinship.parquet", KINSHIP)
    family = {"metric": "style", "family": NAME, "size": 2, "sure": 0.9, "cut": 0.25, "kinship": 0.4}
    rows = [{**family, "model": NAME, "nearest": "z"}, {**family, "model": "z", "nearest": NAME}]
    tables.write(frame(rows, schema=FAMILIES.columns), folder / "data/families.parquet", FAMILIES)
    judge = {"judge": EVIL, "version": "1", "weight": 1.0, "verdicts": 9, "skipped": 0, "failed": 1}
    tables.write(frame([judge], schema=JUDGES.columns), folder / "data/jury/judges.parquet", JUDGES)
    habit = {
        "measure": "longer_wins", "judge": EVIL, "detail": None, "value": 0.8, "low": 0.7, "high": 0.9,
        "fair": 0.5, "n": 40, "reason": None,
    }  # fmt: skip
    tables.write(frame([habit], schema=BIAS.columns), folder / "data/jury/bias.parquet", BIAS)
    pair = {
        "phase": 0, "prompt": message("user", EVIL), "chosen": message("assistant", "yes"),
        "rejected": message("assistant", EVIL), "competency": "sums", "chosen_model": NAME,
        "rejected_model": "z", "chosen_reward": 1.0, "rejected_reward": 0.0, "margin": 1.0,
        "disagreement": None, "kinship": 0.4, "complexity": 0.1, "chosen_likelihood": None,
        "rejected_likelihood": None, "difficulty": 0.5,
    }  # fmt: skip
    rows = [
        {**pair, "order": i, "prompt_id": f"p{i}", "chosen_id": f"c{i}", "rejected_id": f"r{i}"}
        for i in range(pairs)
    ]
    tables.write(frame(rows, schema=PAIRS.columns), folder / "data/pairs/data/train.parquet", PAIRS)
    said = {"prompt_id": "p0", "judge": "j", "version": "1"}
    verdicts = [
        {**said, "response_id": "c0", "score": 1.0, "status": "ok", "reason": None},
        {**said, "response_id": "r0", "score": None, "status": "failed", "reason": EVIL},
    ]
    tables.write(
        frame(verdicts, schema=JUDGEMENTS.columns), folder / "data/verdicts/j/judgements.parquet", JUDGEMENTS
    )
    tables.write_verdicts([], folder / "data/verdicts/empty")
    (folder / "data/verdicts/empty/comparisons.parquet").rename(
        folder / "data/verdicts/j/comparisons.parquet"
    )
    answers = [
        {"prompt_id": f"p{i}", "sample": 0, "competency": "sums", "base": "1", "aligned": EVIL,
         "base_reward": 1.0, "aligned_reward": reward, "counted": True}
        for i, reward in enumerate((1.0, 0.0))
    ]  # fmt: skip
    tables.write(frame(answers, schema=HELDOUT.columns), folder / "data/heldout.parquet", HELDOUT)
    evaluation = block(0.4, 0.5, 0.05) | {
        "competency": {"sums": block(0.4, 0.5, 0.05) | {"prompts": 2}},
        "prompts": {
            "asked": 2, "counted": 2, "left_out": 0, "unrewarded": {"base": 0, "aligned": 0},
        },
        "benchmarks": {
            "sums": {
                "base": 0.88, "aligned": 0.813, "items": 150, "difference": interval(-0.067, -0.12, -0.01),
            },
        },
    }  # fmt: skip
    tables.write_json(evaluation, folder / "metrics/evaluate.json")
    counts = {"possible": 10, "kept": 3, "dropped": {EVIL: 5, "tie": 2}}
    tables.write_json({"pairs": counts}, folder / "metrics/curriculum.json")
    (folder / "params.yaml").write_text(
        f"models: {{'{NAME}': {{}}, z: {{}}}}\njudge: {{judges: {{j: {{}}}}}}\n", encoding="utf-8"
    )
    return folder


@pytest.fixture
def run(tmp_path: Path) -> reporting.Run:
    return reporting.collect(write_run(tmp_path))


def test_nothing_that_users_write_becomes_markup(run: reporting.Run) -> None:
    page = reporting.page(run)
    assert "<script>alert" not in page
    assert NAME not in page
    assert page.count("<script") == page.count("</script") == 3  # two of data, one of ours
    held = re.search(r'id="data-pairs">(.*?)</script>', page, re.DOTALL)
    assert held is not None
    assert json.loads(held[1])["rows"][0][4] == EVIL


def test_the_page_loads_nothing_from_elsewhere(run: reporting.Run) -> None:
    page = reporting.page(run)
    addresses = set(re.findall(r"https?://[^\"' )<]+", page))
    assert {address for address in addresses if "www.w3.org" not in address} == set()
    assert "default-src &#x27;none&#x27;" in page


def test_a_benchmark_that_fell_is_said_in_red_and_in_a_word(run: reporting.Run) -> None:
    (fell,) = [change for change in findings.changes(run.metrics("evaluate")) if change.is_lower]
    assert (fell.kind, fell.word) == ("benchmark", findings.WORSE)
    screen = reporting.page(run).partition("</section>")[0]
    assert re.search(
        r'class="bad">benchmark, sums: </strong>0.880 → 0.813, <span class="bad">[^<]*worse', screen
    )
    assert "1 got worse" in screen


def test_the_first_screen_answers_six_questions(run: reporting.Run) -> None:
    screen = reporting.page(run).partition("</section>")[0]
    assert screen.count('class="card"') == 6
    assert "all are one family" in screen
    assert "3 of 10" in screen
    assert "the longer answer wins more often" in screen
    assert "Failed verdicts" in screen


@pytest.mark.parametrize(
    ("low", "high", "mean", "word"),
    [
        (-0.2, -0.1, -0.15, findings.WORSE), (-0.2, 0.1, -0.05, findings.FELL),
        (0.1, 0.2, 0.15, findings.BETTER), (-0.1, 0.2, 0.05, findings.ROSE),
        (0.0, 0.0, 0.0, findings.SAME), (None, None, -0.1, findings.FELL),
    ],
)  # fmt: skip
def test_a_change_is_certain_only_where_its_interval_leaves_out_zero(
    low: float | None, high: float | None, mean: float, word: str
) -> None:
    assert findings.Change("benchmark", "sums", 9, 0.5, 0.5 + mean, mean, low, high).word == word


def test_headline_figures_are_a_dozen_numbers_at_most(run: reporting.Run) -> None:
    figures = reporting.headline(run)
    assert figures["benchmark_worst"] == -0.067
    assert figures["answers_worse"] == 0.5
    assert figures["pairs_kept"] == 0.3
    assert figures["verdicts_failed"] == 0.1
    assert len(figures) <= 13


def test_verdicts_and_reasons_stand_with_their_pair(run: reporting.Run) -> None:
    rows = browsing.pairs(run)
    assert rows is not None
    assert rows.rows[0][-1] == [["j", 1.0, None, f"rejected: {EVIL}", ""]]
    assert rows.rows[1][-1] == []


def test_answers_that_got_worse_come_first(run: reporting.Run) -> None:
    rows = browsing.heldout(run)
    assert rows is not None
    assert [row[-1] for row in rows.rows] == [-1.0, 0.0]


def test_too_many_pairs_are_sampled_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browsing, "ROWS", 10)
    run = reporting.collect(write_run(tmp_path, pairs=25))
    rows = browsing.pairs(run)
    assert rows is not None
    assert [row[0] for row in rows.rows] == list(range(0, 25, 3))
    assert "A sample: 9 of 25 rows" in reporting.page(run)


def test_two_runs_are_compared_by_prompt_and_a_fall_is_red(tmp_path: Path) -> None:
    here, there = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    answers = tables.read(there / "data/heldout.parquet", HELDOUT).with_columns(aligned_reward=1.0)
    tables.write(answers, there / "data/heldout.parquet", HELDOUT)
    page = reporting.page(reporting.collect(here), reporting.collect(there))
    section = page.partition('<section id="comparison"')[2].partition("</section>")[0]
    assert re.search(r'class="bad">fell, may be chance', section)
    assert "3 pairs are in both" in section


def test_a_part_of_a_pipeline_is_reported_too(tmp_path: Path) -> None:
    write_run(tmp_path)
    for path in ("data/heldout.parquet", "metrics/evaluate.json", "data/families.parquet"):
        (tmp_path / path).unlink()
    page = reporting.page(reporting.collect(tmp_path))
    assert "Nothing was evaluated" in page
    assert 'id="answers"' not in page


def test_where_nothing_ran_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(karma, ["report"])
    assert done.exit_code == 1
    assert "no stage has run here" in done.output
    assert not (tmp_path / "report.html").exists()


def test_the_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_run(tmp_path))
    done = CliRunner().invoke(karma, ["report", "--out", "out/page.html"])
    assert done.exit_code == 0, done.output
    assert "Written: out/page.html" in done.output
    assert (tmp_path / "out/page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_show_prints_what_passes_the_filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_run(tmp_path))

    def shown(*arguments: str) -> list[dict[str, object]]:
        done = CliRunner().invoke(karma, ["show", *arguments, "--json"])
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert [row["order"] for row in shown("pairs", "--margin", "0.5", "1", "--model", NAME)] == [0, 1, 2]
    assert shown("pairs", "--kinship", "0.5", "1") == []
    assert [row["change"] for row in shown("heldout")] == [-1.0, 0.0]
    (failed,) = shown("verdicts", "--status", "failed")
    assert failed["reason"] == EVIL
    assert [row["prompt_id"] for row in shown("pairs", "--prompt", "p1")] == ["p1"]


def test_show_stops_at_a_filter_that_rows_do_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_run(tmp_path))
    done = CliRunner().invoke(karma, ["show", "heldout", "--margin", "0", "1"])
    assert done.exit_code == 1
    assert "has no margin" in done.output


def test_show_prints_no_control_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_run(tmp_path))
    answers = tables.read(Path("data/heldout.parquet"), HELDOUT).with_columns(base=pl.lit("\x1b[2Ja\u202eb"))
    tables.write(answers, "data/heldout.parquet", HELDOUT)
    done = CliRunner().invoke(karma, ["show", "heldout"])
    assert "\\x1b[2Ja\\u202eb" in done.output
    assert "\x1b" not in done.output
    assert "\u202e" not in done.output
