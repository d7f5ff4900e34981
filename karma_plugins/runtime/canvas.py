"""Figures of matplotlib without pyplot's global state: canvas, axes and colours that all pictures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2563a8", "#d9731a", "#c8ccd2"


def blank(width: float, height: float) -> Figure:
    """An empty figure of a size in inches."""
    # Here, because stages import this module whether they draw or not.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes) -> None:
    """Only the two axes that are read."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
