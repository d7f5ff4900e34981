"""AlpacaEval results (github.com/tatsu-lab/alpaca_eval): answers of many models, judged against a baseline.

results/<model>/model_outputs.json         list of {instruction, dataset, output, generator}
results/<model>/<judge>/annotations.json   list of {instruction, preference, output_1 and generator_1 (of the
                                           baseline), output_2 and generator_2 (of the model)}
capability_vectors.csv                     maybe: `model`, and a column for each benchmark, blank = missing
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins import tables
from karma_plugins.contracts import Status
from karma_plugins.errors import TableError
from karma_plugins.texts import records
from karma_plugins.importers.recorded_folder import VERDICTS, RecordedFolder, carried
from karma_plugins.schemas import COMPARISONS, RESPONSES

COMPETENCY = "instruction"
SCORES_FILE = "capability_vectors.csv"
#: Which competency a benchmark of the scores file measures.
BENCHMARKS: Mapping[str, str] = {
    "ARC-C": "knowledge",
    "HellaSwag": "knowledge",
    "MMLU": "knowledge",
    "TruthfulQA": "knowledge",
    "WinoGrande": "knowledge",
    "GSM8K": "reasoning",
    "HumanEval": "reasoning",
    "BBH": "reasoning",
    "AGIEval": "reasoning",
    "IFEval": "instruction",
}
RULES = (
    "every prompt is of competency 'instruction'; its sub-dataset is kept under the key 'dataset'",
    "a model is its folder's name; of several answers to one instruction the first is kept",
    "an instruction that a model did not answer, or answered with blanks, is a row without text that says so",
    "p_a, the probability that the baseline is better, is 2 - preference; 1.5 and 0 are ties; what is no "
    "number in [1,2], such as null, failed; a judge's second verdict on the same answers is dropped",
    "a verdict belongs to the very text that was judged: where that is not the model's recorded answer, or "
    "is a baseline's, it is kept in judged_only.parquet",
    "scores are per cent if any number of the file is above 1, else shares; a blank cell is a null",
    "benchmarks measure "
    + ", ".join(
        f"{c} ({', '.join(b for b in BENCHMARKS if BENCHMARKS[b] == c)})"
        for c in dict.fromkeys(BENCHMARKS.values())
    ),
)


def read(folder: Path, scores: Path | None = None) -> RecordedFolder:
    """Read a folder of results, and benchmark scores from `scores` or its own capability_vectors.csv.

    Raises TableError, naming file and record, for what can't be read; what can be handled is counted.
    """
    results = folder / "results" if (folder / "results").is_dir() else folder
    if not results.is_dir():
        raise TableError(f"{folder}: no such folder of AlpacaEval results.")
    found = RecordedFolder("alpaca-eval", RULES)
    homes = []
    for home in sorted(path for path in results.iterdir() if path.is_dir()):
        if (home / "model_outputs.json").is_file():
            homes.append((home, found.add_model(home.name)))
        else:
            found.counts["folders_without_outputs"] += 1
    if not homes:
        raise TableError(f"{results}: no folder in it holds a model_outputs.json.")
    outputs = {model: _outputs(home, found) for home, model in homes}
    _add_answers(outputs, found)
    for home, model in homes:
        for file in sorted(home.glob("*/annotations.json")):
            _add_annotations(file, model, found)
    _add_scores(scores or folder / SCORES_FILE, required=scores is not None, found=found)
    return found


def win_rates(folder: Path) -> pl.DataFrame:
    """Each model's win rate over its baseline, from the tables of an imported folder.

    Columns: judge, baseline, model, win_rate in [0,1] (a tie counts half), n (verdicts), failed.
    As AlpacaEval counts: mean of preference - 1 with ties as 1.5 and failures left out.
    """
    answers = [tables.read(file, RESPONSES) for file in sorted(folder.glob("models/*/responses.parquet"))]
    answers.append(tables.read(folder / VERDICTS / "judged_only.parquet", RESPONSES))
    who = pl.concat(answers).select("response_id", "model").unique(maintain_order=True)
    said = tables.read(folder / VERDICTS / "comparisons.parquet", COMPARISONS)
    named = said.join(
        who.rename({"response_id": "response_a", "model": "baseline"}), on="response_a", how="left"
    )
    named = named.join(who.rename({"response_id": "response_b"}), on="response_b", how="left")
    rows = []
    for (judge, baseline, model), part in named.group_by("judge", "baseline", "model", maintain_order=True):
        wins = [1.0 - p for p in part["p_a"].drop_nulls()]
        rate = math.fsum(wins) / len(wins) if wins else None
        rows.append((judge, baseline, model, rate, len(wins), part.height - len(wins)))
    columns = {
        "judge": pl.String,
        "baseline": pl.String,
        "model": pl.String,
        "win_rate": pl.Float64,
        "n": pl.Int64,
    }
    frame = pl.DataFrame(rows, schema={**columns, "failed": pl.Int64}, orient="row")
    return frame.sort(
        "judge", "win_rate", "model", "baseline", descending=[False, True, False, False], nulls_last=True
    )


def _outputs(home: Path, found: RecordedFolder) -> list[records.Record]:
    kept = []
    for record in records.load(home / "model_outputs.json"):
        if _instruction(record) is None:
            found.counts["outputs_without_instruction"] += 1
        else:
            kept.append(record)
    return kept


def _add_answers(outputs: Mapping[str, Sequence[records.Record]], found: RecordedFolder) -> None:
    """Every model's answers, and a failure for each prompt that others answered and it did not."""
    prompts: dict[str, None] = {}
    answered = set()
    for model, rows in outputs.items():
        for record in rows:
            dataset = record.get("dataset")
            said = dataset if isinstance(dataset, str) else None
            prompt = found.add_prompt(_messages(_instruction(record)), COMPETENCY, dataset=said)
            prompts[prompt] = None
            answered.add((prompt, model))
            found.add_answer(prompt, model, record.get("output"))
    for model in outputs:
        for prompt in prompts:
            if (prompt, model) not in answered:
                found.add_answer(prompt, model, None)


