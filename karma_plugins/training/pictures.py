"""The picture of a training: what was reported, over its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from karma_plugins.runtime.canvas import blank, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def training_curves(history: pl.DataFrame) -> Figure:
    """Metrics over the steps of training, a panel each and a line for each phase.

    `history` has the columns metric, phase, step, value.
    """
    metrics = history["metric"].unique().sort().to_list()
    figure = blank(7.0, 1.0 + 1.7 * max(1, len(metrics)))
    panels = figure.subplots(max(1, len(metrics)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=False):
        curve = history.filter(metric=metric).sort("phase", "step")
        for (phase,), line in curve.group_by("phase", maintain_order=True):
            axes.plot(line["step"].to_list(), line["value"].to_list(), label=f"phase {phase}")
        axes.set_ylabel(metric, fontsize=8)
        plain(axes)
    panels[-1].set_xlabel("step")
    if history["phase"].n_unique() > 1:
        panels[0].legend(fontsize=7, frameon=False)
    return figure
