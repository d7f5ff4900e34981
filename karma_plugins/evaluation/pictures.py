"""The picture of an evaluation: what training did, by competency and benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from karma_plugins.evaluation.measured import blocks, of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colour of a difference whose interval lies below 0.
FELL = "#b3261e"
#: A mark of the picture: its panel, its shift within the row, its colour, and mean, low and high.
Mark: TypeAlias = tuple[int, float, str, tuple[float, float | None, float | None]]


def evaluated(metrics: Mapping[str, Any]) -> Figure:
    """Accuracy of both models, the difference and the win rate, with 95% intervals and on how many prompts.

    A row for all held-out prompts and for each competency, and below one for each benchmark, whose items give
    a score and no win rate. A difference whose interval lies below 0 is marked.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(_pictured(metrics))
    figure = Figure(figsize=(9.5, 1.4 + 0.42 * len(rows)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3, sharey=True)
    for at, (_, marks) in enumerate(rows):
        for panel, shift, colour, (mean, low, high) in marks:
            if low is not None:
                panels[panel].plot([low, high], [at + shift] * 2, color=colour, lw=2)
            fell = panel == 1 and high is not None and high < 0
            panels[panel].plot(mean, at + shift, "v" if fell else "o", color=FELL if fell else colour)
    for axes, place in zip(panels[1:], (0.0, 0.5), strict=True):
        axes.axvline(place, color="#8a929c", lw=1, zorder=0)
    panels[0].set_yticks(range(len(rows)), [name for name, _ in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    titles = ("accuracy or score\n(grey base, blue aligned)", "aligned minus base\n(red: fell)", "win rate")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_xlabel(title, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure


def _pictured(metrics: Mapping[str, Any]) -> Iterator[tuple[str, list[Mark]]]:
    """Each row's name with its n, and its marks."""
    for name, block in blocks(metrics):
        n = metrics["prompts"]["counted"] if block is metrics else block["prompts"]
        yield (
            f"{name} (n = {n})",
            [
                (0, -0.12, "#8a929c", of(block, "accuracy.base")),
                (0, 0.12, "#2563a8", of(block, "accuracy.aligned")),
                (1, 0.0, "#2563a8", of(block, "accuracy.difference")),
                (2, 0.0, "#2563a8", of(block, "win_rate")),
            ],
        )
    for name, block in metrics.get("benchmarks", {}).items():
        n = "?" if block["items"] is None else block["items"]
        change = block["difference"]
        yield (
            f"benchmark {name} (n = {n})",
            [
                (0, -0.12, "#8a929c", (block["base"], None, None)),
                (0, 0.12, "#2563a8", (block["aligned"], None, None)),
                (1, 0.0, "#2563a8", (change["mean"], change["low"], change["high"])),
            ],
        )
