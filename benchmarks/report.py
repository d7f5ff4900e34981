"""Size and seconds of the report: of the run in a folder, and of so many synthetic pairs in a copy of it.

usage: python benchmarks/report.py FOLDER [PAIRS]
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from karma_plugins import tables
from karma_plugins.schemas import PAIRS
from karma_plugins.study import reporting


def measured(folder: Path, what: str) -> None:
    """Make the page and print what it took."""
    started, worked = time.perf_counter(), time.process_time()
    page = reporting.page(reporting.collect(folder))
    seconds, of_cpu = time.perf_counter() - started, time.process_time() - worked
    print(
        f"{what:>16}: {len(page.encode()) / 1e6:6.2f} MB  {seconds:6.1f} s ({of_cpu:.1f} s of the processor)"
    )


def synthetic(pairs: pl.DataFrame, count: int) -> pl.DataFrame:
    """The pairs over and over, with answers of a usual length (about 1,000 characters)."""
    times = -(-count // pairs.height)
    many = pl.concat([pairs] * times).head(count).with_columns(order=pl.int_range(count, dtype=pl.Int64))
    long = pl.element().struct.with_fields(
        content=pl.concat_str([pl.element().struct.field("content"), pl.lit(" and so on" * 100)])
    )
    return many.with_columns(pl.col("chosen", "rejected").list.eval(long))


def main() -> None:
    """Print a line for each."""
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    measured(folder, "the run")
    with TemporaryDirectory() as scratch:
        copy = Path(scratch) / "run"
        for name in (
            "data/pairs",
            "data/jury",
            "data/verdicts",
            "data/responses",
            "data/profile",
            "metrics",
            "plots",
        ):
            shutil.copytree(folder / name, copy / name)
        for name in ("params.yaml", *(path for path, _ in reporting.collecting.TABLES.values())):
            if (folder / name).is_file() and not (copy / name).exists():
                shutil.copyfile(folder / name, copy / name)
        place = copy / "data/pairs/data/train.parquet"
        tables.write(synthetic(tables.read(place, PAIRS), count), place, PAIRS)
        measured(copy, f"{count:,} pairs")


if __name__ == "__main__":
    main()
