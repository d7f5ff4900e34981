"""How alike two texts are, cheaply: a short signature of each text, compared byte by byte.

A text's shingles are its overlapping runs of eight bytes, lower-cased, white space at the ends removed.
Similarity is the Jaccard index of two texts' sets of shingles, estimated by one-permutation minhash (Li,
Owen, Zhang 2012) with 64 bins of one byte each (b-bit minhash, Li and König 2010); its standard error is at
most 0.06.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.runtime.noise import mixed

BINS = 64
SHINGLE = 8
#: Texts, and bytes of text, whose signatures are made at a time.
BATCH, BATCH_BYTES = 50_000, 1 << 18
#: Pairs that are compared at a time.
BLOCK = 200_000

_EMPTY = np.uint64(2**64 - 1)


def signatures(texts: pl.LazyFrame, ids: pl.Series) -> NDArray[np.uint8]:
    """The signatures of the texts of some responses: shape (len(ids), 64), 0 in an empty bin.

    `texts` has columns response_id and text (null counts as empty).
    """
    rows = np.zeros((len(ids), BINS), dtype=np.uint8)
    place = pl.DataFrame({"response_id": ids}).with_row_index("place").lazy()
    wanted = texts.select("response_id", "text").join(place, on="response_id").select("place", "text")
    for batch in wanted.collect(engine="streaming").iter_slices(BATCH):
        text = batch["text"].fill_null("").str.strip_chars().str.to_lowercase()
        rows[batch["place"].to_numpy()] = of_texts(text)
    return rows


def of_texts(texts: pl.Series) -> NDArray[np.uint8]:
    """The signatures of some texts, as they are: shape (len(texts), 64), 0 in an empty bin."""
    ends = np.cumsum(texts.str.len_bytes().to_numpy().astype(np.int64) + SHINGLE)
    rows = np.zeros((len(texts), BINS), dtype=np.uint8)
    start = 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        rows[start:stop] = _signatures(texts[start:stop])
        start = stop
    return rows


def among(signature: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The estimated similarity in [0,1] of every two of some texts: a square; as `jaccard`."""
    empty = (signature == 0).astype(np.float32)
    both_empty = empty @ empty.T
    equal = np.zeros(both_empty.shape, dtype=np.uint8)  # at most 64
    for one in np.ascontiguousarray(signature.T):
        equal += (one[:, None] == one).view(np.uint8)
    filled = BINS - both_empty
    share = np.where(filled > 0, (equal - both_empty) / np.maximum(filled, 1), 1.0)
    chance = 1 / 255
    alike: NDArray[np.float64] = np.clip((share - chance) / (1 - chance), 0.0, 1.0).astype(np.float64)
    return alike


def jaccard(
    signature: NDArray[np.uint8], a: NDArray[np.integer], b: NDArray[np.integer]
) -> NDArray[np.float64]:
    """The estimated similarity in [0,1] of each pair of rows `a` and `b`; of two empty texts it is 1."""
    similarity = np.empty(len(a), dtype=np.float64)
    chance = 1 / 255
    for start in range(0, len(a), BLOCK):
        block = slice(start, start + BLOCK)
        one, other = signature[a[block]], signature[b[block]]
        filled = ((one != 0) | (other != 0)).sum(axis=1)
        same = ((one == other) & (one != 0)).sum(axis=1)
        share = np.where(filled > 0, same / np.maximum(filled, 1), 1.0)
        similarity[block] = np.clip((share - chance) / (1 - chance), 0.0, 1.0)
    return similarity


def _signatures(texts: pl.Series) -> NDArray[np.uint8]:
    length = texts.str.len_bytes().to_numpy().astype(np.int64)
    pad = "\0" * SHINGLE
    joined = np.frombuffer((pad.join(texts.to_list()) + pad).encode(), dtype=np.uint8)
    count = len(joined) - SHINGLE  # the last window starts in the last text, as all that count
    windows = np.ndarray((count,), dtype="<u8", buffer=joined.data, strides=(1,))
    hashed = mixed(windows)
    ends = np.cumsum(length + SHINGLE)
    pads = (ends[:-1, None] - np.arange(1, SHINGLE + 1)).ravel()
    hashed[pads] = _EMPTY  # what starts between two texts is a shingle of neither
    place = np.repeat(np.arange(len(length)) * BINS, length + SHINGLE)[:count]
    place += (hashed >> np.uint64(58)).astype(np.int64)
    least = np.full(len(length) * BINS, _EMPTY)
    np.minimum.at(least, place, hashed)
    value = (1 + mixed(least) % np.uint64(255)).astype(np.uint8)
    return np.where(least == _EMPTY, np.uint8(0), value).reshape(-1, BINS)
