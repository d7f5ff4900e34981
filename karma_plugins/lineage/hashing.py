"""The hash that dvc.lock holds: the md5 of a file's bytes, or `<md5>.dir` for a folder."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from karma_plugins.errors import KarmaError

if TYPE_CHECKING:
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
    """The hash of a path (told from the root) in a git revision: dvc.lock's, or the md5 of a file in git."""
    from dvc.api import DVCFileSystem

    files = DVCFileSystem(str(workspace), rev=rev)
    try:
        known = files.info(path)
    except FileNotFoundError as error:
        raise LineageError(f"{path}: not in revision {rev}, neither in git nor in its dvc.lock.") from error
    if md5 := known.get("md5"):
        return str(md5)
    if known["type"] == "directory":
        raise LineageError(f"{path}: a folder that DVC does not track in revision {rev} has no hash there.")
    return hashlib.md5(files.read_bytes(path), usedforsecurity=False).hexdigest()


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
    """Opened once a process: it takes half a second."""
    from dvc.repo import Repo

    return Repo(root)
