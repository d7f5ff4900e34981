"""The picture of a training: what was reported, over its steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import polars as pl

from karma_plugins.runtime.canvas import blank, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What one looks at first, in this order; the other metrics follow by name.
FIRST = ("loss", "reward", "rewards/accuracies", "rewards/margins", "kl", "grad_norm", "learning_rate")
#: Panels beside each other, so that a training of many metrics fits a screen.
ACROSS = 4
#: Colours of phases that colour-blind people tell apart (Okabe and Ito 2008), and lines that need no colour.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINES = ("-", "--", "-.", ":")


def training_curves(history: pl.DataFrame) -> Figure:
    """Metrics over the steps of training, the loss first: a panel each, and a line for each phase.

    `history` has the columns metric, phase, step, value.
    """
    metrics = _ordered(history["metric"].unique().to_list())
    across = min(ACROSS, max(1, len(metrics)))
    down = max(1, -(-len(metrics) // across))
    figure = blank(1.0 + 2.9 * across, 0.8 + 1.65 * down)
    panels = figure.subplots(down, across, sharex=True, squeeze=False).ravel()
    phases = history["phase"].unique().sort().to_list()
    for axes, metric in zip(panels, metrics, strict=False):
        curve = history.filter(metric=metric).sort("phase", "step")
        for number, phase in enumerate(phases):
            line = curve.filter(phase=phase)
            style = {"color": COLOURS[number % len(COLOURS)], "ls": LINES[number % len(LINES)], "lw": 1.2}
            points = "o" if line.height == 1 else ""
            axes.plot(line["step"], line["value"], label=f"phase {phase}", marker=points, ms=3, **style)
        axes.set_title(metric, fontsize=8, loc="left")
        plain(axes)
        axes.tick_params(labelbottom=True, labelsize=7)
    for axes in panels[len(metrics) :]:
        axes.set_visible(False)
    figure.supxlabel("step", fontsize=8)
    if len(phases) > 1:
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(phases), fontsize=8
        )
    return figure


def _ordered(metrics: Iterable[str]) -> list[str]:
    return sorted(metrics, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
