"""Prompts: from a file or a dataset to table `prompts`, with ids that are hashes of what is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins.contracts import Messages
from karma_plugins.errors import EmptyResultError, TableError
from karma_plugins.params import PromptsSection, SeenSection
from karma_plugins.schemas import PROMPTS
from karma_plugins.texts import filters

SPLITS = ("train", "heldout")
ROLES = ("system", "user", "assistant")
#: Names that other people's files give to the held-out split.
HELDOUT_NAMES = ("heldout", "held-out", "held_out", "test", "validation", "eval")


def prompt_id(messages: Messages) -> str:
    """The id of a prompt: 16 hex digits of a hash of its messages, the same wherever it is met."""
    canonical = json.dumps(
        [[m["role"], m["content"]] for m in messages], ensure_ascii=False, separators=(",", ":")
    )
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def read(settings: PromptsSection) -> pl.DataFrame:
    """Read the source that section `prompts` names into table `prompts`.

    Raises TableError for a broken line, an empty or malformed prompt, one prompt twice, or a held-out prompt
    that is also a training prompt; each names the file and the row.
    """
    if (settings.path is None) == (settings.dataset is None):
        raise TableError("params.yaml, prompts: name exactly one of 'path' and 'dataset'.")
    where = settings.path or str(settings.dataset)
    rows = _rows_of_file(Path(where)) if settings.path else _rows_of_dataset(settings)
    prompts = [_prompt(row, settings, where=place) for place, row in _first(rows, settings.limit)]
    if not prompts:
        raise TableError(f"{where}: holds no prompt.")
    _refuse_twice(prompts, where)
    table = pl.DataFrame([p for p, _ in prompts], schema=PROMPTS.columns)
    return _hold_out(table, settings.heldout).sort("prompt_id")


def unseen(prompts: pl.DataFrame, settings: SeenSection | None) -> tuple[pl.DataFrame, int | None]:
    """The prompts without training prompts that evaluation items hold, and how many those were.

    Without settings nothing is looked for, and the number is null. Raises TableError where items can't be
    read, EmptyResultError where no training prompt is left.
    """
    if settings is None:
        return prompts, None
    items = filters.read_items(Path(settings.items))
    kept, seen = filters.drop_seen(prompts, items, ngram=settings.ngram, share=settings.share)
    if seen.height and (kept["split"] != "train").all():
        raise EmptyResultError(
            f"params.yaml, prompts.seen: all {seen.height} training prompts stand in {settings.items}. "
            "Raise ngram or share, or name other items."
        )
    return kept, seen.height


def summary(prompts: pl.DataFrame, seen: int | None) -> str:
    """What the stage says: prompts by split, and how many were dropped as seen, where that was looked for."""
    splits = ", ".join(f"{n} {split}" for split, n in sorted(prompts["split"].value_counts().iter_rows()))
    dropped = "" if seen is None else f", {seen} dropped as seen in evaluation items"
    return f"prompts: {prompts.height} kept ({splits}){dropped}"


def _first(
    rows: Iterator[tuple[str, Mapping[str, Any]]], limit: int | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for i, row in enumerate(rows):
        if limit is not None and i >= limit:
            return
        yield row


def _rows_of_file(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each record of a JSONL, CSV or parquet file with the place to name in messages."""
    if not path.is_file():
        raise TableError(f"params.yaml, prompts.path: '{path}' does not exist.")
    if path.suffix == ".jsonl":
        yield from _rows_of_jsonl(path)
    elif path.suffix in (".csv", ".parquet"):
        try:
            frame = pl.read_csv(path, infer_schema=False) if path.suffix == ".csv" else pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise TableError(f"{path}: not readable ({str(error).splitlines()[0]}).") from error
        for i, row in enumerate(frame.iter_rows(named=True), start=2 if path.suffix == ".csv" else 1):
            yield f"{path}, row {i}", row
    else:
        raise TableError(f"params.yaml, prompts.path: '{path}' is no .jsonl, .csv or .parquet file.")


def _rows_of_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:  # also bytes that are no UTF-8
                raise TableError(
                    f"{path}, line {number}: not JSON ({error}). Mend or remove the line."
                ) from error
            if not isinstance(row, dict):
                raise TableError(f"{path}, line {number}: must be a JSON object, found {type(row).__name__}.")
            yield f"{path}, line {number}", row


