"""What can befall a kept file, by name; and the table of what came of it, which `pytest -s` shows."""

from __future__ import annotations

import io
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

#: Changes a file; the second path is the file of the same kind that another's work has.
Damage = Callable[[Path, Path], None]


def _missing(path: Path, _: Path) -> None:
    path.unlink()


def _empty(path: Path, _: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path, _: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def _garbage(path: Path, _: Path) -> None:
    path.write_bytes(bytes(i * 89 % 256 for i in range(max(64, path.stat().st_size))))


def _one_bit(path: Path, _: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _fewer_rows(path: Path, _: Path) -> None:
    """The file as a well-formed one that holds less."""
    content = path.read_bytes()
    if content.startswith(b"SQLite"):
        with closing(sqlite3.connect(path)) as database:
            database.execute("DELETE FROM kept WHERE key IN (SELECT key FROM kept ORDER BY key LIMIT 3)")
            database.commit()
    elif (at := content.find(b"PAR1")) >= 0:
        rows = io.BytesIO()
        pl.read_parquet(io.BytesIO(content[at:])).head(1).write_parquet(rows)
        path.write_bytes(content[:at] + rows.getvalue())
    else:
        lines = content.splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-1]) if len(lines) > 1 else content[: len(content) // 2])


def _swapped(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def _folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Damage] = {
    "missing": _missing, "empty": _empty, "cut": _cut, "garbage": _garbage, "one bit": _one_bit,
    "fewer rows": _fewer_rows, "swapped": _swapped, "a folder": _folder,
}  # fmt: skip


class Table:
    """How each damage of each kind of file ended."""

    def __init__(self) -> None:
        self.cells: dict[str, dict[str, str]] = defaultdict(dict)

    def note(self, kind: str, damage: str, end: str) -> None:
        self.cells[kind][damage] = end

    def show(self) -> None:
        sys.stdout.write(f"\n{'kind of file':34}" + "".join(f"{name:>12}" for name in DAMAGES) + "\n")
        for kind, ends in self.cells.items():
            row = "".join(f"{ends.get(name, '-'):>12}" for name in DAMAGES)
            sys.stdout.write(f"{kind:34}{row}\n")


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table()
    yield made
    made.show()
