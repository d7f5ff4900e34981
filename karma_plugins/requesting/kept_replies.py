"""Finished answers of chat servers on disk: written as soon as they are there, checked when they are read."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from karma_plugins.requesting.replies import ServerReply
from karma_plugins.runtime.files import remove

T = TypeVar("T")
NAME = "replies.sqlite"
TABLE = """
CREATE TABLE IF NOT EXISTS kept (
    key TEXT PRIMARY KEY, reply TEXT NOT NULL, digest TEXT NOT NULL
) WITHOUT ROWID
"""


class KeptReplies:
    """A folder's finished answers by key: each is there whole or not at all, whenever we are killed.

    What is damaged (the file, or an answer that is not the one its digest was made of) is asked again, with
    one warning that says what.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        folder.mkdir(parents=True, exist_ok=True)
        self._database = self._mended(self._opened)

    def read(self, keys: Iterable[str]) -> dict[str, ServerReply]:
        """The replies that are there and whole."""
        names = list(keys)
        rows = self._mended(lambda: self._rows(names))
        replies = {key: _reply(reply) for key, reply, digest in rows if digest == _digest(key, reply)}
        if damaged := len(rows) - len(replies):
            warnings.warn(
                f"karma: {damaged} of {len(rows)} kept replies in {self._path} are damaged and asked again.",
                stacklevel=2,
            )
        return replies

    def keep(self, key: str, reply: ServerReply) -> None:
        """Write one reply."""
        row = json.dumps([reply.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens])
        self._database.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (key, row, _digest(key, row)))

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _opened(self) -> sqlite3.Connection:
        there = self._path.is_file()
        if there and not self._path.stat().st_size:
            raise sqlite3.DatabaseError("the file is empty")
        database = sqlite3.connect(self._path, isolation_level=None)
        try:
            if there and (said := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(" ".join(said.split())[:200])
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            # What is written is seldom gathered into the main file: that waits for the disk.
            database.execute("PRAGMA wal_autocheckpoint = 20000")
            database.execute(TABLE)
            database.execute("SELECT key, reply, digest FROM kept LIMIT 1")  # an older file has other columns
        except BaseException:
            database.close()
            raise
        return database

    def _rows(self, names: list[str]) -> list[tuple[str, str, str]]:
        rows: list[tuple[str, str, str]] = []
        for start in range(0, len(names), 500):
            part = names[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, reply, digest FROM kept WHERE key IN ({marks})"  # noqa: S608
            rows += self._database.execute(query, part)
        return [row for row in rows if all(isinstance(value, str) for value in row)]

    def _mended(self, work: Callable[[], T]) -> T:
        """Do some work with the file; where it is no database any more, begin a new one and do it again."""
        try:
            return work()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if isinstance(error, sqlite3.OperationalError) and not self._broken(error):
                raise
            warnings.warn(
                f"karma: the kept replies in {self._path} are damaged ({error}); all are asked again.",
                stacklevel=3,
            )
        if hasattr(self, "_database"):
            self._database.close()
        for path in self._files():
            remove(path)
        self._database = self._opened()
        return work()

    def _files(self) -> list[Path]:
        return [self._path.with_name(NAME + suffix) for suffix in ("", "-wal", "-shm", "-journal")]

    def _broken(self, error: sqlite3.OperationalError) -> bool:
        """Whether an error speaks of what the file holds, not of its lock, the disk or permissions."""
        said = str(error)
        return "malformed" in said or "no such column" in said or any(path.is_dir() for path in self._files())


def _digest(key: str, reply: str) -> str:
    return hashlib.blake2b(f"{key}\0{reply}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _reply(row: str) -> ServerReply:
    text, finish_reason, prompt_tokens, completion_tokens = json.loads(row)
    return ServerReply(text, finish_reason, prompt_tokens, completion_tokens, kept=True)
