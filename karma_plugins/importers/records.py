"""Records of other people's files: .parquet, .json and .jsonl, the latter two maybe packed with gzip."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from karma_plugins.errors import TableError

SUFFIXES = (".json", ".jsonl", ".parquet")
Record = dict[str, Any]


def read(path: Path) -> Iterator[tuple[str, Record]]:
    """Each record with the place to name in messages; a folder stands for all its record files, by name.

    Raises TableError where nothing is there, or a file is of another kind, broken, or holds no records.
    """
    if not path.exists():
        raise TableError(f"{path}: no such file or folder.")
    for file in _files(path):
        kind = _kind(file)
        if kind == ".parquet":
            yield from _parquet(file)
        elif kind == ".jsonl":
            yield from _lines(file)
        else:
            yield from _array(file)


def load(file: Path) -> list[Record]:
    """All records of one .json file; TableError where it is missing, broken, or no list of records."""
    if not file.is_file():
        raise TableError(f"{file}: no such file.")
    return [record for _, record in _array(file)]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if _kind(path) not in SUFFIXES:
            raise TableError(f"{path}: is no {', '.join(SUFFIXES)} file (the JSON ones may end with .gz).")
        return [path]
    found = sorted(file for file in path.iterdir() if file.is_file() and _kind(file) in SUFFIXES)
    if not found:
        raise TableError(f"{path}: holds no {', '.join(SUFFIXES)} file (the JSON ones may end with .gz).")
    return found


def _kind(file: Path) -> str:
    return Path(file.stem).suffix if file.suffix == ".gz" else file.suffix


def _bytes(file: Path) -> bytes:
    try:
        return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise TableError(f"{file}: not readable ({error}).") from error


def _array(file: Path) -> Iterator[tuple[str, Record]]:
    try:
        found = json.loads(_bytes(file))
    except ValueError as error:  # also bytes that are no UTF-8
        raise TableError(f"{file}: not JSON ({error}). Fetch or mend the file.") from error
    if not isinstance(found, list):
        raise TableError(f"{file}: must hold a list of records, found {type(found).__name__}.")
    for i, record in enumerate(found, start=1):
        yield _checked(record, f"{file}, record {i}")


def _lines(file: Path) -> Iterator[tuple[str, Record]]:
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rb") as stream:
        numbered = enumerate(stream, start=1)
        while True:
            try:
                number, line = next(numbered)
            except StopIteration:
                return
            except (OSError, EOFError, zlib.error) as error:
                raise TableError(f"{file}: not readable ({error}).") from error
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise TableError(f"{where}: not JSON ({error}). Mend or remove the line.") from error
            yield _checked(record, where)


def _parquet(file: Path) -> Iterator[tuple[str, Record]]:
    import polars as pl

    try:
        frame = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{file}: not a readable parquet file ({str(error).splitlines()[0]}).") from error
    for i, record in enumerate(frame.iter_rows(named=True), start=1):
        yield f"{file}, row {i}", record


def _checked(record: Any, where: str) -> tuple[str, Record]:
    if not isinstance(record, dict):
        raise TableError(f"{where}: must be a JSON object, found {type(record).__name__}.")
    return where, record
