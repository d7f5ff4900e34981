"""The bytes behind a hash: from the workspace, DVC's cache, a remote, git's history, an import's source."""

from __future__ import annotations

import hashlib
import logging
import os
import posixpath
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from karma_plugins.lineage.git import git, objects, prefix
from karma_plugins.lineage.hashing import (
    LineageError,
    file_hash,
    files_at,
    folder_hash,
    is_at,
    listing,
    open_repo,
    project_root,
)
from karma_plugins.lineage.listings import LEGACY, cache_of, listed
from karma_plugins.lineage.locked import LockedData

if TYPE_CHECKING:
    from dvc.repo import Repo

KINDS = ("md5", LEGACY)


def restore(path: str, md5: str, folder: Path = Path(), hash_name: str | None = None) -> Path:
    """The file or folder that had this hash at `path` of the repository around `folder`.

    `hash_name` is its kind; unnamed, bytes of that md5 go before those that are alike but for line ends, as
    the hashes of before DVC 3 take them.

    Where the workspace holds other bytes now, they are brought to `.karma/restored/<md5>/`, never over the
    workspace's own. Of an address (`https://…`) the hash is its version, and it is fetched from there as long
    as it is that one. Raises LineageError where the bytes are in no place that the repository knows.
    """
    repo = open_repo(folder)
    here = Path(repo.root_dir) / path
    plain = "md5" if hash_name is None else hash_name
    if "://" not in path and is_at(here, md5, plain):
        return here
    target = project_root(folder) / ".karma" / "restored" / md5.strip('"').replace("/", "_") / here.name
    if target.exists() and ("://" in path or is_at(target, md5, plain)):
        return target
    partial = target.parent / f".partial-{os.getpid()}" / target.name
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        if "://" in path:
            _from_address(repo, path, md5, partial)
        else:
            _fetch(repo, path, md5, partial)
        if target.is_dir():
            shutil.rmtree(target)
        partial.replace(target)
    except LineageError:
        if hash_name is None and "://" not in path and is_at(here, md5, LEGACY):
            return here
        raise
    finally:
        shutil.rmtree(partial.parent)
    return target


def at_hand(
    data: LockedData, suffix: str, folder: Path = Path(), outs: Iterable[LockedData] = ()
) -> list[Path]:
    """Where the bytes of a file, or of a folder's files, lie now, of those whose names end with `suffix`.

    Looks in DVC's cache and the workspace; empty where one of them is in neither, or nobody can list the
    folder: the cache, or that of the `outs` which it gathers.
    """
    if not data.in_repository or not (data.digest.endswith(".dir") or data.path.endswith(suffix)):
        return []
    repo = open_repo(folder)
    root = Path(repo.root_dir)
    files = {"": data.digest}
    if data.digest.endswith(".dir"):
        files = tree(repo, data.digest) or _gathered(repo, data, outs)
    paths = []
    for name, md5 in sorted(files.items()):
        here = root / data.path / name
        if not here.name.endswith(suffix):
            continue
        if cached := in_cache(repo, md5):
            paths.append(cached)
        elif here.is_file() and md5 == file_hash(here, data.hash_name):
            paths.append(here)
        else:
            return []
    return paths


def _gathered(repo: Repo, data: LockedData, outs: Iterable[LockedData]) -> dict[str, str]:
    """The files of a folder that is made of outs; none where it holds others, too."""
    files: dict[str, str] = {}
    for out in outs:
        within = posixpath.relpath(out.path, data.path)
        if within.startswith("../") or within == ".":
            continue
        inner = tree(repo, out.digest) or {} if out.digest.endswith(".dir") else {"": out.digest}
        files |= {posixpath.join(within, name) if name else within: md5 for name, md5 in inner.items()}
    return files if files and folder_hash(files) == data.digest else {}


def _from_address(repo: Repo, address: str, version: str, target: Path) -> None:
    """Fetch what lies at an address, where its version there is the one that was read."""
    from dvc.exceptions import DvcException
    from dvc.fs import get_cloud_fs
    from dvc_data.hashfile.meta import Meta

    try:
        cls, config, path = get_cloud_fs(repo.config, url=address)
        fs = cls(**config)
        now = str(getattr(Meta.from_info(fs.info(path), fs.protocol), fs.PARAM_CHECKSUM) or "")
        if now.strip('"') != version.strip('"'):
            raise LineageError(f"{address}: its version is {now or 'unknown'} now, not {version}.")
        fs.get_file(path, str(target))
    except (DvcException, OSError, ImportError) as error:
        raise LineageError(f"{address} with version {version}: {error}") from error


def _fetch(repo: Repo, path: str, md5: str, target: Path) -> None:
    """Write the bytes of a hash to `target`."""
    root = Path(repo.root_dir)
    files = _listed(repo, path, md5) if md5.endswith(".dir") else {"": md5}
    lacking = [path]
    if files is not None:
        if md5.endswith(".dir"):
            target.mkdir()
        cached = bring(repo, files.values())
        lacking = []
        for name, value in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if value in cached:
                shutil.copyfile(in_cache(repo, value) or "", target / name)
            elif (blob := _from_git(root, posixpath.join(path, name) if name else path, value)) is not None:
                (target / name).write_bytes(blob)
            else:
                lacking.append(posixpath.join(path, name) if name else path)
    if lacking and not _as_dvc_gets(repo, path, md5, target):
        if lacking != [path]:
            name = posixpath.relpath(lacking[0], path)
            raise LineageError(
                f"{path} with hash {md5}: its file {name} is in no cache, remote or commit. `dvc push` it."
            )
        raise LineageError(
            f"{path} with hash {md5} is neither in the workspace, DVC's cache, a remote, nor in git. "
            "Fetch the commits and the remote that hold it, or run the stage that makes it again."
        )


