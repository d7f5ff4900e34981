"""Pieces of work on their way: what leaves the process, what a worker checks before it computes, what comes
back.

A piece travels as bytes: a function by its name, and its arguments. A worker first compares itself with the
process that hands out the work (code, versions of libraries, kind of device): one that differs would give
other last bits, or other answers. The result is a parquet file as bytes, which the worker does not write.
"""

from __future__ import annotations

import io
import os
import pickle
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins.contracts import Piece
from karma_plugins.errors import KarmaError, RunnerError

#: What a worker must have in common with the process that hands out the work: by name, the parts of it.
Facts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Witness:
    """How a process looks at itself: `look(*arguments)` gives the facts, at home and in a worker.

    `allowed` names the facts in which a worker may differ all the same.
    """

    look: Callable[..., Facts]
    arguments: tuple[Any, ...] = ()
    allowed: Sequence[str] = ()


class Computation:
    """A piece's function once the piece may leave the process: gives bytes of parquet.

    Called here it just computes. Pickled it becomes an `Errand`, which checks the worker first.
    """

    def __init__(self, piece: Piece, witness: Witness | None) -> None:
        self.piece, self.witness = piece, witness

    def __call__(self) -> bytes:
        """Compute in this process."""
        return parquet(self.piece)

    def __reduce__(self) -> tuple[type[Errand], tuple[Any, ...]]:
        """RunnerError where the piece can't be pickled: its function or an argument has no name to go by."""
        try:
            payload = pickle.dumps(self.piece)
        except Exception as error:
            raise RunnerError(
                f"{self.piece.label}: can't be sent to a worker ({type(error).__name__}: {error}). What runs "
                "there must be importable by its name: no lambda, no function inside a function. Mend the "
                "plugin, or use runner 'local' with one process."
            ) from error
        witness = self.witness
        facts = None if witness is None else witness.look(*witness.arguments)
        return Errand, (
            self.piece.label, payload, str(Path.cwd()), os.environ.get("DVC_ROOT"), witness, facts,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Errand:
    """A piece in a worker: its payload, and where and among what it was packed."""

    label: str
    payload: bytes
    folder: str
    root: str | None
    witness: Witness | None
    facts: Facts | None

    def __call__(self) -> bytes:
        """Check this worker, then compute.

        Raises RunnerError where the worker differs or lacks the run's folder or code; what the piece raises
        comes back as it is, or as a RunnerError with its text where it can't be pickled.
        """
        self._settle()
        if self.witness is not None and self.facts is not None:
            differing = differences(self.facts, self.witness.look(*self.witness.arguments))
            refused = {name: said for name, said in differing.items() if name not in self.witness.allowed}
            for name, said in refused.items():
                raise RunnerError(
                    f"{self.label}: the worker on {socket.gethostname()} has other {name} than the process "
                    f"that hands out the work ({said}), so its results could differ. Make them alike, or "
                    f"add '{name}' to runner.allow_different in params.yaml."
                )
        try:
            piece = pickle.loads(self.payload)  # noqa: S301 (packed by the process that hands out the work)
        except KarmaError:
            raise
        except Exception as error:
            raise RunnerError(
                f"{self.label}: the worker on {socket.gethostname()} can't read the piece "
                f"({type(error).__name__}: {error}). Install there what is installed here."
            ) from error
        try:
            return parquet(piece)
        except Exception as error:
            if travels(error):
                raise
            raise RunnerError(f"{self.label} failed with {type(error).__name__}: {error}") from None

    def _settle(self) -> None:
        """Stand where the run's own process stands, so that its paths mean the same here."""
        if self.root is not None:
            os.environ["DVC_ROOT"] = self.root
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise RunnerError(
                f"{self.label}: the worker on {socket.gethostname()} does not see the run's folder "
                f"'{self.folder}' ({error.strerror}). Share it under the same path."
            ) from error


def parquet(piece: Piece) -> bytes:
    """The frame that a piece gives, as a parquet file."""
    frame: pl.DataFrame = piece()
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def differences(here: Facts, there: Facts) -> dict[str, str]:
    """In which facts a worker differs, and how: `torch 2.13.0 here, 2.12.1 there`."""
    return {
        name: ", ".join(
            f"{part} {parts.get(part, 'absent')} here, {there.get(name, {}).get(part, 'absent')} there"
            for part in sorted({*parts, *there.get(name, {})})
            if parts.get(part) != there.get(name, {}).get(part)
        )
        for name, parts in here.items()
        if dict(parts) != dict(there.get(name, {}))
    }


def travels(error: Exception) -> bool:
    """Whether an error says the same after it was pickled."""
    try:
        return str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 (our own bytes)
    except Exception:  # noqa: BLE001 (an author's class may fail in any way)
        return False
