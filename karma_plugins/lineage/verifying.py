"""Whether the bytes on disk are those that dvc.lock claims: every file is read and hashed anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from karma_plugins.lineage.hashing import file_hash, folder_hash, open_repo
from karma_plugins.lineage.locked import LockedData

if TYPE_CHECKING:
    from dvc.repo import Repo

Kind = Literal["changed", "missing", "added", "code", "mlflow"]


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """Something that is not as it is claimed to be: where, in which way, and what was found."""

    where: str
    kind: Kind
    found: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.found}"


def differences(data: LockedData, workspace: Path) -> list[Difference]:
    """How a file or folder differs from its claim; of a folder each file, where its listing is in the cache.

    DVC's own memory of hashes is not asked: it takes a file of unchanged time and size as unchanged.
    """
    here = workspace / data.path
    if not here.exists():
        return [Difference(data.path, "missing", "nothing lies there; `dvc checkout` or `dvc pull` it")]
    if here.is_file():
        found = file_hash(here)
        return [] if found == data.md5 else [_changed(data.path, found, data.md5)]
    repo = open_repo(workspace)
    files = dict(_files(repo, here))
    if folder_hash(files) == data.md5:
        return []
    listing = Path(repo.cache.local.oid_to_path(data.md5))
    if not listing.is_file():
        return [_changed(data.path, folder_hash(files), data.md5)]
    claimed = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_bytes())}
    found_files = sorted(claimed.keys() | files.keys())
    return [
        d for name in found_files for d in _file(f"{data.path}/{name}", files.get(name), claimed.get(name))
    ]


def _file(where: str, found: str | None, claimed: str | None) -> list[Difference]:
    if found == claimed:
        return []
    if found is None:
        return [Difference(where, "missing", f"dvc.lock claims {claimed}")]
    if claimed is None:
        return [Difference(where, "added", "dvc.lock knows no such file")]
    return [_changed(where, found, claimed)]


def _changed(where: str, found: str, claimed: str) -> Difference:
    return Difference(where, "changed", f"its hash is {found}, dvc.lock claims {claimed}")


def _files(repo: Repo, folder: Path) -> Iterator[tuple[str, str]]:
    """Every file under a folder that .dvcignore does not hide, with the md5 of its bytes."""
    for path in repo.dvcignore.find(repo.cache.local.fs, str(folder)):
        yield Path(path).relative_to(folder).as_posix(), file_hash(Path(path))
