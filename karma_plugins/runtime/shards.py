"""Finished pieces of long work, kept under `$DVC_ROOT/.karma/` by their content, so that nothing is done
twice.

A shard's key says everything that decides its rows (plugin code, options, model, requests). Its file
appears by an atomic rename and carries a digest of key and rows: whatever moment a process is killed at,
and whatever befalls the folder later, a shard is whole or made again. Any number of processes, on one
machine or on several that share the folder, do the work together: each takes what no other has in hand.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import polars as pl

from karma_plugins.runtime.files import keep_out_of_git, replacing

#: What a file of a shard begins with: the layout, then a digest of 16 bytes, then parquet.
MAGIC = b"karma-shard-1\n"
DIGEST_BYTES = 16
#: Seconds between two looks at a shard that another process has in hand.
LOOK_EVERY = 0.2


class Shards(Protocol):
    """Runs pieces of work, keeping or not keeping what is finished."""

    def run(self, keys: Sequence[str], compute: Callable[[int], pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield the frame of each key, in order; `compute(i)` is called where none is kept."""
        ...

    def forget(self, keys: Sequence[str]) -> None:
        """Keep these no longer: what they hold is to be made again."""
        ...


class NoShards:
    """Keeps nothing: for notebooks, and for work that costs nothing to do again."""

    def run(self, keys: Sequence[str], compute: Callable[[int], pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Compute every frame."""
        for i in range(len(keys)):
            yield compute(i)

    def forget(self, keys: Sequence[str]) -> None:
        """Nothing is kept."""


class ShardCache:
    """Keeps finished shards in a folder, which any number of processes may share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, keys: Sequence[str], compute: Callable[[int], pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield kept frames as they are, compute and keep the others.

        While the next shard in order is in another process's hands, this one does later shards.
        """
        keep_out_of_git(self.folder)
        ahead = 0
        for i, key in enumerate(keys):
            while (frame := self._taken(key, partial(compute, i), wait=ahead >= len(keys))) is None:
                ahead = max(ahead, i + 1)
                if ahead < len(keys):
                    self._taken(keys[ahead], partial(compute, ahead), wait=False)
                    ahead += 1
            yield frame

    def forget(self, keys: Sequence[str]) -> None:
        """Remove these shards."""
        for key in keys:
            self.path(key).unlink(missing_ok=True)

    def path(self, key: str) -> Path:
        """Where a shard lies."""
        return self.folder / f"{key}.shard"

    def _taken(self, key: str, compute: Callable[[], pl.DataFrame], *, wait: bool) -> pl.DataFrame | None:
        """The shard, kept or made now; null where another process is making it and we do not wait."""
        from filelock import FileLock, Timeout

        path = self.path(key)
        if (kept := _kept(path, key)) is not None:
            return kept
        lock = FileLock(path.with_suffix(".lock"), poll_interval=LOOK_EVERY)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            return None
        try:
            # Another may have made it while we waited. Its lock file is gone then, and ours
            # is of no use to anyone.
            if (kept := _kept(path, key)) is not None:
                return kept
            return _keep(path, key, compute())
        finally:
            path.with_suffix(".lock").unlink(missing_ok=True)
            lock.release()


def _keep(path: Path, key: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Write a shard; returns it as it will be read."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    rows = buffer.getvalue()
    with replacing(path) as partial_path:
        partial_path.write_bytes(MAGIC + _digest(key, rows) + rows)
    return pl.read_parquet(io.BytesIO(rows))


def _kept(path: Path, key: str) -> pl.DataFrame | None:
    """A kept shard; null where there is none, with a warning where what lies there is not the one of this
    key.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    start = len(MAGIC) + DIGEST_BYTES
    rows = content[start:]
    if content[:start] == MAGIC + _digest(key, rows):
        return pl.read_parquet(io.BytesIO(rows))
    warnings.warn(f"karma: kept work {path} is damaged and made again.", stacklevel=4)
    path.unlink(missing_ok=True)
    return None


def _digest(key: str, rows: bytes) -> bytes:
    return hashlib.blake2b(
        rows, key=hashlib.blake2b(key.encode()).digest(), digest_size=DIGEST_BYTES
    ).digest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process: a stage that outlived its killed `dvc repro` may still be writing
    there.
    """
    from filelock import FileLock

    keep_out_of_git(folder)
    with FileLock(folder / ".lock"):
        yield


def key(*parts: object) -> str:
    """A content key: the hash of the parts' text, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        text = str(part).encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def karma_folder() -> Path:
    """Where kept work lies: `.karma/` in the user's repository, also inside a queued experiment's
    temporary copy.
    """
    return Path(os.environ.get("DVC_ROOT", ".")).resolve() / ".karma"
