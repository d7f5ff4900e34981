"""Checkpoints of one phase of training: a folder for each step, complete once its marker is there."""

from __future__ import annotations

import shutil
from pathlib import Path

MARKER = "complete"


def folder(checkpoints: Path, at: int) -> Path:
    """Where the checkpoint of a step lies; the name is the one that transformers' Trainer gives it."""
    return checkpoints / f"checkpoint-{at}"


def latest(checkpoints: Path) -> Path | None:
    """The complete checkpoint with the most steps, or null where there is none."""
    folders = [path for path in checkpoints.glob("checkpoint-*") if (path / MARKER).is_file()]
    return max(folders, key=step, default=None)


def complete(checkpoint: Path) -> None:
    """Mark a checkpoint as whole, then remove the others of its folder: one is enough to go on from."""
    (checkpoint / MARKER).touch()
    clean(checkpoint.parent, keep=checkpoint)


def clean(checkpoints: Path, keep: Path | None) -> None:
    """Remove every checkpoint but one, half-written ones too."""
    for path in checkpoints.glob("checkpoint-*"):
        if path != keep:
            (path / MARKER).unlink(missing_ok=True)  # first, lest a half-removed one pass for whole
            shutil.rmtree(path)


def step(path: Path) -> int:
    """The step that a checkpoint was made at."""
    return int(path.name.rpartition("-")[2])
