"""How many requests go out at once: fewer after a server says that it is too many, slowly more again."""

from __future__ import annotations

import asyncio
import time


class Throttle:
    """Lets so many requests through at once: half as many after a 429, slowly more while all goes well."""

    def __init__(self, most: int) -> None:
        self.most, self.limit, self.active = most, float(most), 0
        self.resume = self.lowered = 0.0
        self.left = asyncio.Event()

    async def enter(self) -> float:
        """Wait for a place; returns the time of entry."""
        while self.active >= int(self.limit) or self.resume > time.monotonic():
            pause = self.resume - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            else:
                self.left.clear()
                await self.left.wait()
        self.active += 1
        return time.monotonic()

    def leave(self, *, well: bool) -> None:
        """Give a place back; `well` where an answer came of it."""
        self.active -= 1
        if well:
            self.limit = min(float(self.most), self.limit + 1 / self.limit)
        self.left.set()

    def too_many(self, entered: float, wait: float) -> None:
        """Hold everybody back for `wait` seconds; refusals of what was on its way already count once."""
        now = time.monotonic()
        if entered >= self.lowered:
            self.limit, self.lowered = max(1.0, self.limit / 2), now
        self.resume = max(self.resume, now + wait)
