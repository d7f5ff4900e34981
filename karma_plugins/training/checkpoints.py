"""Kept work of training: checkpoints and finished models, each believed only while its seal holds.

A seal is a digest of every file's name and bytes and of the place that it was made for: what is cut, changed,
taken away or another training's does not pass, and is made again. A checkpoint is complete once it has one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from pathlib import Path

from karma_plugins.runtime.files import remove, replacing

#: The seal of a checkpoint, in its own folder; that of a model lies beside it.
MARKER = "complete"
#: So many parts of a path say which training's work it is: its key, phase and step.
PLACE = 4


def folder(checkpoints: Path, at: int) -> Path:
    """Where the checkpoint of a step lies; the name is the one that transformers' Trainer gives it."""
    return checkpoints / f"checkpoint-{at}"


def latest(checkpoints: Path) -> Path | None:
    """The complete checkpoint with the most steps, or null where there is none."""
    folders = [path for path in checkpoints.glob("checkpoint-*") if (path / MARKER).is_file()]
    return max(folders, key=step, default=None)


def complete(checkpoint: Path) -> None:
    """Seal a checkpoint as whole, then remove the others of its folder: one is enough to go on from."""
    _seal(checkpoint, checkpoint, checkpoint / MARKER)
    clean(checkpoint.parent, keep=checkpoint)


def settle(checkpoints: Path) -> None:
    """Leave the last complete checkpoint alone, and that only where it is undamaged; else warn."""
    last = latest(checkpoints)
    if last is not None and not _holds(last, last / MARKER):
        warn(last)
        last = None
    clean(checkpoints, keep=last)


def clean(checkpoints: Path, keep: Path | None) -> None:
    """Remove every checkpoint but one, half-written ones too."""
    for path in checkpoints.glob("checkpoint-*"):
        if path != keep:
            remove(path / MARKER)  # first, lest a half-removed one pass for whole
            shutil.rmtree(path)


def step(path: Path) -> int:
    """The step that a checkpoint was made at."""
    return int(path.name.rpartition("-")[2])


def publish(partial: Path, model: Path) -> None:
    """Give a finished model its place, under a seal."""
    remove(_beside(model))
    _seal(partial, model, _beside(model))
    partial.replace(model)


def published(model: Path) -> bool:
    """Whether a finished model is there and undamaged; a damaged one is removed, with a warning."""
    if not model.exists():
        return False
    if model.is_dir() and _holds(model, _beside(model)):
        return True
    warn(model)
    remove(model)
    return False


def warn(path: Path) -> None:
    """Say that kept work is damaged."""
    warnings.warn(f"karma: kept work {path} is damaged and made again.", stacklevel=3)


def _beside(model: Path) -> Path:
    return model.with_name(f"{model.name}.digest")


def _seal(content: Path, place: Path, mark: Path) -> None:
    """Write the seal of a folder once its files are on the disk."""
    for file in _files(content):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    digest = _digest(content, place)
    with replacing(mark) as partial:
        partial.write_text(digest, encoding="ascii")


def _holds(content: Path, mark: Path) -> bool:
    try:
        return mark.read_bytes() == _digest(content, content).encode()
    except OSError:
        return False


def _digest(content: Path, place: Path) -> str:
    """Of all files below a folder but its own marker, in order, for a place."""
    digest = hashlib.blake2b("\0".join(place.parts[-PLACE:]).encode("utf-8", "surrogateescape"))
    for file in _files(content):
        digest.update(f"{file.relative_to(content).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _files(content: Path) -> list[Path]:
    return sorted(p for p in content.rglob("*") if p.is_file() and p != content / MARKER)
