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
import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from karma_plugins.contracts import Piece
from karma_plugins.errors import PluginError
from karma_plugins.runtime.files import keep_out_of_git, remove, replacing
from karma_plugins.runtime.pieces import Computation, Witness

if TYPE_CHECKING:
    from filelock import FileLock

LOG = logging.getLogger(__name__)
#: Computes pieces and yields their keys with what they give, in any order.
Run: TypeAlias = Callable[[Iterator[Piece]], Iterator[tuple[str, bytes]]]

#: What a file of a shard begins with: the layout, then a digest of 16 bytes, then parquet.
MAGIC = b"karma-shard-1\n"
DIGEST_BYTES = 16
#: Seconds between two looks at a shard that another process has in hand.
LOOK_EVERY = 0.2


class NoShards:
    """Keeps nothing: for notebooks, and for work that costs nothing to do again."""

    def run(self, pieces: Sequence[Piece]) -> Iterator[pl.DataFrame]:
        """Compute every frame in this process."""
        for piece in pieces:
            yield piece()

    def forget(self, keys: Sequence[str]) -> None:
        """Nothing is kept."""


def in_turn(pieces: Iterator[Piece]) -> Iterator[tuple[str, bytes]]:
    """Compute pieces in this process, one after another."""
    for piece in pieces:
        yield piece.key, piece()


class ShardCache:
    """Keeps finished shards in a folder, which any number of processes may share.

    `runner` computes what is not kept (`Runner.run` with its options bound); `witness` says what its workers
    are compared in.
    """

    def __init__(self, folder: Path, runner: Run = in_turn, witness: Witness | None = None) -> None:
        self.folder, self.runner, self.witness = folder, runner, witness

    def run(self, pieces: Sequence[Piece]) -> Iterator[pl.DataFrame]:
        """Yield kept frames as they are, have the others computed and keep them.

        While the next piece in order is in another process's hands, later ones are computed here. Raises
        what a piece raises; PluginError where the runner breaks its contract.
        """
        keep_out_of_git(self.folder)
        begun = False
        with closing(_Shift(self)) as shift:
            for i, piece in enumerate(pieces):
                while (frame := shift.finished(piece)) is None:
                    # Whatever nobody has in hand comes first; only then is there nothing to do but wait.
                    if not shift.advance() and (not begun or shift.await_turn(piece)):
                        shift.begin(pieces[i:])
                        begun = True
                yield frame

    def forget(self, keys: Sequence[str]) -> None:
        """Remove these shards."""
        for key in keys:
            self.path(key).unlink(missing_ok=True)

    def path(self, key: str) -> Path:
        """Where a shard lies."""
        return self.folder / f"{key}.shard"


class _Shift:
    """One call of `ShardCache.run`: the pieces that are in the runner's hands, each under its lock."""

    def __init__(self, cache: ShardCache) -> None:
        self.cache = cache
        self.locks: dict[str, FileLock] = {}
        self.results: Iterator[tuple[str, bytes]] | None = None
        self.last: tuple[str, bytes] | None = None

    def begin(self, pieces: Sequence[Piece]) -> None:
        """Hand the runner whatever of these nobody has made or is making."""
        self.results = iter(self.cache.runner(self._free(pieces)))

    def finished(self, piece: Piece) -> pl.DataFrame | None:
        """The frame of a piece that is kept; null where there is none."""
        if self.last is not None and self.last[0] == piece.key:
            return pl.read_parquet(io.BytesIO(self.last[1]))
        return _kept(self.cache.path(piece.key), piece.key)

    def advance(self) -> bool:
        """Keep one more result; false where the runner has none left."""
        if self.results is None:
            return False
        try:
            key, rows = next(self.results)
        except StopIteration:
            self.results = None
            if self.locks:
                raise PluginError(
                    f"the runner ended without {len(self.locks)} of the pieces that it took. Upgrade or "
                    "report the plugin."
                ) from None
            return False
        if key not in self.locks:
            raise PluginError(f"the runner gave a result for '{key}', which it was not given or gave before.")
        _keep(self.cache.path(key), key, rows)
        LOG.debug("%s: piece %s is kept", self.cache.folder.name, key)
        self.last = key, rows
        self._release(key)
        return True

    def await_turn(self, piece: Piece) -> bool:
        """Wait until another process is done with a piece; true where it is left to us after all."""
        from filelock import FileLock

        path = self.cache.path(piece.key)
        lock = FileLock(path.with_suffix(".lock"), poll_interval=LOOK_EVERY)
        lock.acquire()
        self.locks[piece.key] = lock
        if not path.is_file():
            return True
        self._release(piece.key)
        return False

    def close(self) -> None:
        """Stop what is under way, and let others have it."""
        if isinstance(self.results, Generator):
            self.results.close()
        for key in list(self.locks):
            self._release(key)

    def _free(self, pieces: Sequence[Piece]) -> Iterator[Piece]:
        """The pieces to be made, each locked when the runner takes it."""
        handed: set[str] = set()
        for piece in pieces:
            if piece.key not in handed and (piece.key in self.locks or self._locked(piece.key)):
                handed.add(piece.key)
                yield Piece(piece.key, Computation(piece, self.cache.witness), (), piece.label)

    def _locked(self, key: str) -> bool:
        """Take a piece that is to be made; false where it is made, or another process is making it."""
        from filelock import FileLock, Timeout

        path = self.cache.path(key)
        if path.is_file():
            return False
        lock = FileLock(path.with_suffix(".lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        self.locks[key] = lock
        if path.is_file():  # another made it just now
            self._release(key)
            return False
        return True

    def _release(self, key: str) -> None:
        lock = self.locks.pop(key)
        self.cache.path(key).with_suffix(".lock").unlink(missing_ok=True)
        lock.release()


def _keep(path: Path, key: str, rows: bytes) -> None:
    """Write a shard, whole or not at all."""
    with replacing(path) as partial_path:
        partial_path.write_bytes(MAGIC + _digest(key, rows) + rows)


def _kept(path: Path, key: str) -> pl.DataFrame | None:
    """A kept shard; null where there is none, with a warning where what lies there is not the one of this
    key.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        content = b""
    start = len(MAGIC) + DIGEST_BYTES
    rows = content[start:]
    if content[:start] == MAGIC + _digest(key, rows):
        return pl.read_parquet(io.BytesIO(rows))
    warnings.warn(f"karma: kept work {path} is damaged and made again.", stacklevel=4)
    remove(path)
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
