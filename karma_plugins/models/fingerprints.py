"""Digests of files and folders, remembered so that weights are not read again at the start of each stage.

What is remembered lies under `.karma/`, never in an out: one small file for each large file, by its place. It
counts while size, times of change and inode are what they were, and where it can't be read it is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from contextlib import suppress
from pathlib import Path

from karma_plugins.runtime.files import keep_out_of_git, replacing
from karma_plugins.runtime.shards import karma_folder

#: Smaller files are read faster than they are remembered.
LEAST = 1 << 20
#: A file that changed so lately may change again within the same tick of the file system's clock.
SETTLED = 2.0


def fingerprint(path: Path) -> str:
    """A digest of all bytes at a path (file or folder), whatever its place and times."""
    digest = hashlib.blake2b(digest_size=16)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(str(file.relative_to(path)).encode("utf-8", "surrogateescape") + b"\0")
        digest.update(bytes.fromhex(_digest(file)))
    return digest.hexdigest()


def _digest(file: Path) -> str:
    """The file's digest: remembered where it is large and nothing about it changed."""
    if file.stat().st_size < LEAST:
        return _read(file)
    state, note = _state(file), _note(file)
    known = _remembered(note)
    if known is not None and known[0] == state:
        return known[1]
    digest = _read(file)
    if _state(file) == state and time.time() - state[2] / 1e9 > SETTLED:
        _remember(note, state, digest)
    return digest


def _read(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def _state(file: Path) -> list[int]:
    """What changes with a file's bytes: size, its times (the second can't be set by hand), inode."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _note(file: Path) -> Path:
    place = hashlib.blake2b(os.fsencode(file.resolve()), digest_size=16).hexdigest()
    return karma_folder() / "fingerprints" / f"{place}.json"


def _remembered(note: Path) -> tuple[list[int], str] | None:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        state, digest = content["state"], content["digest"]
        if content["check"] == _check(state, digest):
            return state, digest
    except OSError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    warnings.warn(f"karma: kept digest {note} is damaged and made again.", stacklevel=2)
    return None


def _remember(note: Path, state: list[int], digest: str) -> None:
    content = {"state": state, "digest": digest, "check": _check(state, digest)}
    with suppress(OSError):  # a full or read-only disk: the file is read again the next time, nothing is lost
        keep_out_of_git(note.parent)
        with replacing(note) as partial:
            partial.write_text(json.dumps(content), encoding="utf-8")


def _check(state: object, digest: object) -> str:
    """A damaged note must not pass as another."""
    return hashlib.blake2b(json.dumps([state, digest]).encode(), digest_size=8).hexdigest()
