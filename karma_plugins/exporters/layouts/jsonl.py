"""Export as JSON lines: every column of table `pairs`, one pair a line, in curriculum order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from karma_plugins.contracts import Exporter, Options, Tables, hookimpl
from karma_plugins.exporters import fresh


def write(tables: Tables, out: Path, options: Options) -> str:
    """Write one file in UTF-8; conversations stay lists of messages, unknown is null."""
    pairs = tables.read("pairs")
    fresh(out).parent.mkdir(parents=True, exist_ok=True)
    pairs.sort("order").write_ndjson(out)
    return f"{out}: {pairs.height} lines."


@hookimpl
def karma_register_exporters() -> Sequence[Exporter]:
    """Register exporter `jsonl`."""
    return [Exporter(name="jsonl", write=write, summary="Every column as JSON lines, one pair a line.")]
