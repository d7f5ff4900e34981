"""AlpacaEval results (github.com/tatsu-lab/alpaca_eval): answers of many models, judged against a baseline.

results/<model>/model_outputs.json         list of {instruction, dataset, output, generator}
results/<model>/<judge>/annotations.json   list of {instruction, preference, output_1 and generator_1 (of the
                                           baseline), output_2 and generator_2 (of the model)}
capability_vectors.csv                     maybe: `model`, and a column for each benchmark, blank = missing
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from karma_plugins.contracts import Importer, Options, Status, hookimpl
from karma_plugins.errors import TableError
from karma_plugins.importers.folder_files import one_line
from karma_plugins.importers.recorded_folder import RecordedFolder, carried
from karma_plugins.importers.values import number, text
from karma_plugins.texts import records

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


class AlpacaEvalOptions(Options):
    """Where benchmark scores are."""

    scores: Path | None = Field(
        None, description="CSV of benchmark scores [default: capability_vectors.csv in the source]"
    )


def read(sources: Sequence[Path], options: AlpacaEvalOptions) -> RecordedFolder:
    """Read folders of results, and benchmark scores from `scores` or their own capability_vectors.csv.

    A model that several folders hold is one model. Raises TableError, naming file and record, for what
    can't be
    read; what can be handled is counted.
    """
    folder = RecordedFolder("alpaca-eval", RULES)
    homes = [home for source in sources for home in _homes(source, folder)]
    if not homes:
        raise TableError(f"{', '.join(map(str, sources))}: no folder holds a model_outputs.json.")
    outputs: dict[str, list[records.Record]] = {}
    for home, model in homes:
        outputs.setdefault(model, []).extend(_outputs(home, folder))
    _add_answers(outputs, folder)
    for home, model in homes:
        for file in sorted(home.glob("*/annotations.json")):
            _add_annotations(file, model, folder)
    own = [source / SCORES_FILE for source in sources if (source / SCORES_FILE).is_file()]
    _add_scores([options.scores] if options.scores else own, folder)
    for row in win_rates(folder).iter_rows(named=True):
        rate = "  none" if row["win_rate"] is None else f"{row['win_rate']:6.2%}"
        failed = f", {row['failed']} failed" if row["failed"] else ""
        judge, model, baseline = (one_line(row[name]) for name in ("judge", "model", "baseline"))
        folder.notes.append(f"{judge}: {model} beats {baseline} in {rate} of {row['n']}{failed}")
    return folder


def _homes(source: Path, folder: RecordedFolder) -> list[tuple[Path, str]]:
    """The folders of models, each with the model's name."""
    results = source / "results" if (source / "results").is_dir() else source
    if not results.is_dir():
        raise TableError(f"{source}: no such folder of AlpacaEval results.")
    homes = []
    for home in sorted(path for path in results.iterdir() if path.is_dir()):
        if (home / "model_outputs.json").is_file():
            homes.append((home, folder.add_model(home.name)))
        else:
            folder.counts["folders_without_outputs"] += 1
    return homes


