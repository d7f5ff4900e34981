"""Export as JSON lines: every column of table `pairs`, one pair a line, in curriculum order."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from karma_plugins.exporters import fresh


def write(pairs: pl.DataFrame, file: Path) -> int:
    """Write one file in UTF-8 and give its lines; conversations stay lists of messages, unknown is null."""
    fresh(file).parent.mkdir(parents=True, exist_ok=True)
    pairs.sort("order").write_ndjson(file)
    return pairs.height
