"""What a phase reported, by its step, kept in a file so that a later process knows it too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from karma_plugins.contracts import Report
from karma_plugins.runtime import processes
from karma_plugins.runtime.files import replacing
from karma_plugins.training.checkpoints import PLACE


class DamagedError(Exception):
    """A kept history is not what was written there."""


class History:
    """The rows of a phase: metrics by step.

    The kept rows are passed on to `report` at once. A resumed phase reports some steps again, with the same
    values. Raises DamagedError where the file holds something else than was written for this place.
    """

    def __init__(self, path: Path, report: Report) -> None:
        self.path, self.report = path, report
        self.rows = read(path) if path.exists() else {}
        if processes.is_first():
            if not path.exists():
                self._write()
            for step, metrics in self.rows.items():
                report(metrics, step)

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep metrics of a step and pass them on, unless they are kept."""
        known = self.rows.get(step, {})
        if known.items() >= metrics.items():
            return
        self.rows[step] = {**known, **metrics}
        self._write()
        self.report(metrics, step)

    def _write(self) -> None:
        rows = json.dumps(list(self.rows.items()))
        with replacing(self.path) as partial:
            partial.write_text(f"{_digest(rows, self.path)}\n{rows}\n", encoding="utf-8")


def read(path: Path) -> dict[int, dict[str, float]]:
    """The rows of a file; DamagedError where they are not those that were written there."""
    try:
        digest, rows, _ = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise DamagedError(str(path)) from error
    if digest != _digest(rows, path):
        raise DamagedError(str(path))
    known: list[tuple[int, dict[str, Any]]] = json.loads(rows)
    return {int(step): metrics for step, metrics in known}


def _digest(rows: str, path: Path) -> str:
    text = "\0".join((*path.parts[-PLACE:], rows))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
