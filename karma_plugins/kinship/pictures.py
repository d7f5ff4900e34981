"""Pictures of a pool of models: kinship as a heat map under its dendrogram, and competence profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from karma_plugins.families import members
from karma_plugins.kinship.clustering import cluster
from karma_plugins.runtime.canvas import BLUE, GREY, blank, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

#: Above this number of models a cell has no room for its number.
NUMBERED_MODELS = 16
FAMILY_COLOURS = ("#2563a8", "#d9731a", "#2f8f4e", "#a0309a", "#b0272d", "#5b4bb5", "#8a6d1f", "#148a8a")


def kinship_heatmap(kinship: pl.DataFrame, competency: str | None = None) -> Figure:
    """Kinship of every two models by the primary metric, overall or in a competency, under its dendrogram.

    Models stand in the order of the dendrogram (`clustering.cluster`); names of one family (`families`) have
    one colour, black where a model is alone. A model with itself is drawn blank, a null is grey. Without a
    pair, as of a single model, there is only a title that says so.
    """
    wanted = pl.col("primary") & pl.col("competency").eq_missing(pl.lit(competency, pl.String))
    rows = kinship.filter(wanted)
    if rows.is_empty():
        figure = blank(4, 1)
        figure.suptitle("Kinship: no pair of models")
        return figure
    found = cluster(rows)
    size = 2.5 + 0.45 * len(found.models)
    longest = max(len(name) for name in found.models)
    figure = blank(size + 1 + 0.06 * longest, 1.25 * size + 0.05 * longest)
    axes, tree = figure.subplots(2, 1, height_ratios=(5, 1), sharex=True)
    colours = figure.colorbar(_image(axes, found.kinship.tolist()), ax=axes, fraction=0.046)
    colours.set_label("kinship")
    axes.set_xticks(range(len(found.models)), found.models, rotation=60, ha="right")
    axes.set_yticks(range(len(found.models)), found.models)
    colour_of = _family_colours(rows)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_color(colour_of.get(label.get_text(), "black"))
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
    plain(tree)
    axes.tick_params(labelbottom=True)
    tree.tick_params(labelbottom=False)
    metrics = ", ".join([*rows["metric"].unique().sort(), *([competency] if competency else [])])
    axes.set_title(f"Kinship ({metrics})")
    return figure


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
    return axes.imshow(cells or [[float("nan")]], cmap="viridis", vmin=0.0, vmax=1.0)


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
