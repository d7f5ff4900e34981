"""Prompts: from a file or a dataset to table `prompts`, with ids that are hashes of what is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins.errors import EmptyResultError, TableError
from karma_plugins.params import PromptsSection, SeenSection
from karma_plugins.schemas import PROMPTS
from karma_plugins.texts import filters, json_text, records, references
from karma_plugins.texts.identity import prompt_id as prompt_id

SPLITS = ("train", "heldout")
ROLES = ("system", "user", "assistant")
#: Names that other people's files give to the held-out split.
HELDOUT_NAMES = ("heldout", "held-out", "held_out", "test", "validation", "eval")


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
    if not path.exists():
        raise TableError(f"params.yaml, prompts.path: '{path}' does not exist.")
    yield from records.read(path)


def _rows_of_dataset(settings: PromptsSection) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each record of a dataset that the `datasets` library loads; no code of the dataset's own is run."""
    from datasets import load_dataset

    name = str(settings.dataset)
    local = Path(name).exists()
    revision = None if local else settings.revision
    try:
        rows = load_dataset(name, settings.config, split=settings.dataset_split, revision=revision)
    except Exception as error:
        dataset = f"dataset '{name}' (revision {revision}, split {settings.dataset_split})"
        cure = (
            ""
            if local
            else f" Fetch it beforehand where there is a network: hf download --repo-type dataset {name}"
        )
        raise TableError(
            f"params.yaml, prompts.dataset: can't load {dataset}: {_cause(error)}.{cure}"
        ) from error
    for i, row in enumerate(rows, start=1):
        where = f"{name}, row {i}"
        yield where, records.checked(dict(row), where)


def _cause(error: BaseException) -> str:
    """The first cause, which says what was wrong, in one line of at most 400 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= 400 else f"{line[:399]}…"


def _prompt(row: Mapping[str, Any], settings: PromptsSection, *, where: str) -> tuple[dict[str, Any], str]:
    columns = settings.columns
    messages = _messages(row, columns.messages, columns.prompt, where)
    stated = row.get(columns.competency)
    competency = settings.competencies.get(str(stated), stated) if stated is not None else settings.competency
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
        "reference": references.stored(row.get(columns.reference)),
        "constraints": _text(row.get(columns.constraints)),
        "split": name,
    }
    return prompt, where


def _messages(row: Mapping[str, Any], messages: str, prompt: str, where: str) -> list[dict[str, str]]:
    content = row.get(messages)
    if content is None and row.get(prompt) is not None:
        # A list is a conversation already, as `karma export trl` writes it.
        question = row[prompt]
        content = question if isinstance(question, list) else [{"role": "user", "content": question}]
    if isinstance(content, str):  # CSV carries conversations as JSON
        content = json_text.parse(content, f"{where}, column '{messages}'", records.MEND)
    if content is None:
        known = ", ".join(map(str, row))
        raise TableError(
            f"{where}: neither '{messages}' nor '{prompt}' is there (found: {known}). Set prompts.columns."
        )
    if not isinstance(content, list) or not content:
        raise TableError(f"{where}: the prompt is empty.")
    for message in content:
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise TableError(f"{where}: a message needs 'role' (one of {', '.join(ROLES)}) and 'content'.")
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            raise TableError(f"{where}: the prompt is empty (a {message['role']} message without text).")
    if content[-1]["role"] == "assistant":
        raise TableError(f"{where}: the last message is the assistant's, so nothing is asked.")
    return [{"role": m["role"], "content": m["content"]} for m in content]


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
