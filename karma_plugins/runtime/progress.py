"""Progress of long work: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

#: Seconds between two lines in a log.
LINE_EVERY = 10.0


class Advance(Protocol):
    """Called with how many more pieces are done."""

    def __call__(self, pieces: int, /) -> None:
        """Show them."""


@contextmanager
def progress(label: str, total: int) -> Iterator[Advance]:
    """Show on stderr how many of `total` pieces are done: `with progress("generate", 100) as advance: …`."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=label, file=sys.stderr) as bar:
            yield bar.update
        return
    done, begun = 0, time.monotonic()
    last = begun

    def advance(pieces: int) -> None:
        nonlocal done, last
        done, now = done + pieces, time.monotonic()
        if now - last >= LINE_EVERY:
            last = now
            print(f"{label}: {done}/{total} in {now - begun:.0f} s", file=sys.stderr, flush=True)  # noqa: T201

    yield advance
