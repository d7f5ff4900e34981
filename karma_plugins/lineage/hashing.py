"""The hash that dvc.lock holds: the md5 of a file's bytes, or `<md5>.dir` for a folder."""

from __future__ import annotations

import atexit
import hashlib
import os
import posixpath
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from karma_plugins.errors import KarmaError

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem
    from dvc.repo import Repo


class LineageError(KarmaError):
    """A hash or the state of a pipeline can't be told, or the bytes behind a hash can't be found."""


def project_root(folder: Path) -> Path:
    """The user's repository: $DVC_ROOT inside a stage, else the root of the workspace around `folder`."""
    return Path(os.environ["DVC_ROOT"]).resolve() if "DVC_ROOT" in os.environ else workspace_root(folder)


def workspace_root(folder: Path) -> Path:
    """The working copy around `folder` (a repository, or an experiment's copy), else `folder` itself."""
    here = folder.resolve()
    return next((parent for parent in (here, *here.parents) if (parent / ".dvc").is_dir()), here)


def dvc_hash(path: Path | str) -> str:
    """The hash that dvc.lock holds, or will hold, for a file or folder as it lies in the workspace now.

    Raises LineageError where nothing lies there, or where a folder is not inside a DVC repository.
    """
    path = Path(path)
    if path.is_file():
        return file_hash(path)
    if not path.is_dir():
        raise LineageError(
            f"{path}: no such file or folder, so it has no hash. Run the stage that writes it."
        )
    from dvc_data.hashfile.build import build

    repo = open_repo(path)
    cache, where = repo.cache.local, str(path.absolute())
    _, _, found = build(cache, where, cache.fs, "md5", ignore=repo.dvcignore, dry_run=True)
    return str(found.hash_info.value)


def hash_at(path: str, rev: str, workspace: Path) -> str:
    """The hash of a path (told from the root) in a git revision: dvc.lock's, or that of what git holds."""
    from dvc.api import DVCFileSystem

    files = DVCFileSystem(str(workspace), rev=rev)
    try:
        known = files.info(path)
    except FileNotFoundError as error:
        raise LineageError(f"{path}: not in revision {rev}, neither in git nor in its dvc.lock.") from error
    if md5 := known.get("dvc_info", {}).get("md5"):
        return str(md5)
    return folder_hash(listing(path, rev, workspace)) if known["type"] == "directory" else _md5(files, path)


def listing(path: str, rev: str | None, workspace: Path) -> dict[str, str]:
    """Hashes by name of the files in a folder: as dvc.lock of a git revision says, else of git's own bytes.

    Null `rev` reads the workspace's dvc.lock. A folder that is not there holds no files. Raises LineageError
    where neither DVC's cache nor a remote lists an out in it.
    """
    from dvc.api import DVCFileSystem
    from dvc_data.index import DataIndexDirError

    files = DVCFileSystem(str(workspace), rev=rev)
    try:
        found = files.find(path, detail=True) if files.isdir(path) else {}
    except DataIndexDirError as error:
        raise LineageError(
            f"{path}{f' at {rev}' if rev else ''}: neither DVC's cache nor a remote says what files it has. "
            "`dvc fetch` it, or run the stage that makes it again."
        ) from error
    return {
        posixpath.relpath(name, path): str(info.get("dvc_info", {}).get("md5") or _md5(files, name))
        for name, info in found.items()
    }


def _md5(files: DVCFileSystem, path: str) -> str:
    return hashlib.md5(files.read_bytes(path), usedforsecurity=False).hexdigest()


def folder_hash(files: Mapping[str, str]) -> str:
    """The hash of a folder in dvc.lock: of the listing of its files, sorted by path."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    tree = Tree()
    for name, md5 in files.items():
        tree.add(tuple(name.split("/")), None, HashInfo("md5", md5))
    tree.digest()
    return str(tree.hash_info.value)


def file_hash(path: Path) -> str:
    """The md5 of a file's bytes, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def open_repo(folder: Path) -> Repo:
    """The DVC repository around a folder; LineageError where there is none."""
    root = workspace_root(folder)
    if not (root / ".dvc").is_dir():
        raise LineageError(f"{folder}: not inside a DVC repository. Run `dvc init` at its root.")
    return _opened(str(root))


@lru_cache(maxsize=4)
def _opened(root: str) -> Repo:
    """Opened once a process, for it takes half a second; closed at its end: open packs complain."""
    from dvc.repo import Repo

    repo = Repo(root)
    atexit.register(repo.close)
    return repo
