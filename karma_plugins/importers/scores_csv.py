"""A CSV of scores: a row for each model and a column for each benchmark, or a row for each score."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from karma_plugins.errors import TableError
from karma_plugins.importers.recorded_profiles import Profiles
from karma_plugins.schemas import SCORES

MODEL_COLUMNS = ("model", "Model", "model_name", "name")
LONG = ("model", "task", "score")
METRIC = "score"

RULES = (
    "scores: a benchmark with all scores in [0,1] is taken as it is, one with scores up to 100 as percent",
    "scores: a benchmark with a score below 0 or above 100 is on no scale that can be told, and left out",
    "scores: an empty cell is a null, a cell that is no number too",
    "scores: a column of whose filled cells fewer than half are numbers is no benchmark and ignored",
)


def read(frame: pl.DataFrame, path: Path) -> Profiles:
    """Table scores; a benchmark is its own competency where no column `competency` says another."""
    counts: Counter[str] = Counter()
    long = _long(frame, path) if all(c in frame.columns for c in LONG) else _wide(frame, path, counts)
    number = pl.col("text").cast(pl.Float64, strict=False)
    number = pl.when(number.is_finite()).then(number)
    cells = long.with_columns(score=number)
    counts["scores_unreadable"] = cells.filter(
        pl.col("text").is_not_null() & pl.col("score").is_null()
    ).height
    extremes = cells.group_by("task", maintain_order=True).agg(
        low=pl.col("score").min(),
        high=pl.col("score").max(),
        small=((pl.col("score") > 0) & (pl.col("score") <= 1)).sum(),
    )
    off = (pl.col("low") < 0) | (pl.col("high") > 100)
    percent = pl.col("high") > 1
    counts["benchmarks_on_no_known_scale"] = extremes.filter(off).height
    extremes = extremes.filter(~off.fill_null(value=False))
    counts["benchmarks_in_percent"] = extremes.filter(percent).height
    counts["percent_scores_of_at_most_1"] = int(extremes.filter(percent)["small"].sum())
    scores = cells.join(extremes, on="task").with_columns(
        pl.when(percent).then(pl.col(c) / 100).otherwise(c).alias(c) for c in ("score", "stderr")
    )
    counts["models"], counts["benchmarks"] = scores["model"].n_unique(), scores["task"].n_unique()
    counts["scores"], counts["scores_missing"] = scores["score"].count(), scores["score"].null_count()
    return Profiles(scores=scores.select(SCORES.columns.names()), rules=RULES, counts=counts)


def _long(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    for column in ("model", "task"):
        if frame[column].null_count():
            row = int(frame[column].is_null().arg_max() or 0) + 2
            raise TableError(f"{path}, row {row}: column '{column}' is empty.")
    given = {c: pl.col(c) if c in frame.columns else pl.lit(None, pl.String) for c in SCORES.columns}
    return frame.select(
        "model",
        "task",
        competency=given["competency"].fill_null(pl.col("task")),
        metric=given["metric"].fill_null(METRIC),
        text="score",
        stderr=given["stderr"].cast(pl.Float64, strict=False),
        n=given["n"].cast(pl.Int64, strict=False),
    )


def _wide(frame: pl.DataFrame, path: Path, counts: Counter[str]) -> pl.DataFrame:
    key = next((c for c in MODEL_COLUMNS if c in frame.columns), None)
    if key is None:
        raise TableError(
            f"{path}: no column of models ({', '.join(MODEL_COLUMNS)}) for scores, no columns question_id "
            f"and answer for choices. Found: {', '.join(frame.columns)}."
        )
    if frame[key].null_count():
        raise TableError(
            f"{path}, row {int(frame[key].is_null().arg_max() or 0) + 2}: column '{key}' is empty."
        )
    if frame[key].is_duplicated().any():
        twice = frame[key].filter(frame[key].is_duplicated())[0]
        raise TableError(f"{path}: model '{twice}' is there twice. Remove one.")
    numbers = frame.select(pl.all().cast(pl.Float64, strict=False).count())
    benchmarks = [c for c in frame.columns if c != key and 0 < frame[c].count() <= 2 * numbers[c][0]]
    if not benchmarks:
        raise TableError(f"{path}: no column holds numbers; benchmarks are columns.")
    counts["columns_ignored"] = len(frame.columns) - 1 - len(benchmarks)
    return frame.unpivot(benchmarks, index=key, variable_name="task", value_name="text").select(
        "task",
        "text",
        model=key,
        competency="task",
        metric=pl.lit(METRIC),
        stderr=pl.lit(None, pl.Float64),
        n=pl.lit(None, pl.Int64),
    )
