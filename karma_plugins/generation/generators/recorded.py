"""Generator `recorded`: answers recorded elsewhere, from a folder; one that is missing is a failure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins.contracts import Generator, Model, Options
from karma_plugins.errors import ModelError, TableError, did_you_mean
from karma_plugins.hookspecs import hookimpl
from karma_plugins.models import Recorded
from karma_plugins.prompts import prompt_id

#: What a record may hold beside its prompt.
FIELDS: Mapping[str, type[pl.DataType]] = {
    "model": pl.String, "sample": pl.Int64, "text": pl.String, "finish_reason": pl.String,
    "prompt_tokens": pl.Int64, "completion_tokens": pl.Int64, "error": pl.String,
}  # fmt: skip


@hookimpl
def karma_register_generators() -> Sequence[Generator]:
    """Register this generator."""
    return [Generator(name="recorded", recall=recall, keeps_shards=False)]


def recall(model: Model, prompts: pl.DataFrame, options: Options) -> pl.DataFrame:
    """All recorded answers, from responses.parquet (columns as in table `responses`) or responses.jsonl.

    A line of the latter names its prompt by `prompt_id`, `messages` or `prompt` and holds `text`, maybe
    `sample`, `finish_reason`, `error` and token counts. Raises TableError for a broken row, an answer to a
    prompt that is not in table `prompts`, of another model, or recorded twice.
    """
    if not isinstance(model.source, Recorded) or model.source.responses is None:
        raise ModelError(
            f"models.{model.name}: generator 'recorded' needs a folder with responses.parquet or "
            f"responses.jsonl, found '{model.path}'. Name another generator or record answers there."
        )
    path = model.source.responses
    rows = _read_parquet(path) if path.suffix == ".parquet" else _read_json(path)
    rows = rows.with_columns(
        pl.col("sample").fill_null(0),
        pl.when(pl.col("error").is_null()).then("text").alias("text"),
        pl.when(pl.col("text").is_null() & pl.col("error").is_null())
        .then(pl.lit("recorded without a text"))
        .otherwise("error")
        .alias("error"),
    )
    _check(rows, path, model, prompts)
    return rows.drop("model")


def _check(rows: pl.DataFrame, path: Path, model: Model, prompts: pl.DataFrame) -> None:
    unknown = ~rows["prompt_id"].is_in(prompts["prompt_id"].implode())
    if unknown.fill_null(True).any():
        row = unknown.fill_null(True).arg_max() or 0
        raise TableError(
            f"{path}, row {row + 1}: it answers prompt {_excerpt(path, row, rows['prompt_id'][row])}, which "
            "is not in table prompts. Remove the row, or add its prompt to what section 'prompts' names."
        )
    other = (rows["model"] != model.name).fill_null(False)
    if other.any():
        row = other.arg_max() or 0
        raise TableError(
            f"{path}, row {row + 1}: the answer is by model '{rows['model'][row]}', not '{model.name}'. "
            "Call the model so in section 'models', or keep its answers in a folder of their own."
        )
    twice = rows.select("prompt_id", "sample").is_duplicated()
    if twice.any():
        identity, sample = rows.filter(twice).select("prompt_id", "sample").row(0)
        raise TableError(f"{path}: two answers to prompt {identity}, sample {sample}. Remove or number one.")


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
        for column in ("prompt_id", "text"):
            if column not in frame.columns:
                hint = did_you_mean(column, frame.columns)
                raise TableError(f"{path}: column '{column}' is missing.{hint}")
        return frame.select(
            pl.col("prompt_id").cast(pl.String),
            *(
                (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
                for name, kind in FIELDS.items()
            ),
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split())
        raise TableError(
            f"{path}: not readable as a table of responses ({reason}). Write it again."
        ) from error


def _read_json(path: Path) -> pl.DataFrame:
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not text in UTF-8 ({error}). Write it again.") from error
    records = [_record(line, f"{path}, row {i}") for i, line in enumerate(lines, start=1)]
    return pl.DataFrame(records, schema={"prompt_id": pl.String, **FIELDS})


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise TableError(f"{where}: not JSON ({error}). Correct the line.") from error
    if not isinstance(record, dict):
        raise TableError(f"{where}: not a JSON object. Correct the line.")
    if "text" not in record and "error" not in record:
        raise TableError(f"{where}: key 'text' is missing.{did_you_mean('text', record)}")
    for name, kind in FIELDS.items():
        value, wanted = record.get(name), str if kind is pl.String else int
        if value is not None and type(value) is not wanted:
            raise TableError(
                f"{where}: '{name}' must be of type {wanted.__name__}, found {value!r}. Correct it."
            )
    return {"prompt_id": _identity(record, where), **{name: record.get(name) for name in FIELDS}}


def _identity(record: Mapping[str, Any], where: str) -> str:
    """Which prompt a record answers: by its id, or by the prompt itself."""
    if isinstance(record.get("prompt_id"), str):
        return str(record["prompt_id"])
    messages = record.get("messages")
    if isinstance(record.get("prompt"), str):
        messages = [{"role": "user", "content": record["prompt"]}]
    try:
        return prompt_id([{"role": m["role"], "content": m["content"]} for m in messages or []])
    except (TypeError, KeyError) as error:
        raise TableError(f"{where}: 'messages' must be a list of {{role, content}}. Correct it.") from error


def _excerpt(path: Path, row: int, identity: str | None) -> str:
    """The prompt that a row answers as a person knows it: its id, and the text where the file holds it."""
    if path.suffix == ".parquet":
        return str(identity)
    record = json.loads(path.read_text(encoding="utf-8").split("\n")[row])
    asked = record.get("prompt") or next((m["content"] for m in reversed(record.get("messages") or [])), None)
    return str(identity) if asked is None else f"{identity} ('{' '.join(str(asked).split())[:60]}')"
