"""Reading a data set by an importer's name, as `karma import NAME` does."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins import prompts
from karma_plugins.contracts import Importer
from karma_plugins.importers import RecordedFolder
from karma_plugins.params import PromptsSection
from karma_plugins.registry import manager


def imported(name: str, *sources: Path, **options: Any) -> RecordedFolder:
    """What the importer of that name gathers from some files."""
    bound = manager.load([]).bind(Importer, name, options, where="a test")
    folder: RecordedFolder = bound.plugin.read(sources, bound.options)
    return folder


def written(folder: RecordedFolder, out: Path) -> dict[str, Any]:
    """Write the folder, see that stage prompts reads it, and give the report's counts."""
    folder.write(out)
    prompts.read(PromptsSection(path=str(out / "prompts.jsonl")))
    counts: dict[str, Any] = json.loads((out / "report.json").read_text())["counts"]
    return counts


def save(records: list[Any], file: Path) -> Path:
    """The records in the layout that the file's name says."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    if file.suffix == ".parquet":
        pl.DataFrame(records).write_parquet(file)
    elif file.name.endswith(".jsonl.gz"):
        file.write_bytes(gzip.compress(lines.encode(), mtime=0))
    else:
        file.write_text(lines if file.suffix == ".jsonl" else json.dumps(records))
    return file
