"""The picture of a curriculum: difficulty over its pairs, in training order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from karma_plugins.runtime.canvas import BLUE, GREY, ORANGE, blank, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Rows that a bin of the curriculum holds at least; there are never more than 50 bins.
BIN_ROWS, BINS = 20, 50


def difficulty(pairs: pl.DataFrame) -> Figure:
    """Difficulty over the curriculum, from table `pairs`: mean and range in bins of its order, and phases."""
    ordered = pairs.sort("order").with_row_index("row")
    figure = blank(7.0, 3.5)
    axes = figure.subplots()
    width = max(BIN_ROWS, -(-ordered.height // BINS))
    bins = ordered.group_by((pl.col("row") // width).alias("bin"), maintain_order=True).agg(
        pl.col("row").mean().alias("at"),
        pl.col("difficulty").mean().alias("mean"),
        pl.col("difficulty").min().alias("low"),
        pl.col("difficulty").max().alias("high"),
    )
    axes.fill_between(bins["at"].to_list(), bins["low"].to_list(), bins["high"].to_list(), color=GREY, lw=0)
    axes.plot(bins["at"].to_list(), bins["mean"].to_list(), color=BLUE, marker=".")
    starts = ordered.group_by("phase", maintain_order=True).agg(pl.col("row").first())
    for phase, row in starts.rows():
        axes.axvline(row, color=ORANGE, lw=1)
        axes.text(
            row, 1.01, f" phase {phase}", transform=axes.get_xaxis_transform(), fontsize=8, color=ORANGE
        )
    axes.set_xlabel("pairs, in training order")
    axes.set_ylabel("difficulty (mean, range)")
    plain(axes)
    return figure
