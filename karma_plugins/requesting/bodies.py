"""The body of a response, read as a stream up to a bound, so that no server can fill the memory."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

#: Bytes that a body may have once it is unpacked; an answer of a million tokens has a quarter of them.
MOST_BYTES = 16 * 2**20
#: From so many bytes on a body is large, and so many large ones are read at once: others wait their turn.
LARGE_BYTES, LARGE_AT_ONCE = 2**20, 8
#: What zlib calls the two forms that servers pack in, whatever we ask for.
WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class BodyError(Exception):
    """Why a body can't be read; `large` where it is beyond the bound."""

    def __init__(self, text: str, *, large: bool = False) -> None:
        super().__init__(text)
        self.large = large


async def read_body(
    response: httpx.Response, turns: asyncio.Semaphore | None = None, most: int = MOST_BYTES
) -> bytes:
    """The body, unpacked; BodyError where it has more than `most` bytes or can't be unpacked.

    `turns` are those of large bodies, which several readings share.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    stated = response.headers.get("Content-Length", "")
    if stated.isdigit() and int(stated) > most:
        raise _too_large(most)
    if encoding in ("", "identity"):
        parts = response.aiter_raw()
    elif encoding in WINDOWS:
        parts = _unpacked(response, WINDOWS[encoding])
    else:
        raise BodyError(f"it is packed as '{encoding}', which was not asked for")
    body = bytearray()
    async with AsyncExitStack() as held:
        waiting = turns
        async for part in parts:
            body += part
            if len(body) > most:
                raise _too_large(most)
            if waiting is not None and len(body) > LARGE_BYTES:
                await held.enter_async_context(waiting)
                waiting = None
        return bytes(body)


async def _unpacked(response: httpx.Response, window: int) -> AsyncIterator[bytes]:
    """What a packed body holds, piece by piece, none larger than a large body."""
    unpacker = zlib.decompressobj(window)
    try:
        async for chunk in response.aiter_raw():
            while chunk:
                yield unpacker.decompress(chunk, LARGE_BYTES)
                chunk = unpacker.unconsumed_tail
        yield unpacker.flush()
    except zlib.error as error:
        raise BodyError(f"it can't be unpacked ({error})") from error
    if not unpacker.eof:
        raise BodyError("it ends before it is whole")


def _too_large(most: int) -> BodyError:
    return BodyError(f"more than {most // 2**20} MB", large=True)
