"""Generator `recorded`: answers recorded elsewhere, from a folder; one that is missing is a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins.contracts import Generator, Model, Options, hookimpl
from karma_plugins.errors import ModelError, TableError, did_you_mean
from karma_plugins.models import Recorded
from karma_plugins.texts import records
from karma_plugins.texts.identity import prompt_id

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
    rows, places = _read_parquet(path) if path.suffix == ".parquet" else _read_json(path)
    rows = rows.with_columns(
        pl.col("sample").fill_null(0),
        pl.when(pl.col("error").is_null()).then("text").alias("text"),
        pl.when(pl.col("text").is_null() & pl.col("error").is_null())
        .then(pl.lit("recorded without a text"))
        .otherwise("error")
        .alias("error"),
    )
    _check(rows, places, path, model, prompts)
    return rows.drop("model")


def _check(
    rows: pl.DataFrame, places: Sequence[Place], path: Path, model: Model, prompts: pl.DataFrame
) -> None:
    unknown = ~rows["prompt_id"].is_in(prompts["prompt_id"].implode())
    if unknown.fill_null(True).any():
        row = unknown.fill_null(True).arg_max() or 0
        raise TableError(
            f"{places[row].where}: it answers prompt {_excerpt(places[row], rows['prompt_id'][row])}, which "
            "is not in table prompts. Remove the row, or add its prompt to what section 'prompts' names."
        )
    other = (rows["model"] != model.name).fill_null(False)
    if other.any():
        row = other.arg_max() or 0
        raise TableError(
            f"{places[row].where}: the answer is by model '{rows['model'][row]}', not '{model.name}'. "
            "Call the model so in section 'models', or keep its answers in a folder of their own."
        )
    below = (rows["sample"] < 0).fill_null(False)
    if below.any():
        place = places[below.arg_max() or 0].where
        raise TableError(f"{place}: 'sample' must be a number from 0. Number the answers to a prompt from 0.")
    twice = rows.select("prompt_id", "sample").is_duplicated()
    if twice.any():
        identity, sample = rows.filter(twice).select("prompt_id", "sample").row(0)
        raise TableError(f"{path}: two answers to prompt {identity}, sample {sample}. Remove or number one.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row comes from, and what was asked, where the file says it."""

    where: str
    asked: str | None = None


def _read_parquet(path: Path) -> tuple[pl.DataFrame, list[Place]]:
    try:
        frame = pl.read_parquet(path)
        for column in ("prompt_id", "text"):
            if column not in frame.columns:
                hint = did_you_mean(column, frame.columns)
                raise TableError(f"{path}: column '{column}' is missing.{hint}")
        rows = frame.select(
            pl.col("prompt_id").cast(pl.String),
            *(
                (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
                for name, kind in FIELDS.items()
            ),
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = " ".join(str(error).split())
        raise TableError(
            f"{path}: not readable as a table of responses ({reason}). Write it again."
        ) from error
    return rows, [Place(f"{path}, row {i}") for i in range(1, rows.height + 1)]


def _read_json(path: Path) -> tuple[pl.DataFrame, list[Place]]:
    rows, places = [], []
    for where, record in records.read(path, suffixes=(".jsonl",)):
        rows.append(_record(record, where))
        prompt = record.get("prompt")
        messages = prompt if isinstance(prompt, list) else record.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else None
        question = prompt if isinstance(prompt, str) else _content(last)
        places.append(Place(where, None if question is None else str(question)))
    return pl.DataFrame(rows, schema={"prompt_id": pl.String, **FIELDS}), places


def _content(message: object) -> object:
    return message.get("content") if isinstance(message, Mapping) else None


def _record(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    if "text" not in record and "error" not in record:
        raise TableError(f"{where}: key 'text' is missing.{did_you_mean('text', record)}")
    for name, kind in FIELDS.items():
        value, wanted = record.get(name), str if kind is pl.String else int
        if value is not None and type(value) is not wanted:
            raise TableError(
                f"{where}: '{name}' must be of type {wanted.__name__}, found {value!r}. Correct it."
            )
        if isinstance(value, int) and not 0 <= value < 2**63:
            raise TableError(f"{where}: '{name}' must be a number from 0, found {value}. Correct it.")
    return {"prompt_id": _identity(record, where), **{name: record.get(name) for name in FIELDS}}


def _identity(record: Mapping[str, Any], where: str) -> str:
    """Which prompt a record answers: by its id, or by the prompt itself."""
    if isinstance(record.get("prompt_id"), str):
        return str(record["prompt_id"])
    messages = record.get("messages")
    prompt = record.get("prompt")
    if isinstance(prompt, str):
        messages = [{"role": "user", "content": prompt}]
    elif isinstance(prompt, list):
        messages = prompt  # as `karma export trl` writes it
    try:
        return prompt_id([{"role": m["role"], "content": m["content"]} for m in messages or []])
    except (TypeError, KeyError) as error:
        raise TableError(f"{where}: 'messages' must be a list of {{role, content}}. Correct it.") from error


def _excerpt(place: Place, identity: str | None) -> str:
    """The prompt that a row answers as a person knows it: its id, and the text where the file holds it."""
    question = place.asked
    return str(identity) if question is None else f"{identity} ('{' '.join(question.split())[:60]}')"
