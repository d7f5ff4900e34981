"""Runner `local`: the stage's own process, or some worker processes of this machine.

Without any engine several stages can work side by side too, on one machine or on many that share the folder
`.karma/`: each takes pieces that no other has in hand.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process

from pydantic import Field

from karma_plugins.contracts import Options, Piece, Runner, hookimpl
from karma_plugins.errors import RunnerError

#: How often a piece that was computed alone may end its worker before it is to blame.
ATTEMPTS = 2


class LocalOptions(Options):
    """How many processes of this machine compute."""

    processes: int = Field(
        1, ge=1, description="worker processes, each with models of its own; 1: the stage's process itself"
    )
    threads: int = Field(1, ge=1, description="threads of each worker process, where there are several")


@hookimpl
def karma_register_runners() -> Sequence[Runner]:
    """Register this runner."""
    return [Runner(name="local", options=LocalOptions, run=run)]


def run(pieces: Iterator[Piece], options: LocalOptions) -> Iterator[tuple[str, bytes]]:
    """Compute the pieces in order, or, with several processes, as they are done.

    Raises what a piece raises, and RunnerError where a piece ends its worker time after time.
    """
    if options.processes == 1:
        for piece in pieces:
            yield piece.key, piece()
        return
    team = _Team(options)
    try:
        yield from team.work(pieces)
    finally:
        team.disband()


class _Team:
    """Worker processes that are replaced when one dies.

    A pool of the standard library is lost as a whole with one of its workers, and does not say over which
    piece: what was in hand then is computed again one by one, until it is clear which piece is to blame.
    """

    def __init__(self, options: LocalOptions) -> None:
        self.options = options
        self.pool: ProcessPoolExecutor | None = None
        self.flying: dict[Future[bytes], Piece] = {}
        self.suspects: deque[Piece] = deque()
        self.deaths: Counter[str] = Counter()

    def work(self, pieces: Iterator[Piece]) -> Iterator[tuple[str, bytes]]:
        """Yield results as they come."""
        while self._hand_out(pieces):
            done, _ = wait(self.flying, return_when=FIRST_COMPLETED)
            lost = []
            for future in done:
                piece = self.flying.pop(future)
                try:
                    rows = future.result()
                except BrokenProcessPool:
                    lost.append(piece)
                else:
                    yield piece.key, rows
            if lost:
                self._mourn([*lost, *self.flying.values()])

    def disband(self) -> None:
        """End the workers, whatever they are at."""
        pool, self.pool = self.pool, None
        if pool is not None:
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
        self.flying.clear()

    def _hand_out(self, pieces: Iterator[Piece]) -> bool:
        """Keep every worker busy with one piece waiting; false once nothing is in hand."""
        room = 1 if self.suspects else self.options.processes + 1
        while len(self.flying) < room:
            piece = self.suspects.popleft() if self.suspects else next(pieces, None)
            if piece is None:
                break
            if self.pool is None:
                self.pool = self._gathered()
            try:
                self.flying[self.pool.submit(piece)] = piece
            except BrokenProcessPool:  # a worker died between two pieces
                self._mourn([piece, *self.flying.values()])
        return bool(self.flying)

    def _mourn(self, lost: Sequence[Piece]) -> None:
        """A worker died: note what was in hand. RunnerError where one piece is to blame for the last time."""
        self.disband()
        if len(lost) == 1:
            self.deaths[lost[0].key] += 1
            if self.deaths[lost[0].key] >= ATTEMPTS:
                raise RunnerError(
                    f"{lost[0].label or lost[0].key}: its worker process died {ATTEMPTS} times over it, with "
                    "no word (killed, out of memory, or a crash of a library). Run with `KARMA_RUNNER=local` "
                    "and one process to see where."
                )
        self.suspects.extendleft(reversed(lost))

    def _gathered(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.options.processes, get_context("spawn"), initializer=_enter, initargs=(self.options.threads,)
        )


def _enter(threads: int) -> None:
    """Begin a worker: few threads, no word to Ctrl-C (its parent hears it), gone when its parent is."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: object) -> None:
    parent.join()  # type: ignore[attr-defined]
    os._exit(1)