def _as_dvc_gets(repo: Repo, path: str, md5: str, target: Path) -> bool:
    """Whether `dvc get` knew it, in the workspace's dvc.lock or a commit: an import, a versioned remote."""
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError

    root = Path(repo.root_dir)
    for sha in (None, *_commits(root, path, md5)):
        if target.is_dir():
            shutil.rmtree(target)
        try:
            files = files_at(root, sha)
            files.get(path, str(target), recursive=True)
        except (LineageError, DvcException, DataIndexDirError, OSError):
            continue
        if target.exists() and is_at(target, md5):
            return True
    return False


def _listed(repo: Repo, path: str, md5: str) -> dict[str, str] | None:
    """The files of a folder by their names in it, null where nobody knows them.

    DVC keeps a listing of each out, but none of a dependency that gathers outs of several stages, lies in an
    out, or lies in git: those are listed as the workspace's dvc.lock and the commits know them.
    """
    if md5 in bring(repo, [md5]):
        return tree(repo, md5)
    for sha in (None, *_commits(Path(repo.root_dir), path, md5)):
        try:
            files = listing(path, sha, Path(repo.root_dir))
        except LineageError:
            continue
        if folder_hash(files) == md5:
            return files
    return None


def tree(repo: Repo, md5: str) -> dict[str, str] | None:
    """The files of a folder by their names in it, of a listing in DVC's cache; null where there is none."""
    from dvc_data.hashfile.hash_info import HashInfo

    for kind in KINDS:
        if (files := listed(repo, HashInfo(kind, md5))) is not None:
            return files
    return None


def _commits(root: Path, path: str, md5: str) -> list[str]:
    """Commits whose dvc.lock or .dvc file holds the hash, then those that changed the path; newest first."""
    files = (":(glob)**/dvc.lock", ":(glob)**/*.dvc")
    locks = git(root, "log", "--all", "--format=%H", f"-S{md5}", "--", *files).split()
    return list(dict.fromkeys([*locks, *git(root, "log", "--all", "--format=%H", "--", path).split()]))


def in_cache(repo: Repo, md5: str) -> Path | None:
    """Where DVC's cache holds a hash."""
    for kind in KINDS:
        place = Path(cache_of(repo, kind).oid_to_path(md5))
        if place.is_file():
            return place
    return None


def bring(repo: Repo, hashes: Iterable[str]) -> set[str]:
    """Those of the hashes that DVC's cache holds, after asking the remotes for what it lacks."""
    from dvc_data.hashfile.hash_info import HashInfo

    wanted, talk = set(hashes), logging.getLogger("dvc.data_cloud")
    level, default = talk.level, repo.config["core"].get("remote")
    for remote in sorted(repo.config["remote"], key=lambda name: name != default):
        lacking = [value for value in sorted(wanted) if not in_cache(repo, value)]
        if not lacking:
            break
        try:
            talk.setLevel(logging.ERROR)  # it warns of each hash that this remote lacks
            for kind in KINDS:
                repo.cloud.pull([HashInfo(kind, value) for value in lacking], remote=remote)
                lacking = [value for value in lacking if not in_cache(repo, value)]
        except Exception as error:  # noqa: BLE001 - each remote's own library has its own; others may hold it
            warnings.warn(f"karma: DVC can't read remote {remote}: {error}", stacklevel=2)
        finally:
            talk.setLevel(level)
    return {value for value in wanted if in_cache(repo, value)}


def content(data: LockedData, folder: Path) -> bytes | None:
    """The bytes of a file where the cache or the workspace holds them; null where neither does."""
    repo = open_repo(folder)
    if cached := in_cache(repo, data.digest):
        return cached.read_bytes()
    here = Path(repo.root_dir) / data.path
    if data.in_repository and here.is_file() and is_at(here, data.digest, data.hash_name):
        return here.read_bytes()
    return None


def _from_git(root: Path, path: str, md5: str) -> bytes | None:
    """The file's bytes in the commit where it had this hash; null where no commit holds them."""
    source, seen = objects(root), set[str]()
    for sha in git(root, "log", "--all", "--format=%H", "--", path).split():
        known = source.read(f"{sha}:{prefix(root)}{path}")
        if known is None or known[1] != "blob" or known[0] in seen:
            continue
        seen.add(known[0])
        for data in _line_ends(known[2]):
            if hashlib.md5(data, usedforsecurity=False).hexdigest() == md5:
                return data
    return None


def _line_ends(data: bytes) -> list[bytes]:
    """A file's bytes as git holds them and as it may check them out; last those of before DVC 3."""
    from dvc_data.hashfile.istextfile import DEFAULT_CHUNK_SIZE, istextblock

    if not data or not istextblock(data[:DEFAULT_CHUNK_SIZE]):
        return [data]
    unix = data.replace(b"\r\n", b"\n")
    return [data, unix.replace(b"\n", b"\r\n"), unix]
