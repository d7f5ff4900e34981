"""The preference dataset in other layouts, one a module; each takes table `pairs` and writes files."""

from __future__ import annotations

from pathlib import Path

from karma_plugins.errors import TableError


def fresh(path: Path) -> Path:
    """The path, where nothing lies yet or an empty folder; TableError otherwise: nothing is overwritten."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise TableError(f"{path}: there is something already. Name another place, or remove it first.")
    return path
