"""Runners compared: pieces a second, what a piece costs beside its work, and what a second worker brings.

    python benchmarks/runners.py [--pieces 200] [--seconds 0.2]

Every runner keeps the same pieces in a folder of its own: some that compute nothing (the overhead of a piece)
and some that compute for a while (the gain of a second worker). Ray is left out where it is not installed.
Ratios are of one run; the load of the machine is printed beside them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins.contracts import Piece, Runner
from karma_plugins.errors import installed
from karma_plugins.registry import manager
from karma_plugins.runtime.shards import ShardCache, key

RUNNERS = {
    "local": ("local", {"processes": 1}),
    "local, 2 processes": ("local", {"processes": 2}),
    "ray, 1 worker": ("ray", {"num_cpus": 1, "in_flight": 1}),
    "ray, 2 workers": ("ray", {"num_cpus": 1, "in_flight": 4}),
}


def idle(number: int) -> pl.DataFrame:
    """A piece that computes nothing."""
    return pl.DataFrame({"number": [number]})


def busy(number: int, rounds: int) -> pl.DataFrame:
    """A piece that computes: the same work each time."""
    total = 0
    for i in range(rounds):
        total = (total * 31 + i) % 1_000_003
    return pl.DataFrame({"number": [number], "total": [total]})


def rounds_for(seconds: float) -> int:
    """How many rounds take so long on this machine."""
    begun = time.perf_counter()
    busy(0, 1_000_000)
    return int(1_000_000 * seconds / (time.perf_counter() - begun))


def seconds_of(run: Callable[..., Any], pieces: list[Piece]) -> float:
    """How long a runner takes over pieces, workers at hand."""
    with tempfile.TemporaryDirectory() as folder:
        cache = ShardCache(Path(folder), run)
        frames = cache.run(pieces)
        begun = time.perf_counter()
        for _ in frames:
            pass
        return time.perf_counter() - begun


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pieces", type=int, default=200, help="pieces that compute nothing")
    parser.add_argument("--busy", type=int, default=24, help="pieces that compute")
    parser.add_argument("--seconds", type=float, default=0.5, help="what such a piece takes")
    given = parser.parse_args()
    rounds = rounds_for(given.seconds)
    registry = manager.load([])
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'runner':22}{'start, s':>10}{'pieces/s':>10}{'ms a piece':>12}{'busy, s':>10}{'x local':>9}")
    serial = None
    for label, (name, options) in RUNNERS.items():
        plugin, _ = registry.known("runners", name, where="the benchmark")
        assert isinstance(plugin, Runner)
        if not all(map(installed, plugin.needs)):
            print(f"{label:22}not installed: {', '.join(plugin.needs)}")
            continue
        run = partial(plugin.run, options=plugin.options(**options))
        start = seconds_of(run, [Piece(key("start", i), idle, (i,), f"piece {i}") for i in range(2)])
        # A pool of `local` lives as long as one call: its start is taken off what the pieces take.
        again = start if name == "local" else 0.0
        free = seconds_of(run, [Piece(key("idle", i), idle, (i,), f"piece {i}") for i in range(given.pieces)])
        each = max(free - again, 1e-9) / given.pieces
        full = seconds_of(
            run, [Piece(key("busy", i), busy, (i, rounds), f"piece {i}") for i in range(given.busy)]
        )
        full = max(full - again, 1e-9)
        serial = full if serial is None else serial
        print(
            f"{label:22}{start:10.2f}{1 / each:10.0f}{1000 * each:12.1f}{full:10.1f}{serial / full:9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
