"""The preference data in other layouts: what exporters share."""

from __future__ import annotations

from pathlib import Path

from karma_plugins.errors import TableError


def fresh(path: Path) -> Path:
    """The path, where nothing lies yet or an empty folder; TableError otherwise: nothing is overwritten."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise TableError(f"{path}: there is something already. Name another place, or remove it first.")
    return path