def win_rates(folder: RecordedFolder) -> pl.DataFrame:
    """Each model's win rate over its baseline, under the names that the source has.

    Columns: judge, baseline, model, win_rate in [0,1] (a tie counts half), n (verdicts), failed.
    As AlpacaEval counts: mean of preference - 1 with ties as 1.5 and failures left out.
    """
    who = pl.concat([folder.responses(), folder.judged_only()]).select("response_id", "model")
    originals = folder.others | folder.names
    who = who.unique(maintain_order=True).with_columns(
        pl.col("model").replace_strict(originals, return_dtype=pl.String)
    )
    named = folder.comparisons().join(
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


def _outputs(home: Path, folder: RecordedFolder) -> list[records.Record]:
    kept = []
    for record in records.load(home / "model_outputs.json", counts=folder.counts):
        if _instruction(record) is None:
            folder.counts["outputs_without_instruction"] += 1
        else:
            kept.append(record)
    return kept


def _add_answers(outputs: Mapping[str, Sequence[records.Record]], folder: RecordedFolder) -> None:
    """Every model's answers, and a failure for each prompt that others answered and it did not."""
    prompts: dict[str, None] = {}
    answered = set()
    for model, rows in outputs.items():
        for record in rows:
            dataset = record.get("dataset")
            source = dataset if isinstance(dataset, str) else None
            prompt = folder.add_prompt(_messages(_instruction(record)), COMPETENCY, dataset=source)
            prompts[prompt] = None
            answered.add((prompt, model))
            folder.add_answer(prompt, model, record.get("output"))
    for model in outputs:
        for prompt in prompts:
            if (prompt, model) not in answered:
                folder.add_answer(prompt, model, None)


def _add_annotations(file: Path, model: str, folder: RecordedFolder) -> None:
    judge = carried(file.parent.name)
    for record in records.load(file, counts=folder.counts):
        instruction = _instruction(record)
        prompt = folder.knows_prompt(_messages(instruction)) if instruction is not None else None
        texts = record.get("output_1"), record.get("output_2")
        if prompt is None:
            folder.counts["annotations_of_unknown_prompts"] += 1
        elif not isinstance(texts[0], str) or not isinstance(texts[1], str):
            folder.counts["annotations_without_answers"] += 1
        else:
            name = record.get("generator_1")
            if not isinstance(name, str) or not name:
                folder.counts["annotations_of_unnamed_baseline"] += 1
                name = "unnamed-baseline"
            if not folder.gave(prompt, model, texts[1]):
                folder.counts["annotations_of_other_answers"] += 1
            b = folder.add_judged_answer(prompt, folder.names[model], texts[1])
            a = folder.add_judged_answer(prompt, name, texts[0])
            folder.add_comparison(prompt, a, b, judge, *_verdict(record.get("preference")))


def _verdict(preference: Any) -> tuple[float | None, Status, str | None]:
    """Probability that the baseline is better, status and reason, from a preference as annotated."""
    if preference is None:
        return None, "failed", "the judge gave no preference (null)"
    value = number(preference)
    if value in (0.0, 1.5):
        return 0.5, "tie", None
    if value is None or not 1.0 <= value <= 2.0:
        return None, "failed", f"preference {str(preference)[:40]!r} is no number in [1,2]"
    return 2.0 - value, "ok", None


def _add_scores(files: Sequence[Path], folder: RecordedFolder) -> None:
    """Benchmark scores from CSVs: a row for each model and benchmark, null where the files have no number."""
    if not files:
        for model in folder.names:
            folder.add_score(model, COMPETENCY, "unmeasured", "published", None)
        return
    numbers: dict[tuple[str, str], float | None] = {}
    benchmarks: dict[str, None] = {}
    for file in files:
        shares = _shares(file, folder)
        for (model, benchmark), value in shares.items():
            benchmarks[benchmark] = None
            if numbers.get((model, benchmark)) is None:
                numbers[model, benchmark] = value
            elif value is not None and value != numbers[model, benchmark]:
                raise TableError(
                    f"{file}: another score of model '{model}' on {benchmark} than the other source."
                )
    for name, original in folder.names.items():
        for benchmark in benchmarks:
            score = numbers.get((original, benchmark))
            folder.add_score(name, BENCHMARKS[benchmark], benchmark, "published", score)


def _shares(file: Path, folder: RecordedFolder) -> dict[tuple[str, str], float | None]:
    """Each model's score on each benchmark that is known, in [0,1]."""
    if not file.is_file():
        raise TableError(f"{file}: no such file of scores.")
    header, cells = _cells(file)
    benchmarks = [column for column in header if column in BENCHMARKS]
    if not benchmarks:
        raise TableError(f"{file}: no column is a benchmark that is known here: {', '.join(BENCHMARKS)}.")
    folder.counts["score_columns_ignored"] += len(header) - len(benchmarks)
    folder.counts["scored_models_without_answers"] += len(cells.keys() - set(folder.names.values()))
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
    return {key: None if value is None else value / top for key, value in numbers.items()}


def _cells(file: Path) -> tuple[list[str], dict[str, dict[str, str | None]]]:
    """The columns beside `model`, and each model's row."""
    rows = [row for _, row in records.read(file, counts=Counter(), suffixes=(".csv",))]
    if not rows or "model" not in rows[0]:
        raise TableError(f"{file}: must have a column 'model' and at least one row.")
    by_model: dict[str, dict[str, str | None]] = {}
    for row in rows:
        if row["model"] in by_model:
            raise TableError(f"{file}: model '{row['model']}' is there twice. Remove one row.")
        by_model[row["model"]] = row
    return [column for column in rows[0] if column not in ("model", "sources")], by_model


def _number(cell: str | None, where: str) -> float | None:
    if cell is None or not cell.strip():
        return None
    value = number(cell)
    if value is None:
        raise TableError(f"{where}: '{cell}' is no number. Leave a missing score blank.")
    return value


def _instruction(record: Mapping[str, Any]) -> str | None:
    return text(record.get("instruction"))


def _messages(instruction: str | None) -> list[dict[str, str]]:
    return [{"role": "user", "content": instruction or ""}]


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register importer `alpaca-eval`."""
    summary = "AlpacaEval: answers of many models, judged against a baseline."
    return [Importer(name="alpaca-eval", summary=summary, read=read, options=AlpacaEvalOptions)]
