"""Pictures of tables: the same table gives the same bytes, and a table with gaps can be drawn."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from karma_plugins import schemas
from karma_plugins.curriculum.pictures import difficulty, funnel
from karma_plugins.judging.pictures import bias
from karma_plugins.kinship import pictures
from karma_plugins.lineage.graph import Datum, Made, Origin, StageRun
from karma_plugins.lineage.picture import draw
from karma_plugins.lineage.tree import Lineage
from karma_plugins.runtime.canvas import BLUE, ORANGE
from karma_plugins.training.pictures import training_curves

KINSHIP = pl.DataFrame(
    {
        "metric": "capability",
        "competency": pl.Series([None, None, None, "knowledge"], dtype=pl.String),
        "model_a": ["a", "a", "b", "a"],
        "model_b": ["b", "c", "c", "b"],
        "kinship": [0.2, None, 0.9, 0.4],
        "low": pl.Series([None] * 4, dtype=pl.Float64),
        "high": pl.Series([None] * 4, dtype=pl.Float64),
        "consistency": pl.Series([None] * 4, dtype=pl.Float64),
        "primary": True,
    }
)
SCORES = pl.DataFrame(
    {"model": ["a", "a", "b"], "competency": ["k", "r", "k"], "score": [0.5, None, 0.7]},
)
PAIRS = pl.DataFrame(
    {"order": range(90), "phase": [0] * 40 + [1] * 50, "difficulty": [i / 90 for i in range(90)]}
)
HISTORY = pl.DataFrame(
    {"metric": ["loss"] * 4, "phase": [0, 0, 1, 1], "step": [1, 2, 1, 2], "value": [4.0, 3, 2, 1]}
)


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (pictures.kinship_heatmap, KINSHIP),
        (pictures.competence_profiles, SCORES),
        (difficulty, PAIRS),
        (training_curves, HISTORY),
    ],
)
def test_rows_in_any_order_give_the_same_picture(
    draw: Callable[[pl.DataFrame], Figure], table: pl.DataFrame
) -> None:
    drawn = []
    for rows in (table, table.reverse()):
        picture = io.BytesIO()
        draw(rows).savefig(picture, format="png")
        drawn.append(picture.getvalue())
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) > 1000


def test_without_a_pair_the_heatmap_says_so() -> None:
    assert "no pair" in pictures.kinship_heatmap(KINSHIP, "reasoning").get_suptitle()
    assert "no pair" in pictures.kinship_heatmap(KINSHIP.clear()).get_suptitle()


def test_a_missing_kinship_is_no_number_in_the_heatmap() -> None:
    axes = pictures.kinship_heatmap(KINSHIP).axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ["0.20", "0.20", "0.90", "0.90"]


def test_each_leaf_stands_under_its_column_and_doubt_is_marked() -> None:
    doubtful = KINSHIP.with_columns(uncertain=pl.col("model_b") == "b")
    figure = pictures.kinship_heatmap(doubtful)
    figure.canvas.draw()
    heat, tree = figure.axes[:2]
    assert heat.get_xlim() == tree.get_xlim()
    for side in ("x0", "x1"):
        assert getattr(heat.get_position(), side) == pytest.approx(getattr(tree.get_position(), side))
    texts = sorted(text.get_text() for text in heat.texts)
    assert texts == ["0.20?", "0.20?", "0.90", "0.90"]
    assert "uncertain" in heat.get_title()


def test_a_family_has_a_frame() -> None:
    rows = [(a, b, 0.9 if {a, b} in ({"a", "b"}, {"c", "d"}) else 0.1) for a, b in combinations("abcd", 2)]
    table = pl.DataFrame(rows, schema=["model_a", "model_b", "kinship"], orient="row").with_columns(
        metric=pl.lit("style"), competency=pl.lit(None, pl.String), primary=True,
        low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64), consistency=pl.lit(None, pl.Float64),
    )  # fmt: skip
    heat = pictures.kinship_heatmap(table).axes[0]
    assert sorted(frame.get_width() for frame in heat.patches) == [2, 2]


def test_the_radius_parts_the_families_of_the_tree() -> None:
    rows = [(a, b, 0.8 if {a, b} in ({"a", "b"}, {"c", "d"}) else 0.1) for a, b in combinations("abcd", 2)]
    table = pl.DataFrame(rows, schema=["model_a", "model_b", "kinship"], orient="row").with_columns(
        metric=pl.lit("style"), competency=pl.lit(None, pl.String), primary=True,
        low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64), consistency=pl.lit(0.8),
    )  # fmt: skip
    tree = pictures.kinship_heatmap(table).axes[1]
    (radius,) = [line.get_ydata()[0] for line in tree.lines if line.get_linestyle() == "--"]
    heights = sorted(max(line.get_ydata()) for line in tree.lines if line.get_linestyle() == "-")
    assert heights == pytest.approx([0.0, 0.0, 1 - 0.1 / 0.8])  # 0.8 is as alike as a model is to itself
    assert heights[1] < radius < heights[2]
    assert f"{radius:.2f}" in tree.get_xlabel()


def test_one_family_has_no_radius() -> None:
    tree = pictures.kinship_heatmap(KINSHIP.with_columns(kinship=pl.lit(0.9))).axes[1]
    assert not [line for line in tree.lines if line.get_linestyle() == "--"]


def test_the_funnel_ends_with_what_is_kept() -> None:
    report = {"pairs": {"possible": 100, "kept": 7, "dropped": {"over budget": 3, "tie": 90}}}
    axes = funnel(report).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "possible",
        "tie",
        "over budget",
        "kept",
    ]
    assert [text.get_text() for text in axes.texts] == [" 100", " -90", " -3", " 7"]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [100, 0, 10, 90, 7, 3, 7, 0]


def test_a_biased_judge_is_orange_and_what_is_unknown_has_its_reason() -> None:
    rows = [
        ("longer_wins", "a", None, 0.7, 0.65, 0.75, 0.5, 90, None),
        ("longer_wins", "b", None, 0.52, 0.45, 0.55, 0.5, 90, None),
        ("nepotism", "a", "m", None, None, None, 0.0, 0, "one judge"),
    ]
    axes = bias(pl.DataFrame(rows, schema=schemas.BIAS.columns, orient="row")).axes[0]
    colours = {line.get_xdata()[0]: line.get_color() for line in axes.lines if line.get_marker() == "o"}
    assert colours == {0.7: ORANGE, 0.52: BLUE}
    assert [text.get_text() for text in axes.texts] == [" unknown: one judge"]
    assert "nepotism (a, m; n = 0)" in [label.get_text() for label in axes.get_yticklabels()]
    assert "nothing" in bias(schemas.BIAS.empty()).get_suptitle()


def test_the_picture_of_a_training_begins_with_the_loss_and_fits_a_screen() -> None:
    names = ["entropy", "grad_norm", "loss", *(f"logits/{i}" for i in range(10))]
    history = pl.concat(HISTORY.with_columns(metric=pl.lit(name)) for name in names)
    figure = training_curves(history)
    titles = [axes.get_title("left") for axes in figure.axes if axes.get_visible()]
    assert titles[:2] == ["loss", "grad_norm"]
    assert sorted(titles) == sorted(names)
    width, height = figure.get_size_inches() * figure.dpi
    assert width <= 1920
    assert height <= 1000


def test_no_line_of_lineage_runs_through_a_box_and_no_text_out_of_one() -> None:
    def run(name: str, *inputs: Origin) -> Made:
        out = Datum(f"data/a/rather/long/folder/of/many/letters/{name}.parquet", f"{name}abcdef")
        return Made(StageRun(name, name, "s", 0, {}, {}, {}, (), (out,)), list(inputs))

    def out_of(*made: Made) -> Origin:
        return Origin(made[0].run.outs[0], list(made))

    source = Origin(Datum("prompts.jsonl", "f" * 32))
    first = run("first", source)
    second = run("second", out_of(first), Origin(source.datum, seen=True))
    third = run(
        "third", out_of(second), Origin(first.run.outs[0], seen=True), Origin(source.datum, seen=True)
    )
    figure = draw(Lineage("third", out_of(third)))
    axes = figure.axes[0]
    figure.canvas.draw()
    boxes = [patch.get_window_extent() for patch in axes.patches]
    assert len(boxes) == 4
    for line in axes.lines:
        ends = axes.transData.transform(np.column_stack(line.get_data()))
        along = np.linspace(ends[:-1], ends[1:], 50).reshape(-1, 2)
        assert not [box for box in boxes for x, y in along if box.shrunk(0.9, 0.9).contains(x, y)]
    for box, text in zip(boxes, axes.texts[-4:], strict=True):
        assert box.x0 <= text.get_window_extent().x0
        assert text.get_window_extent().x1 <= box.x1


def test_a_missing_score_is_called_missing() -> None:
    texts = [text.get_text() for axes in pictures.competence_profiles(SCORES).axes for text in axes.texts]
    assert texts == ["0.50", "0.70", "missing", "missing"]


def test_pyplot_stays_out() -> None:
    assert "matplotlib.pyplot" not in sys.modules or sys.modules["matplotlib.pyplot"].get_fignums() == []
