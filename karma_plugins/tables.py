"""The only reader and writer of tables: parquet, checked against its schema, the same rows giving the same
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from karma_plugins.contracts import Verdicts
from karma_plugins.errors import TableError, did_you_mean
from karma_plugins.runtime.files import clear, naming_a_full_disk, process, replacing
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS, Schema


@dataclass(frozen=True, slots=True)
class LazyVerdicts:
    """As `Verdicts`, to be read as far as they are needed."""

    judgements: pl.LazyFrame
    comparisons: pl.LazyFrame


#: What polars raises for a file that is damaged: it panics at some that only a fuzzer makes.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
#: Fixed, so that equal tables are equal files whatever the machine.
ROW_GROUP_SIZE = 65_536


def read(path: Path | str, schema: Schema) -> pl.DataFrame:
    """Read one table and check it.

    Raises TableError where the file is missing, is no parquet file, or its columns are not the schema's.
    """
    path = Path(path)
    if not path.is_file():
        raise TableError(f"{path}: no such table ({schema.name}). Run the stage that writes it: `dvc repro`.")
    try:
        frame = pl.read_parquet(path)
    except UNREADABLE as error:
        raise TableError(
            f"{path}: not a readable parquet file ({_first_line(error)}). Make it again."
        ) from error
    return check(frame, schema, where=str(path))


def read_all(paths: Iterable[Path], schema: Schema) -> pl.DataFrame:
    """Read tables of one schema, one below the other; exactly those named, whatever else lies beside them."""
    return check(
        pl.concat([schema.empty(), *(read(path, schema) for path in paths)]), schema, where=schema.name
    )


def scan(path: Path | str, schema: Schema) -> pl.LazyFrame:
    """A table to be read as far as it is needed; its columns and the order of its keys are checked.

    The other checks of its rows were made when it was written. Raises TableError as `read` does, and where
    rows stand twice or out of order.
    """
    path = Path(path)
    if not path.is_file():
        raise TableError(f"{path}: no such table ({schema.name}). Run the stage that writes it: `dvc repro`.")
    try:
        frame = pl.scan_parquet(path)
        empty = pl.DataFrame(schema=frame.collect_schema())
    except UNREADABLE as error:
        raise TableError(
            f"{path}: not a readable parquet file ({_first_line(error)}). Make it again."
        ) from error
    check(empty, schema, where=str(path))
    _check_order(frame, schema, path)
    return frame.select(pl.col(column).cast(dtype) for column, dtype in schema.columns.items())


def _check_order(frame: pl.LazyFrame, schema: Schema, path: Path) -> None:
    """Raise TableError where another program has doubled rows or put tables one below the other."""
    first = pl.col(schema.key[0])
    twice = pl.all_horizontal(pl.col(key).eq_missing(pl.col(key).shift()) for key in schema.key)
    try:
        faults = frame.select(twice=twice.any(), unsorted=(first < first.shift()).any()).collect()
    except UNREADABLE as error:
        raise TableError(
            f"{path}: not a readable parquet file ({_first_line(error)}). Make it again."
        ) from error
    if faults.height and any(faults.row(0)):
        raise TableError(
            f"{path}: rows of table {schema.name} stand twice or out of order by {', '.join(schema.key)}, as "
            "no stage writes them. Make it again: `dvc repro`."
        )


def scan_all(paths: Iterable[Path], schema: Schema) -> pl.LazyFrame:
    """Tables of one schema, one below the other, to be read as far as they are needed."""
    return pl.concat([schema.empty().lazy(), *(scan(path, schema) for path in paths)])


def read_verdicts(folder: Path) -> Verdicts:
    """Read recorded verdicts: tables `judgements` and `comparisons` in a folder, either may be absent."""
    verdicts = [
        read(path, schema) if (path := folder / f"{schema.name}.parquet").is_file() else schema.empty()
        for schema in (JUDGEMENTS, COMPARISONS)
    ]
    if all(frame.is_empty() for frame in verdicts):
        raise TableError(
            f"{folder}: {'holds' if folder.exists() else 'is not there, so it holds'} neither "
            "judgements.parquet nor comparisons.parquet with any row. Name the folder that recorded verdicts "
            "were imported to (`karma import`)."
        )
    return Verdicts(*verdicts)


def scan_verdicts(folders: Mapping[str, Path]) -> dict[str, LazyVerdicts]:
    """What stage judge wrote, by judge, to be read as far as it is needed; `folders` are by judge."""
    return {
        judge: LazyVerdicts(
            scan(folder / "judgements.parquet", JUDGEMENTS), scan(folder / "comparisons.parquet", COMPARISONS)
        )
        for judge, folder in folders.items()
    }


def write(frame: pl.DataFrame, path: Path | str, schema: Schema) -> None:
    """Check a table, sort it by its key, and write it whole or not at all."""
    path = Path(path)
    frame = check(frame, schema, where=str(path)).sort(schema.key, nulls_last=False)
    clear(path)
    with replacing(path) as partial:
        frame.write_parquet(partial, compression="zstd", row_group_size=ROW_GROUP_SIZE, statistics=True)


class Parts:
    """Writes a table that comes in parts, each sorted and after the one before, and never whole in memory.

    The file is that of `write`, byte for byte, and appears when the context ends without an error.
    """

    def __init__(self, path: Path | str, schema: Schema) -> None:
        self.path, self.schema = Path(path), schema
        self.last: tuple[Any, ...] | None = None
        self.files: list[Path] = []

    def __enter__(self) -> Parts:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        clear(self.path)
        prefix = f".{self.path.name}.{process()}."
        self.folder = TemporaryDirectory(dir=self.path.parent, prefix=prefix)
        return self

    def add(self, frame: pl.DataFrame) -> None:
        """Check the next rows and put them aside; ValueError where they do not come after those before."""
        frame = check(frame, self.schema, where=str(self.path)).sort(self.schema.key, nulls_last=False)
        if frame.is_empty():
            return
        keys = frame.select(self.schema.key)
        if self.last is not None and keys.row(0) <= self.last:
            raise ValueError(f"{self.path}: rows of table {self.schema.name} came out of order")
        self.last = keys.row(-1)
        self.files.append(Path(self.folder.name) / f"{len(self.files):06d}.parquet")
        with naming_a_full_disk(self.files[-1]):
            frame.write_parquet(self.files[-1], row_group_size=ROW_GROUP_SIZE)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.folder:
            if kind is not None:
                return
            if not self.files:
                write(self.schema.empty(), self.path, self.schema)
                return
            with replacing(self.path) as partial:
                pl.scan_parquet(self.files).sink_parquet(
                    partial,
                    compression="zstd",
                    row_group_size=ROW_GROUP_SIZE,
                    statistics=True,
                    maintain_order=True,
                )


def write_verdicts(parts: Iterable[Verdicts], folder: Path) -> None:
    """Write tables `judgements` and `comparisons` into a folder, some prompts at a time."""
    with (
        Parts(folder / "judgements.parquet", JUDGEMENTS) as judgements,
        Parts(folder / "comparisons.parquet", COMPARISONS) as comparisons,
    ):
        for part in parts:
            judgements.add(part.judgements)
            comparisons.add(part.comparisons)


def check(frame: pl.DataFrame, schema: Schema, *, where: str) -> pl.DataFrame:
    """The frame with exactly the schema's columns in order; TableError names the first difference."""
    for column in schema.columns:
        if column not in frame.columns:
            hint = did_you_mean(column, [c for c in frame.columns if c not in schema.columns])
            raise TableError(f"{where}: column '{column}' of table {schema.name} is missing.{hint}")
    for column in frame.columns:
        if column not in schema.columns:
            hint = did_you_mean(column, schema.columns)
            raise TableError(f"{where}: column '{column}' is not in table {schema.name}; remove it.{hint}")
    frame = frame.select(schema.columns.names())
    for column, dtype in schema.columns.items():
        if frame.schema[column] != dtype:
            actual = frame.schema[column]
            if actual != pl.Null:
                raise TableError(f"{where}: column '{column}' is {actual}, table {schema.name} has {dtype}.")
            frame = frame.with_columns(pl.col(column).cast(dtype))
    nulls = frame.null_count().row(0, named=True)
    for column, count in nulls.items():
        if count and column not in schema.nullable:
            raise TableError(f"{where}: column '{column}' of table {schema.name} is empty in {count} rows.")
    keys = frame.select(schema.key)
    # Hashes first, which cost a third: equal keys have equal hashes.
    if keys.hash_rows().n_unique() < keys.height and (twice := keys.is_duplicated()).any():
        row = dict(zip(schema.key, keys.filter(twice).row(0), strict=True))
        raise TableError(f"{where}: two rows of table {schema.name} have the same key {row}. Remove one.")
    return frame


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def write_json(value: Mapping[str, Any], path: Path | str) -> None:
    """Write numbers for `dvc metrics`, or a report, as JSON with sorted keys, whole or not at all."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    clear(Path(path))
    with replacing(Path(path)) as partial:
        partial.write_text(text, encoding="utf-8")


def write_csv(frame: pl.DataFrame, path: Path | str, *, spreadsheet: bool = False) -> None:
    """Write a frame as CSV, for `dvc plots` or people, in its order, whole or not at all.

    For a `spreadsheet` a text that one would calculate (`=1+1`, `@x`) begins with an apostrophe.
    """
    if spreadsheet:
        texts = [pl.col(name) for name, kind in frame.schema.items() if kind == pl.String]
        frame = frame.with_columns(
            pl.when(text.str.contains(r"^[=+\-@\t\r]")).then(pl.lit("'") + text).otherwise(text).name.keep()
            for text in texts
        )
    clear(Path(path))
    with replacing(Path(path)) as partial:
        frame.write_csv(partial, float_precision=6)
