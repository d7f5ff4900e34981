"""The picture of a jury: its judges' habits beside what a judge without them would show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from karma_plugins.runtime.canvas import BLUE, GREY, ORANGE, blank, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bias(habits: pl.DataFrame) -> Figure:
    """Every habit of table `bias` with its 95% interval, by measure and judge.

    Orange where the interval leaves out what a fair judge would show (the diamond), else blue. A habit that
    could not be measured has its reason instead.
    """
    rows = habits.sort("measure", "judge", "detail", nulls_last=False)
    if rows.is_empty():
        figure = blank(4, 1)
        figure.suptitle("Habits of judges: nothing to measure")
        return figure
    figure = blank(8.0, 1.1 + 0.34 * rows.height)
    axes = figure.subplots()
    axes.axvline(0.0, color=GREY, lw=1)
    for at, row in enumerate(rows.iter_rows(named=True)):
        value, low, high, fair = row["value"], row["low"], row["high"], row["fair"]
        if fair is not None:
            axes.plot(fair, at, "D", mfc="none", mec="black", ms=6, zorder=3)
        if value is None:
            axes.text(0.0, at, f" unknown: {row['reason']}", va="center", fontsize=7)
            continue
        biased = None not in (low, high, fair) and not low <= fair <= high
        colour = ORANGE if biased else BLUE
        if low is not None and high is not None:
            axes.plot([low, high], [at, at], color=colour, lw=2)
        axes.plot(value, at, "o", color=colour, ms=5)
    axes.set_yticks(range(rows.height), [_label(row) for row in rows.iter_rows(named=True)])
    axes.set_ylim(rows.height - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.set_xlabel("value, with its 95% interval (diamond: a fair judge)", fontsize=9)
    axes.set_title("Habits of judges (orange: not fair)", fontsize=10)
    plain(axes)
    return figure


def _label(row: dict[str, object]) -> str:
    """Measure, whose it is, and what it was counted on."""
    whose = row["judge"] or "all"
    detail = f", {row['detail']}" if row["detail"] else ""
    return f"{row['measure']} ({whose}{detail}; n = {row['n']:,})"
