"""The body of a response, read as a stream up to a bound, so that no server can fill the memory."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

#: Bytes that a body may have once it is unpacked; an answer of a million tokens has a quarter of them.
MOST_BYTES = 16 * 2**20
#: What zlib calls the two forms that servers pack in, whatever we ask for.
WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class BodyError(Exception):
    """Why a body can't be read; `large` where it is beyond the bound."""

    def __init__(self, text: str, *, large: bool = False) -> None:
        super().__init__(text)
        self.large = large


async def read_body(response: httpx.Response, most: int = MOST_BYTES) -> bytes:
    """The body, unpacked; BodyError where it has more than `most` bytes or can't be unpacked."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    stated = response.headers.get("Content-Length", "")
    if stated.isdigit() and int(stated) > most:
        raise _too_large(most)
    if encoding in ("", "identity"):
        return await _gathered(response, most)
    if encoding not in WINDOWS:
        raise BodyError(f"it is packed as '{encoding}', which was not asked for")
    unpacker = zlib.decompressobj(WINDOWS[encoding])
    parts, room = [], most
    try:
        async for chunk in response.aiter_raw():
            part = unpacker.decompress(chunk, room + 1)
            room -= len(part)
            if room < 0 or unpacker.unconsumed_tail:
                raise _too_large(most)
            parts.append(part)
        parts.append(unpacker.flush())
    except zlib.error as error:
        raise BodyError(f"it can't be unpacked ({error})") from error
    if not unpacker.eof:
        raise BodyError("it ends before it is whole")
    return b"".join(parts)


async def _gathered(response: httpx.Response, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            raise _too_large(most)
    return bytes(body)


def _too_large(most: int) -> BodyError:
    return BodyError(f"more than {most // 2**20} MB", large=True)
