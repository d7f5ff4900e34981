"""What git holds, read through one long-lived `git cat-file`: commits, trees and files, each object once."""

from __future__ import annotations

import atexit
import os
import posixpath
import stat
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final, cast

#: The modes of a tree's entries that are no plain files.
FOLDER, LINK, SUBMODULE = 0o040000, 0o120000, 0o160000
#: So many links are followed before they are taken for a circle.
LINKS: Final = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a tree: the mode and the id of the object behind it."""

    mode: int
    oid: str


class Objects:
    """The objects of the repository around `folder`, read through one process."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._trees: dict[str, dict[str, Entry]] = {}
        #: What others learnt of an object, which never changes; by what was learnt and the object's id.
        self.memory: dict[Any, Any] = {}

    def read(self, name: str) -> tuple[str, str, bytes] | None:
        """Id, kind and bytes of an object, by its id or `commit:path`; null where git has none."""
        if "\n" in name:
            return None
        with self._lock:
            try:
                process = self._running()
                source, sink = cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stdin)
                sink.write(os.fsencode(name) + b"\n")
                sink.flush()
            except (BrokenPipeError, FileNotFoundError):  # no repository of git's, or no git
                return None
            header = source.readline().split()
            if len(header) != 3 or not header[2].isdigit():  # `NAME missing`, `NAME ambiguous`
                return None
            data = source.read(int(header[2]))
            source.read(1)
        return header[0].decode(), header[1].decode(), data

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            command = ["git", "-C", str(self._folder), "cat-file", "--batch"]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        return self._process

    def close(self) -> None:
        """End the process."""
        if process := self._process:
            self._process = None
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    if pipe:
                        pipe.close()
            process.wait()

    def blob(self, oid: str) -> bytes | None:
        """The bytes of a file by its object's id."""
        known = self.read(oid)
        return known[2] if known else None

    def entries(self, oid: str) -> dict[str, Entry]:
        """The names in a tree."""
        if oid not in self._trees:
            known = self.read(oid)
            self._trees[oid] = dict(_parsed(known[2], len(oid) // 2)) if known and known[1] == "tree" else {}
        return self._trees[oid]


def _parsed(data: bytes, width: int) -> Iterator[tuple[str, Entry]]:
    """The entries of a tree object: mode, a space, the name, a zero, the id in `width` bytes."""
    start = 0
    while start < len(data):
        space = data.index(b" ", start)
        end = data.index(b"\0", space)
        name, oid = os.fsdecode(data[space + 1 : end]), data[end + 1 : end + 1 + width].hex()
        yield name, Entry(int(data[start:space], 8), oid)
        start = end + 1 + width


class Tree:
    """The files of a commit, by their paths from the folder `prefix` of the repository."""

    def __init__(self, objects: Objects, commit: str, prefix: str = "") -> None:
        self.objects, self.commit = objects, commit
        top = objects.read(f"{commit}^{{tree}}")
        within = self._find(top[0], prefix.strip("/")) if top else None
        self._root = within.oid if within and within.mode == FOLDER else ""

    def entry(self, path: str) -> Entry | None:
        """What lies at a path, links followed; null where nothing does."""
        return self._find(self._root, "" if path == "." else path) if self._root else None

    def _find(self, root: str, path: str, depth: int = 0) -> Entry | None:
        here, done = Entry(FOLDER, root), ""
        parts = [part for part in path.split("/") if part]
        for place, part in enumerate(parts):
            known = self.objects.entries(here.oid).get(part) if here.mode == FOLDER else None
            if known is None:
                return here if here.mode == SUBMODULE else None
            if known.mode == LINK:
                target = os.fsdecode(self.objects.blob(known.oid) or b"")
                whole = posixpath.normpath(posixpath.join(done, target, *parts[place + 1 :]))
                if depth == LINKS or whole.startswith(("/", "..")):
                    return None
                return self._find(root, whole, depth + 1)
            here, done = known, posixpath.join(done, part)
        return here

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; null where none lies there."""
        known = self.entry(path)
        return self.objects.blob(known.oid) if known and stat.S_ISREG(known.mode) else None

    def files(self, path: str) -> Iterator[tuple[str, Entry]]:
        """Every file under a folder by its path from there; of a file itself as the empty path."""
        known = self.entry(path)
        if known and known.mode == FOLDER:
            yield from self._walk(known.oid, "" if path == "." else path, "")
        elif known:
            yield "", known

    def _walk(self, oid: str, folder: str, within: str) -> Iterator[tuple[str, Entry]]:
        for name, entry in self.objects.entries(oid).items():
            path = posixpath.join(within, name)
            if entry.mode == FOLDER:
                yield from self._walk(entry.oid, folder, path)
            elif entry.mode != LINK:
                yield path, entry
            elif (target := self.entry(posixpath.join(folder, path))) and stat.S_ISREG(target.mode):
                yield path, target


def git(folder: Path, *arguments: str) -> str:
    """What git prints; empty where git says no (no repository, no such file in the commit, no git)."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:  # DVC works without
        return ""
    return os.fsdecode(done.stdout) if done.returncode == 0 else ""


@lru_cache(maxsize=4)
def objects(folder: Path) -> Objects:
    """The objects of the repository around a folder, kept open until the process ends."""
    opened = Objects(folder)
    atexit.register(opened.close)
    return opened


@lru_cache(maxsize=4)
def prefix(folder: Path) -> str:
    """The folder's path from the top of its git repository, with a slash behind; empty at the top."""
    return git(folder, "rev-parse", "--show-prefix").strip("\n")


def stored(folder: Path, paths: Iterable[str]) -> dict[str, str]:
    """The ids that git would give to files as they lie in the folder now, its filters applied."""
    there = [path for path in paths if "\n" not in path and (folder / path).is_file()]
    if not there:
        return {}
    listed = "\n".join(there) + "\n"
    command = ["git", "-C", str(folder), "hash-object", "--stdin-paths"]
    done = subprocess.run(command, input=os.fsencode(listed), capture_output=True, check=False)
    ids = done.stdout.decode().split()
    return dict(zip(there, ids, strict=True)) if len(ids) == len(there) else {}


def leave_out(folder: Path, names: Iterable[str]) -> None:
    """Have git, in this clone alone, leave out what lies in the folder under these names, unless it does.

    Their lines go to `info/exclude`, as no file of the repository's owner is ours to change; what git holds
    already stays as it is.
    """
    lacking = [name for name in names if not git(folder, "check-ignore", name.replace("*", "")).strip()]
    listed = git(folder, "rev-parse", "--git-path", "info/exclude").strip("\n")
    if not lacking or not listed:
        return
    path = folder / listed
    with suppress(OSError):  # a clone that can't be written to shows them as untracked, no more
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        joint = "" if not before or before.endswith("\n") else "\n"
        lines = "".join(f"/{prefix(folder)}{name}\n" for name in lacking)
        path.write_text(f"{before}{joint}{lines}", encoding="utf-8")
