"""Reads answers of many models, from anywhere, into table `responses`: for kinship of answers alone.

A folder of AlpacaEval results (<model>/model_outputs.json), or files .jsonl, .json, .csv or .parquet of
records that name prompt, model and answer; table responses among them. A folder stands for the files in it.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins.errors import TableError
from karma_plugins.schemas import RESPONSES
from karma_plugins.texts import records

#: What the columns are called in the world, the first that is there counts.
NAMES: Mapping[str, Sequence[str]] = {
    "prompt": ("prompt_id", "prompt", "instruction", "question", "input"),
    "model": ("model", "generator", "model_id", "model_name"),
    "text": ("text", "answer", "output", "response", "completion"),
}
OUTPUTS = "model_outputs.json"
RULES = (
    "answers: a prompt is told apart by its id, else by its text; several answers of a model to one prompt "
    "are its samples, in order",
    "answers: an answer that is null is missing and left out; one of blanks counts",
    "answers: in a folder of AlpacaEval results a model is its folder's name",
)


@dataclass
class Answers:
    """Table `responses`, and what was met on the way."""

    responses: pl.DataFrame = field(default_factory=RESPONSES.empty)
    counts: Counter[str] = field(default_factory=Counter)


def suits(path: Path) -> bool:
    """Whether a file or folder holds answers, by its names and columns alone."""
    if path.is_dir():
        if _homes(path):
            return True
        return any(suits(file) for file in sorted(path.iterdir()) if file.is_file())
    if path.name == OUTPUTS:
        return True
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        return False
    kind = path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix
    if kind == ".parquet":
        try:
            columns = list(pl.read_parquet_schema(path))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            return False
        return _columns(columns) is not None
    if kind == ".csv":
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            try:
                return _columns(next(csv.reader(stream), [])) is not None
            except csv.Error:  # whoever reads it says what is wrong
                return False
    if kind == ".jsonl":
        return True
    return kind == ".json" and not path.name.startswith("results_")


def read(path: Path) -> Answers:
    """The answers in a file or folder.

    Raises TableError where nothing is there, a file is broken, or names no prompt, model or answer.
    """
    answers = Answers()
    homes = _homes(path) if path.is_dir() else []
    if homes:
        frames = [_outputs(home, answers) for home in homes]
    elif path.is_dir():
        frames = [_file(file) for file in sorted(path.iterdir()) if file.is_file() and suits(file)]
    elif path.name == OUTPUTS:
        frames = [_outputs(path.parent, answers)]
    else:
        frames = [_file(path)]
    if not frames:
        raise TableError(f"{path}: holds no answers.")
    answers.responses = _responses(pl.concat(frames), answers.counts)
    return answers


def _homes(path: Path) -> list[Path]:
    results = path / "results" if (path / "results").is_dir() else path
    if (results / OUTPUTS).is_file():
        return [results]
    return sorted(home for home in results.iterdir() if home.is_dir() and (home / OUTPUTS).is_file())


def _outputs(home: Path, answers: Answers) -> pl.DataFrame:
    """One model's answers in AlpacaEval's form."""
    rows = []
    for record in records.load(home / OUTPUTS, counts=answers.counts):
        prompt, text = record.get("instruction"), record.get("output")
        if isinstance(prompt, str):
            rows.append((prompt, home.name, text if isinstance(text, str) else None))
        else:
            answers.counts["records_without_prompt"] += 1
    return pl.DataFrame(rows, schema=dict.fromkeys(NAMES, pl.String), orient="row")


def _file(path: Path) -> pl.DataFrame:
    """A file's records as columns prompt, model and text."""
    if path.suffix == ".parquet":
        return _named(records.parquet_table(path), path)
    rows = list(_records(path))
    return pl.DataFrame(rows, schema=dict.fromkeys(NAMES, pl.String), orient="row")


def _records(path: Path) -> Iterator[tuple[str | None, str | None, str | None]]:
    for where, record in records.read(path, counts=Counter()):
        names = _columns(list(record))
        if names is None:
            raise TableError(f"{where}: {_lacking(list(record))}")
        prompt, model, text = (record[names[key]] for key in NAMES)
        if not isinstance(model, str):
            raise TableError(f"{where}: '{names['model']}' must be the model's name, found {model!r:.40}.")
        yield _text(prompt), model, None if text is None else _text(text)


def _named(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    names = _columns(frame.columns)
    if names is None:
        raise TableError(f"{path}: {_lacking(frame.columns)}")
    columns = []
    for key, name in names.items():
        if frame.schema[name].is_nested():
            values = [None if value is None else _text(value) for value in frame[name].to_list()]
            columns.append(pl.Series(key, values, dtype=pl.String))
        else:
            columns.append(frame[name].cast(pl.String).alias(key))
    return pl.DataFrame(columns)


def _text(value: Any) -> str:
    """A text as it is; messages and other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _columns(names: Sequence[str]) -> dict[str, str] | None:
    columns = {key: next((name for name in known if name in names), None) for key, known in NAMES.items()}
    return None if None in columns.values() else {key: str(name) for key, name in columns.items()}


def _lacking(names: Sequence[str]) -> str:
    missing = [key for key, known in NAMES.items() if not any(name in names for name in known)]
    accepted = "; ".join(f"{'answer' if key == 'text' else key}: {', '.join(NAMES[key])}" for key in missing)
    return f"names no {accepted} (found: {', '.join(names)})."


def _responses(frame: pl.DataFrame, counts: Counter[str]) -> pl.DataFrame:
    """Table responses; prompts that are texts are known by their hash."""
    named = frame.drop_nulls(["prompt", "model"])
    counts["answers"] = named.height
    counts["answers_missing"] = named["text"].null_count()
    counts["records_without_prompt"] += frame.height - named.height
    prompts = named["prompt"].unique().sort()
    number = pl.DataFrame({"prompt": prompts, "prompt_id": [f"{i:08d}" for i in range(len(prompts))]})
    placed = named.join(number, on="prompt", how="left", maintain_order="left")
    sample = pl.int_range(pl.len()).over("prompt_id", "model")
    whole = placed.with_columns(
        sample=sample.cast(pl.Int64),
        error=pl.when(pl.col("text").is_null()).then(pl.lit("no answer")),
    ).with_columns(response_id=pl.format("{}/{}/{}", "prompt_id", "model", "sample"))
    missing = [pl.lit(None, t).alias(c) for c, t in RESPONSES.columns.items() if c not in whole.columns]
    return whole.with_columns(missing).select(RESPONSES.columns.names()).sort(RESPONSES.key)
