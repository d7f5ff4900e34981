"""The hash that dvc.lock holds: the md5 of a file's bytes, or `<md5>.dir` for a folder."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import posixpath
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karma_plugins.errors import KarmaError
from karma_plugins.lineage.listings import LEGACY, cache_of

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


def dvc_hash(path: Path | str, hash_name: str = "md5") -> str:
    """The hash that dvc.lock holds, or will hold, for a file or folder as it lies in the workspace now.

    `hash_name` is `md5`, or `md5-dos2unix` of before DVC 3. Raises LineageError where nothing lies there, or
    where a folder is not inside a DVC repository or has a .dvcignore in it, which DVC takes for no data.
    """
    path = Path(path)
    if path.is_file():
        return file_hash(path, hash_name)
    if not path.is_dir():
        raise LineageError(
            f"{path}: no such file or folder, so it has no hash. Run the stage that writes it."
        )
    from dvc_data.hashfile.build import IgnoreInCollectedDirError, build
    from dvc_data.hashfile.tree import TreeError

    repo = open_repo(path)
    cache, where = cache_of(repo, hash_name), str(path.absolute())
    try:
        _, _, built = build(cache, where, cache.fs, hash_name, ignore=repo.dvcignore, dry_run=True)
    except IgnoreInCollectedDirError as error:
        raise LineageError(
            f"{path}: {error}. DVC hashes no such folder: move that file out of it."
        ) from error
    except (TreeError, OSError) as error:
        raise LineageError(f"{path}: DVC can't hash it ({error}).") from error
    return str(built.hash_info.value)


def known_hash(path: Path) -> str:
    """The hash of a file or folder as it lies there, of the kind that dvc.lock or a .dvc file has for it.

    Only in a repository of before DVC 3 is that another one than `dvc_hash`, as long as DVC keeps it.
    """
    root = workspace_root(path if path.is_dir() else path.parent)
    place = str(path.parent.resolve() / path.name)
    if (root / ".dvc").is_dir() and (claims := _legacy(open_repo(root)).get(place)):
        digest = dvc_hash(path, LEGACY)
        if digest in claims:
            return digest
    return dvc_hash(path)


def _legacy(repo: Repo) -> dict[str, set[str]]:
    """Hashes of before DVC 3 in the workspace's dvc.lock and .dvc files, by absolute paths."""
    from dvc.exceptions import DvcException

    claims: dict[str, set[str]] = {}
    try:
        for stage in repo.index.stages:
            for data in (*stage.deps, *stage.outs):
                if data.hash_info and data.hash_info.name == LEGACY:
                    claims.setdefault(str(data.fs_path), set()).add(str(data.hash_info.value))
    except (DvcException, ValueError):
        return {}
    return claims


def is_at(path: Path, digest: str, hash_name: str | None = None) -> bool:
    """Whether the file or folder that lies at a path has a hash, of a kind or of either."""
    kinds = (hash_name,) if hash_name in ("md5", LEGACY) else ("md5", LEGACY)
    return path.exists() and any(dvc_hash(path, kind) == digest for kind in kinds)


#: MLflow's longest digest: exactly that of a folder in DVC.
LONGEST = 36


def shortened(digest: str) -> str:
    """A digest as MLflow takes it: that of dvc.lock, or where an address has a longer word for its md5."""
    plain = digest.strip('"')
    if plain and len(plain) <= LONGEST:
        return plain
    return hashlib.md5(digest.encode(), usedforsecurity=False).hexdigest()


def digest_of(values: Mapping[str, Any]) -> str:
    """A digest of what is known by several values, such as a data set's version."""
    return hashlib.md5(
        json.dumps(values, sort_keys=True, default=str).encode(), usedforsecurity=False
    ).hexdigest()


def hash_at(path: str, rev: str, workspace: Path) -> str:
    """The hash of a path (told from the root) in a git revision: dvc.lock's, or that of what git holds."""
    files = files_at(workspace, rev)
    try:
        known = files.info(path)
    except FileNotFoundError as error:
        raise LineageError(f"{path}: not in revision {rev}, neither in git nor in its dvc.lock.") from error
    if digest := _told(known):
        return digest
    return folder_hash(listing(path, rev, workspace)) if known["type"] == "directory" else _md5(files, path)


def files_at(workspace: Path, rev: str | None) -> DVCFileSystem:
    """The files of a revision as DVC shows them; LineageError outside a DVC repository or without git."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import NoSCMError, SCMError

    open_repo(workspace)
    try:
        files = DVCFileSystem(str(workspace), rev=rev)
        files.repo  # noqa: B018 - looks for the revision
        return files
    except (NoSCMError, SCMError, DvcException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LineageError(
            f"{rev}: DVC can't look at this revision of {workspace} ({reason}). Name one that git knows."
        ) from error


def listing(path: str, rev: str | None, workspace: Path) -> dict[str, str]:
    """Hashes by name of the files in a folder: as dvc.lock of a git revision says, else of git's own bytes.

    Null `rev` reads the workspace's dvc.lock. A folder that is not there holds no files. Raises LineageError
    where neither DVC's cache nor a remote lists an out in it.
    """
    from dvc_data.index import DataIndexDirError

    files = files_at(workspace, rev)
    try:
        entries = files.find(path, detail=True) if files.isdir(path) else {}
    except DataIndexDirError as error:
        raise LineageError(
            f"{path}{f' at {rev}' if rev else ''}: neither DVC's cache nor a remote says what files it has. "
            "`dvc fetch` it, or run the stage that makes it again."
        ) from error
    return {posixpath.relpath(name, path): _told(info) or _md5(files, name) for name, info in entries.items()}


def _told(info: Mapping[str, Any]) -> str:
    """The hash that DVC knows of a file or folder; empty where it knows none."""
    known = info.get("dvc_info", {})
    return str(known.get("md5") or known.get(LEGACY) or "")


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


def file_hash(path: Path, hash_name: str = "md5") -> str:
    """The md5 of a file's bytes, read piece by piece; as of before DVC 3, text with the line ends of Unix."""
    if hash_name == LEGACY:
        from dvc_data.hashfile.hash import file_md5

        return str(file_md5(str(path), name=LEGACY))
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