def _add_annotations(file: Path, model: str, found: RecordedFolder) -> None:
    judge = carried(file.parent.name)
    for record in records.load(file):
        instruction = _instruction(record)
        prompt = found.knows_prompt(_messages(instruction)) if instruction is not None else None
        texts = record.get("output_1"), record.get("output_2")
        if prompt is None:
            found.counts["annotations_of_unknown_prompts"] += 1
        elif not isinstance(texts[0], str) or not isinstance(texts[1], str):
            found.counts["annotations_without_answers"] += 1
        else:
            name = record.get("generator_1")
            if not isinstance(name, str) or not name:
                found.counts["annotations_of_unnamed_baseline"] += 1
                name = "unnamed-baseline"
            if not found.gave(prompt, model, texts[1]):
                found.counts["annotations_of_other_answers"] += 1
            b = found.add_judged_answer(prompt, model, texts[1])
            a = found.add_judged_answer(prompt, carried(name), texts[0])
            found.add_comparison(prompt, a, b, judge, *_verdict(record.get("preference")))


def _verdict(preference: Any) -> tuple[float | None, Status, str | None]:
    """Probability that the baseline is better, status and reason, from a preference as annotated."""
    if preference is None:
        return None, "failed", "the judge gave no preference (null)"
    try:
        value = math.nan if isinstance(preference, bool) else float(preference)
    except (TypeError, ValueError):
        value = math.nan
    if value in (0.0, 1.5):
        return 0.5, "tie", None
    if not 1.0 <= value <= 2.0:
        return None, "failed", f"preference {str(preference)[:40]!r} is no number in [1,2]"
    return 2.0 - value, "ok", None


def _add_scores(file: Path, *, required: bool, found: RecordedFolder) -> None:
    """Benchmark scores from a CSV: a row for each model and benchmark, null where the file has no number."""
    if not file.is_file():
        if required:
            raise TableError(f"{file}: no such file of scores.")
        for model in found.names:
            found.add_score(model, COMPETENCY, "unmeasured", "published", None)
        return
    header, cells = _cells(file)
    benchmarks = [column for column in header if column in BENCHMARKS]
    if not benchmarks:
        raise TableError(f"{file}: no column is a benchmark that is known here: {', '.join(BENCHMARKS)}.")
    found.counts["score_columns_ignored"] = len(header) - len(benchmarks)
    found.counts["scored_models_without_answers"] = len(cells.keys() - set(found.names.values()))
    numbers = {
        (model, benchmark): _number(row.get(benchmark), f"{file}, row '{model}', column '{benchmark}'")
        for model, row in cells.items()
        for benchmark in benchmarks
    }
    percent = any(value is not None and value > 1.0 for value in numbers.values())
    top = 100.0 if percent else 1.0
    for (model, benchmark), value in numbers.items():
        if value is not None and not 0.0 <= value <= top:
            raise TableError(
                f"{file}, row '{model}', column '{benchmark}': {value} is not between 0 and {top:g}."
            )
    for name, original in found.names.items():
        for benchmark in benchmarks:
            value = numbers.get((original, benchmark))
            score = None if value is None else value / top
            found.add_score(name, BENCHMARKS[benchmark], benchmark, "published", score)


def _cells(file: Path) -> tuple[list[str], dict[str, dict[str, str | None]]]:
    """The columns beside `model`, and each model's row."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{file}: not readable as CSV ({error}).") from error
    if not rows or "model" not in rows[0]:
        raise TableError(f"{file}: must have a column 'model' and at least one row.")
    by_model: dict[str, dict[str, str | None]] = {}
    for row in rows:
        if row["model"] in by_model:
            raise TableError(f"{file}: model '{row['model']}' is there twice. Remove one row.")
        by_model[row["model"]] = row
    return [column for column in rows[0] if column not in ("model", "sources", None)], by_model


def _number(cell: str | None, where: str) -> float | None:
    if cell is None or not cell.strip():
        return None
    try:
        value = float(cell)
    except ValueError as error:
        raise TableError(f"{where}: '{cell}' is no number. Leave a missing score blank.") from error
    if not math.isfinite(value):
        raise TableError(f"{where}: '{cell}' is no number. Leave a missing score blank.")
    return value


def _instruction(record: Mapping[str, Any]) -> str | None:
    found = record.get("instruction")
    return found if isinstance(found, str) and found.strip() else None


def _messages(instruction: str | None) -> list[dict[str, str]]:
    return [{"role": "user", "content": instruction or ""}]
