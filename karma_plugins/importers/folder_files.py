"""The files of an import: written whole or not at all, with names that can't break out of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins import tables
from karma_plugins.errors import TableError
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS, RESPONSES, SCORES

REPORT = "report.json"
VERDICTS = "verdicts"
#: What YAML takes for a text without quotes, whatever its version.
PLAIN_KEY = re.compile(r"(?!(?:true|false|yes|no|on|off|null|y|n)\Z)[A-Za-z_][A-Za-z0-9_-]*", re.IGNORECASE)
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./@+-]*")


@dataclass(frozen=True)
class Contents:
    """What is written: prompts as lines, names of candidates, tables in their schemas, and the report.

    An import of verdicts alone has no names; its tables lie in the folder itself.
    """

    prompts: Sequence[Mapping[str, Any]]
    names: Mapping[str, str]
    responses: pl.DataFrame
    judged_only: pl.DataFrame
    scores: pl.DataFrame
    comparisons: pl.DataFrame
    judgements: pl.DataFrame
    report: Mapping[str, Any]


def write(contents: Contents, out: Path) -> None:
    """Write an import; an earlier one there is replaced, anything else is a TableError."""
    _refuse_strange(out)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        if contents.names:
            _write_models(contents, partial, out)
        _write_verdicts(contents, partial / VERDICTS if contents.names else partial)
        report = json.dumps(contents.report, ensure_ascii=False, indent=2, sort_keys=True)
        (partial / REPORT).write_text(report + "\n", encoding="utf-8")
        _replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _refuse_strange(out: Path) -> None:
    if out.exists() and not (out / REPORT).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise TableError(f"{out}: is there and holds no earlier import. Name another folder with --out.")


def _replace(partial: Path, out: Path) -> None:
    earlier = out.with_name(f".{out.name}.earlier")
    shutil.rmtree(earlier, ignore_errors=True)
    if out.exists():
        out.replace(earlier)
    partial.replace(out)
    shutil.rmtree(earlier, ignore_errors=True)


def _write_models(contents: Contents, home: Path, out: Path) -> None:
    with (home / "prompts.jsonl").open("w", encoding="utf-8") as stream:
        for prompt in contents.prompts:
            stream.write(json.dumps(prompt, ensure_ascii=False) + "\n")
    answers = contents.responses.partition_by("model", as_dict=True)
    scores = contents.scores.partition_by("model", as_dict=True)
    for name in contents.names:
        model = home / "models" / name
        tables.write(answers.get((name,), RESPONSES.empty()), model / "responses.parquet", RESPONSES)
        tables.write(scores.get((name,), SCORES.empty()), model / "scores.parquet", SCORES)
    tables.write(contents.judged_only, home / VERDICTS / "judged_only.parquet", RESPONSES)
    (home / "models.yaml").write_text(models_block(contents.names, out), encoding="utf-8")


def _write_verdicts(contents: Contents, home: Path) -> None:
    tables.write(contents.comparisons, home / "comparisons.parquet", COMPARISONS)
    tables.write(contents.judgements, home / "judgements.parquet", JUDGEMENTS)


def models_block(names: Mapping[str, str], out: Path) -> str:
    """Section `models` for params.yaml; the source's own name follows where it had to be changed."""
    lines = [
        "# Paste into params.yaml. A name that DVC can't carry was changed; the source's own follows it.",
        "models:",
    ]
    for name, original in sorted(names.items()):
        key = name if PLAIN_KEY.fullmatch(name) else json.dumps(name)
        path = (out / "models" / name).as_posix()
        lines.append(f"  {key}:" + (f"  # {one_line(original)}" if name != original else ""))
        lines.append(f"    path: {path if PLAIN_PATH.fullmatch(path) else json.dumps(path)}")
        lines.append("    generator: recorded")
    return "\n".join(lines) + "\n"


def one_line(text: str) -> str:
    """The text as one printable line: what breaks, turns or controls lines is escaped."""
    return text if text.isprintable() else json.dumps(text)