def _rows_of_dataset(settings: PromptsSection) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each record of a dataset that the `datasets` library loads; no code of the dataset's own is run."""
    from datasets import load_dataset

    name = str(settings.dataset)
    local = Path(name).exists()
    revision = None if local else settings.revision
    try:
        rows = load_dataset(name, settings.config, split=settings.dataset_split, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        asked = f"dataset '{name}' (revision {revision}, split {settings.dataset_split})"
        cure = (
            ""
            if local
            else f" Fetch it beforehand where there is a network: hf download --repo-type dataset {name}"
        )
        raise TableError(
            f"params.yaml, prompts.dataset: can't load {asked}: {' '.join(str(error).split())}.{cure}"
        ) from error
    for i, row in enumerate(rows, start=1):
        yield f"{name}, row {i}", row


def _prompt(row: Mapping[str, Any], settings: PromptsSection, *, where: str) -> tuple[dict[str, Any], str]:
    columns = settings.columns
    messages = _messages(row, columns.messages, columns.prompt, where)
    found = row.get(columns.competency)
    competency = settings.competencies.get(str(found), found) if found is not None else settings.competency
    if not competency:
        raise TableError(
            f"{where}: no competency in column '{columns.competency}'. Name the column in "
            "prompts.columns.competency or one competency for all in prompts.competency."
        )
    split = row.get(columns.split)
    name = (
        "train" if split is None else "heldout" if str(split).lower() in HELDOUT_NAMES else str(split).lower()
    )
    if name not in SPLITS:
        raise TableError(f"{where}: split '{split}' is neither 'train' nor 'heldout'.")
    prompt = {
        "prompt_id": prompt_id(messages),
        "messages": messages,
        "competency": str(competency),
        "reference": _text(row.get(columns.reference)),
        "constraints": _text(row.get(columns.constraints)),
        "split": name,
    }
    return prompt, where


def _messages(row: Mapping[str, Any], messages: str, prompt: str, where: str) -> list[dict[str, str]]:
    found = row.get(messages)
    if found is None and row.get(prompt) is not None:
        found = [{"role": "user", "content": row[prompt]}]
    if isinstance(found, str):  # CSV carries conversations as JSON
        try:
            found = json.loads(found)
        except ValueError as error:
            raise TableError(f"{where}: column '{messages}' is not JSON ({error}).") from error
    if found is None:
        known = ", ".join(map(str, row))
        raise TableError(
            f"{where}: neither '{messages}' nor '{prompt}' is there (found: {known}). Set prompts.columns."
        )
    if not isinstance(found, list) or not found:
        raise TableError(f"{where}: the prompt is empty.")
    for message in found:
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise TableError(f"{where}: a message needs 'role' (one of {', '.join(ROLES)}) and 'content'.")
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            raise TableError(f"{where}: the prompt is empty (a {message['role']} message without text).")
    if found[-1]["role"] == "assistant":
        raise TableError(f"{where}: the last message is the assistant's, so nothing is asked.")
    return [{"role": m["role"], "content": m["content"]} for m in found]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return (
        json.dumps(value, ensure_ascii=False, sort_keys=True)
        if isinstance(value, (dict, list))
        else str(value)
    )


def _refuse_twice(prompts: list[tuple[dict[str, Any], str]], where: str) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for prompt, place in prompts:
        known = seen.setdefault(prompt["prompt_id"], (place, prompt["split"]))
        if known[0] == place:
            continue
        text = prompt["messages"][-1]["content"][:60]
        if known[1] != prompt["split"]:
            raise TableError(
                f"{place}: held-out prompt '{text}' is also a training prompt ({known[0]}). Remove one."
            )
        raise TableError(
            f"{place}: prompt '{text}' is there twice (id {prompt['prompt_id']}, {known[0]}). Remove one."
        )


def _hold_out(table: pl.DataFrame, share: float) -> pl.DataFrame:
    """Hold out a share of the prompts by their ids, where the source itself holds out none."""
    if share == 0.0 or (table["split"] == "heldout").any():
        return table
    chosen = [int(i, 16) / 16**16 < share for i in table["prompt_id"]]
    split = pl.Series("split", ["heldout" if c else "train" for c in chosen])
    return table.with_columns(split)
