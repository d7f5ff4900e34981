"""What a run says of the data that it read and wrote: name, place, hash, size, and the columns of a table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from karma_plugins import lineage

TABLE: Final = ".parquet"
Context = Literal["input", "output"]


@dataclass(slots=True)
class Data:
    """A file or folder, by its path from the root of the repository and its hash in dvc.lock.

    `size` in bytes; `rows` and `columns` (in the words of an MLflow signature) are those of a table, or of a
    folder whose tables all have the same ones.
    """

    name: str
    path: str
    digest: str
    size: int | None = None
    rows: int | None = None
    columns: list[dict[str, Any]] = field(default_factory=list)
    context: Context = "input"


def describe(path: Path, workspace: Path, folder: Path, context: Context = "input") -> Data:
    """The data at `path` as it lies there now, named as seen from the pipeline's folder."""
    where = path.parent.resolve() / path.name  # not the path's own target: DVC's cache may be linked there
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    data = Data(
        name=_name(os.path.relpath(where, folder.resolve()), path.is_file()),
        path=Path(os.path.relpath(where, workspace)).as_posix(),
        digest=lineage.dvc_hash(path),
        size=sum(file.stat().st_size for file in files),
        context=context,
    )
    _columns(data, [file for file in files if file.suffix == TABLE])
    return data


def describe_at(path: Path, rev: str, workspace: Path) -> Data:
    """The data at `path` in a git revision: its hash is known, the bytes need not be there."""
    where = Path(os.path.relpath(path.absolute(), workspace)).as_posix()
    digest = lineage.hash_at(where, rev, workspace)
    return Data(_name(where, not digest.endswith(".dir")), where, digest)


def describe_locked(
    data: lineage.LockedData, workspace: Path, folder: str, context: Context = "input"
) -> Data:
    """The data that dvc.lock names; the columns of tables where their bytes are in the workspace or cache."""
    is_file = not data.md5.endswith(".dir")
    found = Data(
        _name(os.path.relpath(data.path, folder), is_file), data.path, data.md5, data.size, context=context
    )
    _columns(found, lineage.at_hand(data, TABLE, workspace))
    return found


def distinct(data: Sequence[Data]) -> list[Data]:
    """The same, with the whole path as name where paths share one: MLflow keeps a name and hash once."""
    paths: dict[str, set[str]] = {}
    for one in data:
        paths.setdefault(one.name, set()).add(one.path)
    return [replace(one, name=one.path) if len(paths[one.name]) > 1 else one for one in data]


def _columns(data: Data, tables: list[Path]) -> None:
    """Columns and rows of the tables that the data is or holds, where all have the same columns."""
    import polars as pl

    try:
        schemas = [pl.read_parquet_schema(table) for table in tables]
        if not schemas or any(schema != schemas[0] for schema in schemas):
            return
        rows = pl.scan_parquet(tables).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError):  # its stage knows what it is; its hash is known all the same
        return
    data.columns = [{"name": name, "required": True, **_type(dtype)} for name, dtype in schemas[0].items()]
    data.rows = int(rows)


def _name(path: str, is_file: bool) -> str:
    """A path without its suffix and a leading `data/`."""
    parts = Path(path).parts
    short = Path(*(parts[1:] if parts[0] == "data" and len(parts) > 1 else parts))
    return (short.with_suffix("") if is_file else short).as_posix()


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
