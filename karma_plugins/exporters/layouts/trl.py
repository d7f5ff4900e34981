"""Export for TRL: only the columns that its trainers read, in its conversational formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl
from pydantic import Field

from karma_plugins.contracts import Exporter, Options, Tables, hookimpl
from karma_plugins.exporters import fresh

#: preference: prompt, chosen, rejected. implicit-prompt: chosen and rejected as whole conversations, as in
#: UltraFeedback's binarised sets. unpaired: prompt, completion, label, two rows a pair, for KTO.
Layout: TypeAlias = Literal["preference", "implicit-prompt", "unpaired"]


class TrlOptions(Options):
    """Which of TRL's formats."""

    layout: Layout = Field(
        "preference",
        description="preference: prompt, chosen, rejected; implicit-prompt: chosen and rejected as whole "
        "conversations; unpaired: prompt, completion, label, for KTO",
    )


def write(tables: Tables, out: Path, options: TrlOptions) -> str:
    """Write `data/train.parquet` in a folder that `datasets` reads, in curriculum order."""
    table = arranged(tables.read("pairs"), options.layout)
    (fresh(out) / "data").mkdir(parents=True)
    table.write_parquet(out / "data" / "train.parquet", compression="zstd")
    call = f"datasets.load_dataset('{out}', split='train')"
    return f"{out}: {table.height} rows, layout {options.layout}, for {call}."


def arranged(pairs: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Table pairs in one of TRL's layouts."""
    pairs = pairs.sort("order")
    if layout == "preference":
        return pairs.select("prompt", "chosen", "rejected")
    if layout == "implicit-prompt":
        return pairs.select(
            pl.col("prompt").list.concat("chosen").alias("chosen"),
            pl.col("prompt").list.concat("rejected").alias("rejected"),
        )
    both = [
        pairs.select("order", "prompt", completion=side, label=pl.lit(side == "chosen"))
        for side in ("chosen", "rejected")
    ]
    return pl.concat(both).sort("order", "label", descending=[False, True]).drop("order")


@hookimpl
def karma_register_exporters() -> Sequence[Exporter]:
    """Register exporter `trl`."""
    summary = "The columns that TRL's trainers read, in its conversational formats."
    return [Exporter(name="trl", write=write, options=TrlOptions, summary=summary)]
