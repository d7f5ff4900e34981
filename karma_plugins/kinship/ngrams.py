"""How often some answers use the commonest runs of one to three characters, counted in one stream.

Characters are code points, so any script will do; an answer's beginning and end count as characters too.
Runs are known by a hash of 22 bits, of 1,021 characters that are common and one that stands for all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.kinship.pairs import Floats, Ints

#: The longest run, and the bits of a character and of a run.
LONGEST, CHARACTER_BITS, RUN_BITS = 3, 10, 22
EDGE, OTHER, FIRST = (1 << CHARACTER_BITS) - 1, 1, 2
#: Answers that the vocabulary and the spread of single answers are told from.
SAMPLE = 4096
#: Characters that are counted at a time.
CHUNK = 1 << 18
_MULTIPLIER = np.uint32(2654435761)

Codes = NDArray[np.uint32]


@dataclass(frozen=True)
class Usage:
    """How often each model uses each run of the vocabulary, in each cell of prompts.

    `counts` has shape (models, cells, runs), `totals` (models, cells) counts all runs, of the vocabulary or
    not, `answers` (models, cells) the answers; `spread` (runs) is the variance of a run's share among single
    answers of one model.
    """

    counts: NDArray[np.float32]
    totals: Floats
    answers: Floats
    spread: Floats

    def only(self, cells: slice) -> Usage:
        """That of some cells."""
        return Usage(self.counts[:, cells], self.totals[:, cells], self.answers[:, cells], self.spread)


def usage(answers: Sequence[tuple[pl.Series, Ints]], cells: int, runs: int) -> Usage:
    """Count the `runs` commonest runs of characters in the answers of some models.

    `answers` holds for each model its texts (without nulls) and the number of the cell of each.
    """
    alphabet, table, spread = _vocabulary([texts for texts, _ in answers], runs)
    size = len(spread)
    counts = np.zeros((len(answers), cells, size), dtype=np.float32)
    totals = np.zeros((len(answers), cells))
    for model, (texts, cell) in enumerate(answers):
        for characters, owner in _streams(texts, alphabet):
            place = cell[owner] * (size + 1)
            tally = np.zeros(cells * (size + 1), dtype=np.int64)
            for codes, starts in _runs(characters):
                tally += np.bincount(place[starts] + table[codes], minlength=len(tally))
            square = tally.reshape(cells, size + 1)
            counts[model] += square[:, 1:]
            totals[model] += square.sum(axis=1)
    answered = np.stack([np.bincount(cell, minlength=cells).astype(np.float64) for _, cell in answers])
    return Usage(counts, totals, answered, spread)


def _vocabulary(answers: Sequence[pl.Series], runs: int) -> tuple[Codes, NDArray[np.int16], Floats]:
    """The number of each code point, the place of each run (0 = not in the vocabulary), and the spread."""
    share = max(2, SAMPLE // max(1, len(answers)))
    samples = [texts.gather_every(max(1, -(-len(texts) // share))) for texts in answers]
    every = pl.concat(samples)
    alphabet = _alphabet(every)
    tally = np.zeros(1 << RUN_BITS, dtype=np.int64)
    for characters, _ in _streams(every, alphabet):
        for codes, _ in _runs(characters):
            tally += np.bincount(codes, minlength=len(tally))
    tally[_over_edges()] = 0
    common = np.argsort(-tally, kind="stable")[:runs]
    common = common[tally[common] > 0]
    table = np.zeros(len(tally), dtype=np.int16)
    table[common] = np.arange(1, len(common) + 1)
    return alphabet, table, _spread(samples, alphabet, table, len(common))


def _alphabet(texts: pl.Series) -> Codes:
    tally = np.bincount(_points("".join(texts.to_list())), minlength=0x110000)
    common = np.argsort(-tally, kind="stable")[: EDGE - FIRST]
    common = common[tally[common] > 0]
    alphabet = np.full(len(tally), OTHER, dtype=np.uint32)
    alphabet[common] = np.arange(FIRST, FIRST + len(common), dtype=np.uint32)
    return alphabet


def _spread(samples: Sequence[pl.Series], alphabet: Codes, table: NDArray[np.int16], size: int) -> Floats:
    """The variance of each run's share among answers of one model, pooled over models."""
    total, free = np.zeros(size), 0
    for texts in samples:
        if len(texts) < 2:
            continue
        shares = np.zeros((len(texts), size + 1))
        for characters, owner in _streams(texts, alphabet):
            for codes, starts in _runs(characters):
                cell = owner[starts] * (size + 1) + table[codes]
                shares += np.bincount(cell, minlength=shares.size).reshape(shares.shape)
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1.0)
        total += shares[:, 1:].var(axis=0) * len(texts)
        free += len(texts) - 1
    spread: Floats = total / max(free, 1)
    return spread


def _streams(texts: pl.Series, alphabet: Codes) -> Iterator[tuple[Codes, Ints]]:
    """Some texts at a time as numbers of characters, each text between two edges, and the text of each."""
    lengths = texts.str.len_chars().to_numpy().astype(np.int64)
    ends = np.cumsum(lengths + 2)
    start = 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK, side="right")))
        part = lengths[start:stop]
        points = _points("\0\0".join(["", *texts[start:stop].to_list(), ""]))[1:-1]
        characters = alphabet[points]
        edges = np.cumsum(part + 2) - 1
        characters[edges] = EDGE
        characters[edges - part - 1] = EDGE
        yield characters, np.repeat(np.arange(start, stop), part + 2)
        start = stop


def _points(text: str) -> Codes:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _runs(characters: Codes) -> Iterator[tuple[NDArray[np.intp], slice]]:
    """The hashes of all runs of each length, and the places where they start."""
    code = np.zeros(len(characters), dtype=np.uint32)
    for length in range(1, LONGEST + 1):
        shift = np.uint32(CHARACTER_BITS * (length - 1))
        code = code[: len(characters) - length + 1] | (characters[length - 1 :] << shift)
        if not len(code):
            return
        yield _hashed(code), slice(0, len(code))


def _hashed(code: Codes) -> NDArray[np.intp]:
    return ((code * _MULTIPLIER) >> np.uint32(32 - RUN_BITS)).astype(np.intp)


def _over_edges() -> NDArray[np.intp]:
    """Runs that say nothing: an edge alone, and those from one answer into the next."""
    edge, bits = np.uint32(EDGE), np.uint32(CHARACTER_BITS)
    both = edge | (edge << bits)
    others = np.arange(EDGE + 1, dtype=np.uint32)
    codes = [[edge, both], both | (others << (bits * np.uint32(2))), others | (both << bits)]
    return _hashed(np.concatenate([np.asarray(part, dtype=np.uint32) for part in codes]))
