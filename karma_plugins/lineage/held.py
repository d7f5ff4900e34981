"""The files that git holds, at a commit or as the workspace would have it hold them: ids, bytes, hashes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from karma_plugins.lineage.git import SUBMODULE, Objects, Tree, git, objects, prefix, stored

#: How the pointer that git keeps of a file in Git LFS begins: its bytes are elsewhere.
POINTER: Final = b"version https://git-lfs"
#: What a run of the pipeline rewrites by itself, so that a change in it is no change made by a person.
WRITTEN_BY_DVC: Final = ("dvc.lock", ".gitignore")


class Held(Protocol):
    """Files by their paths from the root of the DVC repository."""

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; null where none lies there."""

    def oids(self, path: str) -> dict[str, str]:
        """git's ids of the files under a folder, by their paths from there; of a file as the empty path."""

    def hashes(self, oid: str) -> Hashes | None:
        """The hashes of a file by its id; null where git can't tell, as of a file in Git LFS."""


class Hashes:
    """What DVC may have written of a file that git holds: by the bytes in git, or by those checked out.

    `plain` is the md5 of git's bytes; `windows` that of the same with Windows' line ends, as git checks text
    out where it is told to; `legacy` is that of DVC 2, for which the line ends of text made no difference.
    """

    __slots__ = ("legacy", "plain", "windows")

    def __init__(self, data: bytes) -> None:
        from dvc_data.hashfile.istextfile import DEFAULT_CHUNK_SIZE, istextblock

        text = bool(data) and istextblock(data[:DEFAULT_CHUNK_SIZE])
        unix = data.replace(b"\r\n", b"\n") if text else data
        self.plain, self.legacy = _md5(data), _md5(unix)
        self.windows = _md5(unix.replace(b"\n", b"\r\n")) if text else self.plain

    def of(self, hash_name: str) -> tuple[str, ...]:
        """The values that a hash of this name may have."""
        return (self.legacy,) if hash_name == "md5-dos2unix" else (self.plain, self.windows)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class AtCommit:
    """The files of a commit."""

    def __init__(self, root: Path, sha: str) -> None:
        self._objects = objects(root)
        self._tree = Tree(self._objects, sha, prefix(root))

    def read(self, path: str) -> bytes | None:  # noqa: D102
        return self._tree.read(path)

    def oids(self, path: str) -> dict[str, str]:  # noqa: D102
        return {name: entry.oid for name, entry in self._tree.files(path)}

    def hashes(self, oid: str) -> Hashes | None:  # noqa: D102
        return _hashes(self._objects, oid)


class InWorkspace:
    """The files of the workspace that git holds, or would hold after `git add`; without git all of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sha = git(root, "rev-parse", "HEAD").strip()
        self._objects = objects(root)
        self._tree = Tree(self._objects, self.sha, prefix(root)) if self.sha else None
        self._changed = _changes(root)
        self._ids: dict[str, str] = {}

    @property
    def dirty(self) -> bool:
        """Whether a file that git holds differs from the commit, but for what DVC writes by itself."""
        return any(
            state != "??" and PurePosixPath(path).name not in WRITTEN_BY_DVC
            for path, state in (self._changed or {}).items()
        )

    def read(self, path: str) -> bytes | None:  # noqa: D102
        file = self.root / path
        return file.read_bytes() if file.is_file() else None

    def oids(self, path: str) -> dict[str, str]:  # noqa: D102
        if self._changed is None:
            return {name: self._plain(path, name) for name in self._on_disk(path)}
        ids = {name: entry.oid for name, entry in self._tree.files(path)} if self._tree else {}
        for changed in self._changed:
            name = _from(changed, path)
            if name is None:
                continue
            ids.pop(name, None)
            if (self.root / changed).is_file():
                ids[name] = self._stored(changed)
        return ids

    def _stored(self, path: str) -> str:
        if path not in self._ids:
            self._ids |= stored(self.root, [name for name in self._changed or {} if name not in self._ids])
        return self._ids.get(path) or self._plain(path, "")

    def _plain(self, path: str, name: str) -> str:
        data = (self.root / path / name if name else self.root / path).read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()

    def _on_disk(self, path: str) -> list[str]:
        here = self.root / path
        if here.is_file():
            return [""]
        return [file.relative_to(here).as_posix() for file in sorted(here.rglob("*")) if file.is_file()]

    def hashes(self, oid: str) -> Hashes | None:  # noqa: D102
        return _hashes(self._objects, oid)


def _hashes(source: Objects, oid: str) -> Hashes | None:
    key = ("hashes", oid)
    if key not in source.memory:
        data = source.blob(oid)
        source.memory[key] = None if data is None or data.startswith(POINTER) else Hashes(data)
    known: Hashes | None = source.memory[key]
    return known


def _changes(root: Path) -> dict[str, str] | None:
    """Paths that differ from the commit, with git's two letters; null where there is no git."""
    if not git(root, "rev-parse", "--git-dir"):
        return None
    status = git(root, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", ":/")
    top, within = git(root, "rev-parse", "--show-toplevel").strip("\n"), prefix(root)
    changes = {}
    for line in status.split("\0"):
        if not line:
            continue
        state, path = line[:2], line[3:]
        changes[os.path.relpath(Path(top) / path, Path(top) / within) if within else path] = state
    return changes


def _from(path: str, folder: str) -> str | None:
    """A path as seen from a folder it lies in, empty where it is the folder; null where it is elsewhere."""
    if folder == ".":
        return path
    if path == folder:
        return ""
    return path[len(folder) + 1 :] if path.startswith(f"{folder}/") else None


__all__ = ["SUBMODULE", "AtCommit", "Hashes", "Held", "InWorkspace"]
