"""Finished pieces of long work, kept under `$DVC_ROOT/.karma/` by their content, so that nothing is done
twice.

A shard's key says everything that decides its rows (plugin code, options, model, requests). Its file appears
by an atomic rename: whatever moment a process is killed at, a shard is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import polars as pl


class Shards(Protocol):
    """Runs pieces of work, keeping or not keeping what is finished."""

    def run(self, keys: Sequence[str], compute: Callable[[int], pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield the frame of each key, in order; `compute(i)` is called where none is kept."""
        ...


class NoShards:
    """Keeps nothing: for notebooks, and for work that costs nothing to do again."""

    def run(self, keys: Sequence[str], compute: Callable[[int], pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Compute every frame."""
        for i in range(len(keys)):
            yield compute(i)


class ShardCache:
    """Keeps finished shards as parquet files in a folder of its own, one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, keys: Sequence[str], compute: Callable[[int], pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield kept frames as they are, compute and keep the others."""
        with locked(self.folder):
            for i, key in enumerate(keys):
                path = self.folder / f"{key}.parquet"
                if not path.is_file():
                    partial = path.with_suffix(f".{os.getpid()}.partial")
                    compute(i).write_parquet(partial)
                    partial.replace(path)
                yield pl.read_parquet(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process: a stage that outlived its killed `dvc repro` may still be writing
    there.
    """
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
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
    """Where kept work lies: `.karma/` in the user's repository, also inside a queued experiment's temporary
    copy.
    """
    return Path(os.environ.get("DVC_ROOT", ".")).resolve() / ".karma"
