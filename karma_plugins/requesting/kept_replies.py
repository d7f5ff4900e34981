"""Finished answers of chat servers on disk, each written as soon as it is there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from karma_plugins.requesting.replies import Reply


class KeptReplies:
    """A folder's finished answers by key: each is there whole or not at all, whenever we are killed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / "replies.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        # Gather what is written into the main file seldom: it waits for the disk, and all requests with it.
        self._database.execute("PRAGMA wal_autocheckpoint = 20000")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"
        )

    def read(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies that are there."""
        found: dict[str, Reply] = {}
        names = list(keys)
        for start in range(0, len(names), 500):
            part = names[start : start + 500]
            marks = ",".join("?" * len(part))
            rows = self._database.execute(f"SELECT key, reply FROM replies WHERE key IN ({marks})", part)  # noqa: S608
            found |= {name: _reply(reply) for name, reply in rows}
        return found

    def keep(self, name: str, reply: Reply) -> None:
        """Write one reply."""
        row = [reply.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens]
        self._database.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (name, json.dumps(row)))

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


def _reply(row: str) -> Reply:
    text, finish_reason, prompt_tokens, completion_tokens = json.loads(row)
    return Reply(text, finish_reason, prompt_tokens, completion_tokens, kept=True)
