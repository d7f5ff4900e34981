"""Which commits MLflow is known to hold whole, kept in `.karma/`, so that a second sync reads none again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karma_plugins.lineage import Revision, Settings
from karma_plugins.lineage.hashing import open_repo
from karma_plugins.lineage.restoring import bring, in_cache

if TYPE_CHECKING:
    from karma_plugins.tracking.synced import Synced

#: Rises with what records hold, so that commits are read again by a newer version.
VERSION = 2


@dataclass(slots=True)
class Held:
    """What was told of a commit: runs that MLflow holds, stages left out, digests that were nowhere."""

    runs: int = 0
    stale: dict[str, str] = field(default_factory=dict)
    never: list[str] = field(default_factory=list)
    bare: dict[str, str] = field(default_factory=dict)
    nowhere: list[str] = field(default_factory=list)

    def tell(self, done: Synced) -> None:
        """Say it again."""
        done.held += self.runs
        done.stale |= self.stale
        done.never |= dict.fromkeys(self.never)
        done.bare |= self.bare


class Memory:
    """A line for each commit, of one experiment of one place."""

    def __init__(self, root: Path, experiment: str, created: int, settings: Settings) -> None:
        place = os.environ.get("MLFLOW_TRACKING_URI") or ""
        identity = [VERSION, place, experiment, created, repr(settings)]
        key = hashlib.blake2b(json.dumps(identity).encode(), digest_size=8).hexdigest()
        self._root, self._file = root, root / ".karma" / "synced" / f"{key}.jsonl"

    def whole(self, chosen: Sequence[Revision]) -> dict[str | None, Held]:
        """Of the commits those that need not be read: nothing that they lack has come since."""
        known: dict[str | None, Held] = {}
        for line in self._lines():
            entry = unsigned(line, self._file.name)
            if entry is not None:  # else the last line of a process that was killed, or damage: read again
                sha = entry.pop("sha")
                known[sha] = Held(**entry)
        complete = {r.sha: known[r.sha] for r in chosen if r.sha in known and not r.experiment}
        lacking = {digest for held in complete.values() for digest in held.nowhere}
        if lacking:
            come = self._come(lacking)
            complete = {sha: held for sha, held in complete.items() if not come.intersection(held.nowhere)}
        return complete

    def _come(self, digests: Iterable[str]) -> set[str]:
        repo = open_repo(self._root)
        digests = set(digests)
        bring(repo, digests)
        return {digest for digest in digests if in_cache(repo, digest)}

    def keep(self, sha: str, held: Held) -> None:
        """Remember a commit."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            # On a line of its own, whatever a kill has left of the one before.
            file.write(f"\n{signed({'sha': sha, **asdict(held)}, self._file.name)}\n")

    def _lines(self) -> list[bytes]:
        try:
            return self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return []


def signed(entry: dict[str, Any], place: str) -> str:
    """An entry as one line of JSON with a digest of it and of the file that it is for."""
    return json.dumps({**entry, "digest": _digest(entry, place)})


def unsigned(line: bytes, place: str) -> dict[str, Any] | None:
    """The entry of a line; null where it is not what was written for this file."""
    try:
        entry = json.loads(line)
        digest = entry.pop("digest")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return entry if digest == _digest(entry, place) else None


def _digest(entry: dict[str, Any], place: str) -> str:
    text = json.dumps([place, entry], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
