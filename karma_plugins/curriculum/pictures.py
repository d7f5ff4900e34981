"""Pictures of a curriculum: difficulty over its pairs in training order, and why the others are not in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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


def funnel(report: Mapping[str, Any]) -> Figure:
    """From all possible pairs to those kept, by a report: what each rule took, the most first."""
    pairs = report["pairs"]
    dropped = sorted(pairs["dropped"].items(), key=lambda item: (-item[1], item[0]))
    left, bars = pairs["possible"], [("possible", pairs["possible"], 0)]
    for reason, count in dropped:
        left -= count
        bars.append((reason, left, count))
    bars.append(("kept", pairs["kept"], 0))
    figure = blank(7.0, 1.0 + 0.32 * len(bars))
    axes = figure.subplots()
    for row, (name, remaining, taken) in enumerate(bars):
        axes.barh(row, remaining, color=BLUE if name in ("possible", "kept") else GREY, height=0.7)
        axes.barh(row, taken, left=remaining, color=ORANGE, height=0.7)
        text = f"-{taken:,}" if taken else f"{remaining:,}"
        axes.text(remaining + taken, row, f" {text}", va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("pairs (orange: dropped because of it)", fontsize=9)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    plain(axes)
    return figure
