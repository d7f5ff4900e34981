"""The bytes behind a hash: from the workspace, DVC's cache, a DVC remote, or git's history."""

from __future__ import annotations

import hashlib
import logging
import os
import posixpath
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from karma_plugins.lineage.hashing import (
    LineageError,
    dvc_hash,
    file_hash,
    folder_hash,
    listing,
    open_repo,
    project_root,
)
from karma_plugins.lineage.locked import LockedData
from karma_plugins.lineage.pipelines import git

if TYPE_CHECKING:
    from dvc.repo import Repo


def restore(path: str, md5: str, folder: Path = Path()) -> Path:
    """The file or folder that had this hash at `path` of the repository around `folder`.

    Where the workspace holds other bytes now, they are brought to `.karma/restored/<md5>/`, never over the
    workspace's own. Raises LineageError where the bytes are in no place that the repository knows.
    """
    repo = open_repo(folder)
    here = Path(repo.root_dir) / path
    if here.exists() and dvc_hash(here) == md5:
        return here
    target = project_root(folder) / ".karma" / "restored" / md5 / here.name
    if target.exists() and dvc_hash(target) == md5:
        return target
    partial = target.parent / f".partial-{os.getpid()}" / target.name
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(repo, path, md5, partial)
        if target.is_dir():
            shutil.rmtree(target)
        partial.replace(target)
    finally:
        shutil.rmtree(partial.parent)
    return target


def at_hand(data: LockedData, suffix: str, folder: Path = Path()) -> list[Path]:
    """Where the bytes of a file, or of a folder's files, lie now, of those whose names end with `suffix`.

    Looks in DVC's cache and the workspace; empty where one of them is in neither, or the cache can't list the
    folder.
    """
    repo = open_repo(folder)
    cache, root = repo.cache.local, Path(repo.root_dir)
    if not data.md5.endswith(".dir"):
        files = {"": data.md5}
    else:
        files = _tree(repo, data.md5) if cache.exists(data.md5) else {}
    found = []
    for name, md5 in sorted(files.items()):
        here, cached = root / data.path / name, Path(cache.oid_to_path(md5))
        if not here.name.endswith(suffix):
            continue
        if cached.is_file():
            found.append(cached)
        elif here.is_file() and file_hash(here) == md5:
            found.append(here)
        else:
            return []
    return found


def _fetch(repo: Repo, path: str, md5: str, target: Path) -> None:
    """Write the bytes of a hash to `target`."""
    cache, root = repo.cache.local, Path(repo.root_dir)
    if not md5.endswith(".dir"):
        files = {"": md5}
    elif (listed := _listed(repo, path, md5)) is None:
        raise _lost(path, md5)
    else:
        files = listed
        target.mkdir()
    cached = _cached(repo, list(files.values()))
    for name, value in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if value in cached:
            shutil.copyfile(cache.oid_to_path(value), target / name)
        elif (blob := _from_git(root, posixpath.join(path, name) if name else path, value)) is not None:
            (target / name).write_bytes(blob)
        elif name:
            raise LineageError(
                f"{path} with hash {md5}: its file {name} is in no cache, remote or commit. `dvc push` it."
            )
        else:
            raise _lost(path, md5)


def _lost(path: str, md5: str) -> LineageError:
    return LineageError(
        f"{path} with hash {md5} is neither in the workspace, DVC's cache, a remote, nor in git. "
        "Fetch the commits and the remote that hold it, or run the stage that makes it again."
    )


def _listed(repo: Repo, path: str, md5: str) -> dict[str, str] | None:
    """The files of a folder by their names in it, null where nobody knows them.

    DVC keeps a listing of each out, but none of a dependency that gathers outs of several stages, lies in an
    out, or lies in git: those are listed as the workspace's dvc.lock and the commits know them.
    """
    if md5 in _cached(repo, [md5]):
        return _tree(repo, md5)
    for sha in (None, *_commits(Path(repo.root_dir), path, md5)):
        try:
            files = listing(path, sha, Path(repo.root_dir))
        except LineageError:
            continue
        if folder_hash(files) == md5:
            return files
    return None


def _tree(repo: Repo, md5: str) -> dict[str, str]:
    """The files of a folder by their names in it, of a listing in DVC's cache."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    tree = Tree.load(repo.cache.local, HashInfo("md5", md5))
    return {"/".join(key): str(info.value) for key, _, info in tree}


def _commits(root: Path, path: str, md5: str) -> list[str]:
    """Commits whose dvc.lock holds the hash, then those that changed the path in git; newest first."""
    locks = git(root, "log", "--all", "--format=%H", f"-S{md5}", "--", ":(glob)**/dvc.lock").split()
    return list(dict.fromkeys([*locks, *git(root, "log", "--all", "--format=%H", "--", path).split()]))


def _cached(repo: Repo, hashes: list[str]) -> set[str]:
    """Those of the hashes that DVC's cache holds, after asking the remotes for what it lacks."""
    from dvc_data.hashfile.hash_info import HashInfo

    cache, talk = repo.cache.local, logging.getLogger("dvc.data_cloud")
    level, default = talk.level, repo.config["core"].get("remote")
    for remote in sorted(repo.config["remote"], key=lambda name: name != default):
        lacking = [HashInfo("md5", value) for value in set(hashes) if not cache.exists(value)]
        try:
            talk.setLevel(logging.ERROR)  # it warns of each hash that this remote lacks
            if lacking:
                repo.cloud.pull(lacking, remote=remote)
        except Exception as error:  # noqa: BLE001 - each remote's own library has its own; others may hold it
            warnings.warn(f"karma: DVC can't read remote {remote}: {error}", stacklevel=2)
        finally:
            talk.setLevel(level)
    return {value for value in hashes if cache.exists(value)}


def _from_git(root: Path, path: str, md5: str) -> bytes | None:
    """The file's bytes in the commit where it had this hash; null where no commit holds them."""
    for sha in git(root, "log", "--all", "--format=%H", "--", path).split():
        show = subprocess.run(
            ["git", "-C", str(root), "show", f"{sha}:./{path}"], capture_output=True, check=False
        )
        if show.returncode == 0 and hashlib.md5(show.stdout, usedforsecurity=False).hexdigest() == md5:
            return show.stdout
    return None
