"""A runner: each piece of work in a process of its own."""

import pickle
import subprocess
import sys
from collections.abc import Iterator

from pydantic import Field

from karma_plugins import Options, Piece, Runner, RunnerError, hookimpl

WORKER = """
import pickle, sys
piece = pickle.load(sys.stdin.buffer)
try:
    result = True, piece()
except Exception as error:
    result = False, error
pickle.dump(result, sys.stdout.buffer)
"""


class ProcessOptions(Options):
    """How patient it is."""

    attempts: int = Field(2, ge=1, description="how often a piece is tried whose process died")


def run(pieces: Iterator[Piece], options: ProcessOptions) -> Iterator[tuple[str, bytes]]:
    """Each piece in a process of its own, one after another."""
    for piece in pieces:
        yield piece.key, apart(piece, options.attempts)


def apart(piece: Piece, attempts: int) -> bytes:
    """What a piece gives in another process; its error is raised as it is."""
    for _ in range(attempts):
        packed = pickle.dumps(piece)
        done = subprocess.run(
            [sys.executable, "-c", WORKER], input=packed, stdout=subprocess.PIPE, check=False
        )
        if done.returncode == 0:
            well, result = pickle.loads(done.stdout)
            if not well:
                raise result
            return bytes(result)
    raise RunnerError(f"{piece.label}: its process died {attempts} times over it.")


@hookimpl
def karma_register_runners() -> list[Runner]:
    """The runner."""
    return [Runner(name="demo", options=ProcessOptions, run=run)]
