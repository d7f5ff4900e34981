"""Pictures of tables, one matplotlib figure each, drawn without the global state of pyplot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from karma_plugins.clustering import cluster

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

#: Above this number of models a cell has no room for its number.
NUMBERED_MODELS = 16
#: Rows that a bin of the curriculum holds at least; there are never more than 50 bins.
BIN_ROWS, BINS = 20, 50
BLUE, ORANGE, GREY = "#2563a8", "#d9731a", "#c8ccd2"


def kinship_heatmap(kinship: pl.DataFrame, competency: str | None = None) -> Figure:
    """Kinship of every two models by the primary metric, overall or in a competency, under its dendrogram.

    Models stand in the order of the dendrogram (`clustering.cluster`). A model with itself is drawn blank, a
    null is grey. Without a pair, as of a single model, there is only a title that says so.
    """
    wanted = pl.col("primary") & pl.col("competency").eq_missing(pl.lit(competency, pl.String))
    rows = kinship.filter(wanted)
    if rows.is_empty():
        figure = _blank(4, 1)
        figure.suptitle("Kinship: no pair of models")
        return figure
    found = cluster(rows)
    size = 2.5 + 0.45 * len(found.models)
    longest = max(len(name) for name in found.models)
    figure = _blank(size + 1 + 0.06 * longest, 1.25 * size + 0.05 * longest)
    axes, tree = figure.subplots(2, 1, height_ratios=(5, 1), sharex=True)
    colours = figure.colorbar(_image(axes, found.kinship.tolist()), ax=axes, fraction=0.046)
    colours.set_label("kinship")
    axes.set_xticks(range(len(found.models)), found.models, rotation=60, ha="right")
    axes.set_yticks(range(len(found.models)), found.models)
    if len(found.models) <= NUMBERED_MODELS:
        for row, values in enumerate(found.kinship.tolist()):
            for column, value in enumerate(values):
                if value == value:  # not a blank
                    colour = "white" if value < 0.6 else "black"
                    axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    for across, up in found.branches:
        tree.plot(across, up, color=BLUE, lw=1)
    tree.invert_yaxis()
    tree.set_ylabel("1 - kinship", fontsize=8)
    _plain(tree)
    axes.tick_params(labelbottom=True)
    tree.tick_params(labelbottom=False)
    metrics = ", ".join([*rows["metric"].unique().sort(), *([competency] if competency else [])])
    axes.set_title(f"Kinship ({metrics})")
    return figure


def _image(axes: Axes, cells: list[list[float]]) -> AxesImage:
    axes.set_facecolor(GREY)
    return axes.imshow(cells or [[float("nan")]], cmap="viridis", vmin=0.0, vmax=1.0)


def competence_profiles(scores: pl.DataFrame) -> Figure:
    """Mean score of every model in every competency, from table `scores`; a missing cell has no bar."""
    means = (
        scores.group_by("model", "competency").agg(pl.col("score").sort().mean()).sort("competency", "model")
    )
    models = means["model"].unique().sort().to_list()
    competencies = means["competency"].unique().sort().to_list()
    figure = _blank(2.0 + 2.4 * max(1, len(competencies)), 1.2 + 0.3 * len(models))
    panels = figure.subplots(1, max(1, len(competencies)), sharey=True, squeeze=False)[0]
    for axes, competency in zip(panels, competencies, strict=False):
        known = dict(means.filter(competency=competency).select("model", "score").rows())
        bars = [known.get(model) for model in models]
        axes.barh(range(len(models)), [value or 0.0 for value in bars], color=BLUE, height=0.65)
        for row, value in enumerate(bars):
            text = "missing" if value is None else f"{value:.2f}"
            axes.text((value or 0.0) + 0.02, row, text, va="center", fontsize=7)
        axes.set_xlim(0.0, 1.15)
        axes.set_title(competency, fontsize=9)
        axes.set_yticks(range(len(models)), models)
        _plain(axes)
    panels[0].invert_yaxis()
    figure.supxlabel("mean score", fontsize=9)
    return figure


def difficulty(pairs: pl.DataFrame) -> Figure:
    """Difficulty over the curriculum, from table `pairs`: mean and range in bins of its order, and phases."""
    ordered = pairs.sort("order").with_row_index("row")
    figure, axes = _figure(7.0, 3.5)
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
    _plain(axes)
    return figure


def training_curves(history: pl.DataFrame) -> Figure:
    """Metrics over the steps of training, a panel each and a line for each phase.

    `history` has the columns metric, phase, step, value.
    """
    metrics = history["metric"].unique().sort().to_list()
    figure = _blank(7.0, 1.0 + 1.7 * max(1, len(metrics)))
    panels = figure.subplots(max(1, len(metrics)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=False):
        curve = history.filter(metric=metric).sort("phase", "step")
        for (phase,), line in curve.group_by("phase", maintain_order=True):
            axes.plot(line["step"].to_list(), line["value"].to_list(), label=f"phase {phase}")
        axes.set_ylabel(metric, fontsize=8)
        _plain(axes)
    panels[-1].set_xlabel("step")
    if history["phase"].n_unique() > 1:
        panels[0].legend(fontsize=7, frameon=False)
    return figure


def _blank(width: float, height: float) -> Figure:
    # Here, because stages import this module whether they draw or not.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _blank(width, height)
    return figure, figure.subplots()


def _plain(axes: Axes) -> None:
    """Only the two axes that are read."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
