"""Tensors of safetensors files, piece by piece: no file is mapped, so memory stays at a few pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karma_plugins.errors import ModelError
from karma_plugins.models import folders

#: Numbers to a piece: 1 Mi, so 4 MiB in single precision.
PIECE = 1 << 20
#: What numpy can't name: bfloat16 is the upper half of a float32.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
#: What is no weight, but stands beside them: positions, masks, counters.
PLAIN = frozenset({"I64", "I32", "BOOL"})


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies: file, first byte, type and shape."""

    file: Path
    start: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape, dtype=np.int64))

    def pieces(self, step: int = PIECE) -> Iterator[NDArray[np.float64]]:
        """Its numbers in order, flattened, some at a time, in double precision."""
        dtype = DTYPES[self.dtype]
        handle = os.open(self.file, os.O_RDONLY)
        try:
            for first in range(0, self.size, step):
                count = min(step, self.size - first)
                raw = _pread(handle, count * dtype.itemsize, self.start + first * dtype.itemsize, self.file)
                numbers = np.frombuffer(raw, dtype=dtype)
                if self.dtype == "BF16":
                    numbers = (numbers.astype("<u4") << 16).view("<f4")
                yield numbers.astype(np.float64)
        finally:
            os.close(handle)


def tensors(folder: Path) -> dict[str, Tensor]:
    """The floating-point tensors of a folder of weights, by name: of the very files that transformers loads.

    Raises ModelError where a file is no whole safetensors file, or one that the index names is missing.
    """
    named: dict[str, Tensor] = {}
    for file in folders.weight_files(folder):
        entries, start = folders.header(file)
        for name, entry in sorted(entries.items()):
            if entry["dtype"] in DTYPES:
                named[name] = Tensor(
                    file, start + entry["data_offsets"][0], entry["dtype"], tuple(entry["shape"])
                )
    return named


def packed_types(folder: Path) -> list[str]:
    """The types of tensors that stand for others, scaled or packed, as quantised weights do."""
    entries = [entry for file in folders.weight_files(folder) for entry in folders.header(file)[0].values()]
    return sorted({str(entry["dtype"]) for entry in entries} - DTYPES.keys() - PLAIN)


def _pread(handle: int, size: int, start: int, file: Path) -> bytes:
    """So many bytes; one call may give fewer."""
    parts = []
    while size:
        part = os.pread(handle, size, start)
        if not part:
            raise ModelError(f"{file}: ends before its last tensor. Fetch or save it again.")
        parts.append(part)
        size, start = size - len(part), start + len(part)
    return b"".join(parts)
