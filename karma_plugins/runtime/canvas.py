"""Figures of matplotlib without pyplot's global state: canvas, axes and colours that all pictures share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from karma_plugins.errors import ParamsError
from karma_plugins.runtime.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What a picture may be: what each is told, so that equal pictures are equal files.
KINDS = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
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


def check_picture(path: Path, option: str) -> None:
    """Raise ParamsError where no picture can be written under that name."""
    if path.suffix not in KINDS:
        raise ParamsError(f"{option} {path}: a picture is one of {', '.join(KINDS)}. Name such a file.")


def save(figure: Figure, path: Path) -> None:
    """Write a picture, whole or not at all."""
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:], bbox_inches="tight", metadata=KINDS[path.suffix])
