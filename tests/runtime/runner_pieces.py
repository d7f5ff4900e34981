"""Pieces of work that workers import by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import polars as pl

from karma_plugins.errors import ParamsError


def table(number: int) -> pl.DataFrame:
    """Three rows with text, nulls and an odd sign."""
    return pl.DataFrame({"number": [number] * 3, "text": [f"{number} ☂", None, ""]})


def refused(number: int) -> pl.DataFrame:
    """A failure in words of its own."""
    raise ParamsError(f"params.yaml, piece {number}: no")


class Odd(Exception):
    """An error that can be pickled and not unpickled."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} is not {b}")


def odd(number: int) -> pl.DataFrame:
    """A failure that does not travel."""
    raise Odd(number, number + 1)


def mortal(number: int, folder: str) -> pl.DataFrame:
    """A worker that is killed the first time."""
    place = Path(folder) / f"died-{number}"
    if not place.exists():
        place.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return table(number)


def deadly(number: int) -> pl.DataFrame:
    """A worker that is killed every time."""
    os.kill(os.getpid(), signal.SIGKILL)
    return table(number)


def place(_: int) -> pl.DataFrame:
    """Where a worker stands, and which process it is."""
    return pl.DataFrame({"folder": [str(Path.cwd())], "process": [os.getpid()]})


def facts(name: str) -> dict[str, dict[str, str]]:
    """What a worker is compared in: under `worker` it has another torch than the process that asks."""
    asking = os.environ.get("KARMA_TEST_ASKING") == str(os.getpid())
    return {"code": {"judge": "1"}, "libraries": {"torch": "2.13" if asking or name != "worker" else "2.12"}}
