"""Work that must end: what goes on for longer is broken off, and says so."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ends_within(seconds: int) -> Iterator[None]:
    """Raise AssertionError in what takes longer; in the main thread only.

    No TimeoutError: that is an OSError, which what is tested may catch and call a file that can't be read.
    """

    def stop(*_: object) -> None:
        raise AssertionError(f"does not end within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
