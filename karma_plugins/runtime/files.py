"""Files that are there whole or not at all, and stay there when the power fails."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from uuid import uuid4

from karma_plugins.errors import KarmaError, full_disk, is_full


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once the block has ended well.

    Whatever goes wrong before (a full disk, a kill, an error of the caller's), `path` is as it was; what
    was half written is removed, unless the process itself is gone. Raises OSError as the system does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:200]}.{process()}.{uuid4().hex[:8]}.partial")
    try:
        with naming_a_full_disk(path):
            yield partial
        _sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def process() -> str:
    """This process among those of all machines, as a part of a file's name."""
    return f"{_machine()}-{os.getpid()}"


def clear(path: Path) -> None:
    """Remove what processes of this machine that were killed have left half written beside a file."""
    name = re.escape(path.name[:200])
    left = re.compile(rf"\.{name}\.{_machine()}-(\d+)\..*")
    if path.parent.is_dir():
        for beside in path.parent.iterdir():
            if (matched := left.fullmatch(beside.name)) and not _alive(int(matched[1])):
                remove(beside)


@cache
def _machine() -> str:
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=3).hexdigest()


def _alive(process_id: int) -> bool:
    """Whether such a process runs; assumed where asking would be a signal."""
    if os.name != "posix":
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """Where a library only says that it could not write, and the disk behind `path` is full, say that.

    Raises OSError with ENOSPC then; what is said clearly comes through as it is.
    """
    try:
        yield
    except (OSError, KarmaError):
        raise
    except Exception as error:
        if is_full(path.parent):
            raise full_disk(path) from error
        raise


def remove(path: Path) -> None:
    """Remove whatever lies there: a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def keep_out_of_git(folder: Path) -> None:
    """Make a folder below `.karma/`, which carries a .gitignore of its own: `git add -A` must not commit
    it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for above in (folder, *folder.parents):
        if above.name == ".karma":
            ignore = above / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
            return


def _sync(path: Path) -> None:
    """Wait until what was written is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
