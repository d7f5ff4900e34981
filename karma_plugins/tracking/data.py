"""What a run says of the data that it read and wrote: name, place, hash, size, and the columns of a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from karma_plugins import lineage
from karma_plugins.lineage.hashing import shortened

TABLE: Final = ".parquet"
Context = Literal["input", "output"]
CONTEXTS: Final[tuple[Context, Context]] = ("input", "output")


@dataclass(slots=True)
class Data:
    """A file or folder, by its path from the root of the repository, or an address, and its hash in dvc.lock.

    The path is its name, so that no two data share one. `size` in bytes; `rows` and `columns` (in the words
    of an MLflow signature) are those of a table, or of a folder whose tables all have the same ones. `notes`
    are further tags of it as an input.
    """

    name: str
    path: str
    digest: str
    size: int | None = None
    rows: int | None = None
    columns: list[dict[str, Any]] = field(default_factory=list)
    context: Context = "input"
    hash_name: str = "md5"
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def short_digest(self) -> str:
        """The digest as MLflow takes it: that of dvc.lock, or where an address has a longer word its md5."""
        return shortened(self.digest)


def describe(path: Path, workspace: Path, context: Context = "input") -> Data:
    """The data at `path` as it lies there now."""
    where = path.parent.resolve() / path.name  # not the path's own target: DVC's cache may be linked there
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    place = Path(os.path.relpath(where, workspace)).as_posix()
    data = Data(place, place, lineage.known_hash(path), context=context)
    data.size = sum(file.stat().st_size for file in files)
    _columns(data, [file for file in files if file.suffix == TABLE])
    return data


def describe_at(path: Path, rev: str, workspace: Path) -> Data:
    """The data at `path` in a git revision: its hash is known, the bytes need not be there."""
    where = Path(os.path.relpath(path.absolute(), workspace)).as_posix()
    return Data(where, where, lineage.hash_at(where, rev, workspace))


def describe_locked(
    data: lineage.LockedData,
    workspace: Path,
    context: Context = "input",
    outs: Iterable[lineage.LockedData] = (),
) -> Data:
    """The data that dvc.lock names; the columns of tables where their bytes are in the workspace or cache.

    `outs` are those that a folder may gather.
    """
    described = Data(data.path, data.path, data.digest, data.size, context=context, hash_name=data.hash_name)
    _columns(described, lineage.at_hand(data, TABLE, workspace, outs))
    return described


def distinct(data: Iterable[Data]) -> list[Data]:
    """Each path once: what a stage reads and writes itself is what it wrote."""
    by_path: dict[str, Data] = {}
    for one in data:
        by_path[one.path] = one
    return list(by_path.values())


def _columns(data: Data, tables: list[Path]) -> None:
    """Columns and rows of the tables that the data is or holds, where all have the same columns."""
    if not tables:
        return
    import polars as pl

    try:
        schemas = [pl.read_parquet_schema(table) for table in tables]
        if any(schema != schemas[0] for schema in schemas):
            return
        rows = pl.scan_parquet(tables).select(pl.len()).collect().item()
    # Its stage knows what it is; its hash is known all the same.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return
    data.columns = [{"name": name, "required": True, **_type(dtype)} for name, dtype in schemas[0].items()]
    data.rows = int(rows)


def _type(dtype: Any) -> Mapping[str, Any]:
    """A polars type in the words of an MLflow signature."""
    import polars as pl

    if isinstance(dtype, (pl.List, pl.Array)):
        return {"type": "array", "items": _type(dtype.inner)}
    if isinstance(dtype, pl.Struct):
        return {
            "type": "object",
            "properties": {f.name: {**_type(f.dtype), "required": True} for f in dtype.fields},
        }
    if dtype.is_integer():
        return {"type": "long"}
    if dtype.is_float() or dtype.is_decimal():
        return {"type": "double"}
    if isinstance(dtype, (pl.Date, pl.Datetime)):
        return {"type": "datetime"}
    return {"type": {pl.Boolean: "boolean", pl.Binary: "binary"}.get(dtype.base_type(), "string")}
