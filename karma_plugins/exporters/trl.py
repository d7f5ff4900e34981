"""Export for TRL: only the columns that its trainers read, in its conversational formats."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from karma_plugins.exporters import fresh

#: preference: prompt, chosen, rejected. implicit-prompt: chosen and rejected as whole conversations, as in
#: UltraFeedback's binarised sets. unpaired: prompt, completion, label, two rows a pair, for KTO.
Layout: TypeAlias = Literal["preference", "implicit-prompt", "unpaired"]


def write(pairs: pl.DataFrame, folder: Path, layout: Layout = "preference") -> int:
    """Write `data/train.parquet` in a folder that `datasets` reads, in curriculum order; gives its rows."""
    table = arranged(pairs, layout)
    (fresh(folder) / "data").mkdir(parents=True)
    table.write_parquet(folder / "data" / "train.parquet", compression="zstd")
    return table.height


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
