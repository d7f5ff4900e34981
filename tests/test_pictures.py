"""Pictures of tables: the same table gives the same bytes, and a table with gaps can be drawn."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import polars as pl
import pytest
from matplotlib.figure import Figure

from karma_plugins.curriculum.pictures import difficulty
from karma_plugins.kinship import pictures
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


def test_a_missing_score_is_called_missing() -> None:
    texts = [text.get_text() for axes in pictures.competence_profiles(SCORES).axes for text in axes.texts]
    assert texts == ["0.50", "0.70", "missing", "missing"]


def test_pyplot_stays_out() -> None:
    assert "matplotlib.pyplot" not in sys.modules or sys.modules["matplotlib.pyplot"].get_fignums() == []
