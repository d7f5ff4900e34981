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

from karma_plugins.curriculum.pictures import difficulty
from karma_plugins.kinship import pictures
from karma_plugins.lineage.graph import Datum, Made, Origin, StageRun
from karma_plugins.lineage.picture import draw
from karma_plugins.lineage.tree import Lineage
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
