"""The bytes behind a hash: from the workspace, DVC's cache, a DVC remote, or git's history."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from karma_plugins.lineage.hashing import LineageError, dvc_hash, file_hash, open_repo, project_root
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


def at_hand(data: LockedData, folder: Path = Path()) -> Path | None:
    """Where a file's bytes lie now, in the workspace or in DVC's cache; null where they are in neither."""
    repo = open_repo(folder)
    here = Path(repo.root_dir) / data.path
    if here.is_file() and file_hash(here) == data.md5:
        return here
    cached = Path(repo.cache.local.oid_to_path(data.md5))
    return cached if cached.is_file() else None


def _fetch(repo: Repo, path: str, md5: str, target: Path) -> None:
    """Write the bytes of a hash to `target`."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    cache = repo.cache.local
    if not _cached(repo, [md5]):
        if blob := _from_git(Path(repo.root_dir), path, md5):
            target.write_bytes(blob)
            return
        raise LineageError(
            f"{path} with hash {md5} is neither in the workspace, DVC's cache, a remote, nor in git. "
            "Fetch the commits and the remote that hold it, or run the stage that makes it again."
        )
    if not md5.endswith(".dir"):
        shutil.copyfile(cache.oid_to_path(md5), target)
        return
    files = [("/".join(key), info.value) for key, _, info in Tree.load(cache, HashInfo("md5", md5))]
    if not _cached(repo, [value for _, value in files]):
        raise LineageError(
            f"{path} with hash {md5}: some of its files are in no cache or remote. `dvc push` them."
        )
    target.mkdir()
    for name, value in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cache.oid_to_path(value), target / name)


def _cached(repo: Repo, hashes: list[str]) -> bool:
    """Whether DVC's cache holds all of these, after asking the remotes for what it lacks."""
    from dvc_data.hashfile.hash_info import HashInfo

    remotes = [None] if repo.config["core"].get("remote") else list(repo.config["remote"])
    for remote in remotes:
        lacking = [HashInfo("md5", value) for value in hashes if not repo.cache.local.exists(value)]
        if lacking:
            repo.cloud.pull(lacking, remote=remote)
    return all(repo.cache.local.exists(value) for value in hashes)


def _from_git(root: Path, path: str, md5: str) -> bytes | None:
    """The file's bytes in the commit where it had this hash; null where no commit holds them."""
    for sha in git(root, "log", "--all", "--format=%H", "--", path).split():
        show = subprocess.run(
            ["git", "-C", str(root), "show", f"{sha}:{path}"], capture_output=True, check=False
        )
        if show.returncode == 0 and hashlib.md5(show.stdout, usedforsecurity=False).hexdigest() == md5:
            return show.stdout
    return None
