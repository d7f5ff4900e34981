"""Pictures of a pool of models: kinship as a heat map under its dendrogram, and competence profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from karma_plugins.families import cut, members
from karma_plugins.kinship.clustering import Clustering, cluster
from karma_plugins.runtime.canvas import BLUE, GREY, ORANGE, blank, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

#: Above this number of models a cell has no room for its number.
NUMBERED_MODELS = 16
#: Okabe and Ito's palette (2008), which colour-blind people tell apart, without its yellow.
FAMILY_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
#: Inches of a cell, and of a character of a name.
CELL, LETTER = 0.45, 0.075


def kinship_heatmap(kinship: pl.DataFrame, competency: str | None = None) -> Figure:
    """Kinship of every two models by the primary metric, overall or in a competency, over its dendrogram.

    Models stand in the order of the dendrogram (`clustering.cluster`), each leaf under its column's name.
    Names of one family (`families`) have one colour and a frame, black where a model is alone, and a line
    through the tree is the radius at which families were cut. A pair whose
    kinship is uncertain has a `?` (in a large pool a dot), a null is grey, a model with itself blank.
    Without a pair, as of a single model, there is only a title that says so.
    """
    wanted = pl.col("primary") & pl.col("competency").eq_missing(pl.lit(competency, pl.String))
    rows = kinship.filter(wanted)
    if rows.is_empty():
        figure = blank(4, 1)
        figure.suptitle("Kinship: no pair of models")
        return figure
    clustered = cluster(rows)
    names = clustered.models
    size, longest = max(2.2, CELL * len(names)), LETTER * max(map(len, names))
    figure = blank(size + longest + 1.6, size + longest + 2.2)
    axes, tree = figure.subplots(2, 1, height_ratios=(size, 1.2), sharex=True)
    colours = figure.colorbar(_image(axes, clustered.kinship.tolist()), ax=[axes, tree], fraction=0.05)
    colours.set_label("kinship")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    colour_of = _family_colours(rows)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_color(colour_of.get(label.get_text(), "black"))
    _frame_families(axes, names, colour_of)
    _write_cells(axes, clustered, _uncertain(rows))
    for across, up in clustered.branches:
        tree.plot(across, up, color=BLUE, lw=1)
    if colour_of:
        _draw_radius(tree, 1.0 - cut(rows))
    tree.invert_yaxis()
    tree.set_ylabel("1 - relative\nkinship", fontsize=8)
    plain(tree)
    axes.tick_params(labelbottom=True)
    tree.tick_params(labelbottom=False, bottom=False)
    metrics = ", ".join([*rows["metric"].unique().sort(), *([competency] if competency else [])])
    axes.set_title(f"Kinship ({metrics})" + ("\n? = uncertain" if _uncertain(rows) else ""), fontsize=10)
    return figure


def _draw_radius(tree: Axes, radius: float) -> None:
    """How far apart models may be that are of one family: branches that meet beyond it part families."""
    tree.axhline(radius, color=ORANGE, lw=1.2, ls="--")
    tree.set_xlabel(f"dashed: radius {radius:.2f}, beyond which families part", color=ORANGE, fontsize=8)


def _uncertain(rows: pl.DataFrame) -> set[frozenset[str]]:
    """The pairs whose interval is wider than the differences that a pairing acts on."""
    if "uncertain" not in rows.columns:
        return set()
    doubtful = rows.filter(pl.col("uncertain").fill_null(False) & pl.col("kinship").is_not_null())
    return {frozenset(pair) for pair in doubtful.select("model_a", "model_b").iter_rows()}


def _write_cells(axes: Axes, clustered: Clustering, uncertain: set[frozenset[str]]) -> None:
    """The number of each cell where there is room, and what is uncertain."""
    names = clustered.models
    for row, values in enumerate(clustered.kinship.tolist()):
        for column, value in enumerate(values):
            if value != value:  # a blank
                continue
            doubt = frozenset((names[row], names[column])) in uncertain
            text = f"{value:.2f}{'?' if doubt else ''}" if len(names) <= NUMBERED_MODELS else "·" * doubt
            if text:
                colour = "white" if value < 0.6 else "black"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def _frame_families(axes: Axes, names: Sequence[str], colour_of: Mapping[str, str]) -> None:
    """A frame around each run of neighbours that are of one family."""
    from matplotlib.patches import Rectangle

    start = 0
    for end in range(1, len(names) + 1):
        colour = colour_of.get(names[start])
        if end < len(names) and colour and colour_of.get(names[end]) == colour:
            continue
        if colour and end - start > 1:
            corner, side = (start - 0.5, start - 0.5), end - start
            axes.add_patch(Rectangle(corner, side, side, fill=False, ec=colour, lw=2.5, clip_on=False))
        start = end


def _family_colours(rows: pl.DataFrame) -> dict[str, str]:
    """A colour for the name of each model that has kin; none where all are one family, or overall is not
    shown.
    """
    if rows["competency"].null_count() < rows.height:
        return {}
    groups = [group for group in members(rows) if len(group) > 1]
    if len(groups) == 1 and len(groups[0]) == len({*rows["model_a"], *rows["model_b"]}):
        return {}
    return {name: FAMILY_COLOURS[i % len(FAMILY_COLOURS)] for i, group in enumerate(groups) for name in group}


def _image(axes: Axes, cells: list[list[float]]) -> AxesImage:
    axes.set_facecolor(GREY)
    return axes.imshow(cells or [[float("nan")]], cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto")


def competence_profiles(scores: pl.DataFrame) -> Figure:
    """Mean score of every model in every competency, from table `scores`; a missing cell has no bar."""
    means = (
        scores.group_by("model", "competency").agg(pl.col("score").sort().mean()).sort("competency", "model")
    )
    models = means["model"].unique().sort().to_list()
    competencies = means["competency"].unique().sort().to_list()
    figure = blank(2.0 + 2.4 * max(1, len(competencies)), 1.2 + 0.3 * len(models))
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
        plain(axes)
    panels[0].invert_yaxis()
    figure.supxlabel("mean score", fontsize=9)
    return figure
