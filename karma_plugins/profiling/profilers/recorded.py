"""Profiler `recorded`: scores (and items, where there are any) that were measured elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from karma_plugins.contracts import Model, Options, Profile, Profiler, hookimpl
from karma_plugins.errors import ModelError, TableError
from karma_plugins.models import Recorded
from karma_plugins.schemas import ITEMS, SCORES, Schema
from karma_plugins.tables import read

#: What a score is called that nobody measured.
UNMEASURED = "unmeasured"


@hookimpl
def karma_register_profilers() -> Sequence[Profiler]:
    """Register this profiler."""
    return [Profiler(name="recorded", profile=profile)]


def profile(model: Model, tasks: Mapping[str, Sequence[str]], options: Options) -> Profile:
    """scores.parquet and items.parquet of the model's folder, as they are.

    With `tasks`, those tasks alone, in the competency that names them; one that was not measured is a row
    whose score is null. Raises TableError where a score is not in [0,1] or is another model's.
    """
    if not isinstance(model.source, Recorded):
        raise ModelError(
            f"models.{model.name}: profiler 'recorded' needs a folder of recorded answers or scores, found "
            f"'{model.path}'. Name another profiler."
        )
    scores = _read(model.source.scores, SCORES, model, "score")
    items = _read(model.source.items, ITEMS, model, "correct")
    if not tasks:
        return Profile(scores, items)
    wanted = pl.DataFrame(
        [(competency, task) for competency, names in sorted(tasks.items()) for task in sorted(set(names))],
        schema={"competency": pl.String, "task": pl.String},
        orient="row",
    )
    measured = wanted.join(scores.drop("competency"), on="task", how="left").with_columns(
        pl.col("model").fill_null(model.name), pl.col("metric").fill_null(UNMEASURED)
    )
    return Profile(
        measured.select(SCORES.columns.names()),
        items.drop("competency").join(wanted, on="task", how="inner").select(ITEMS.columns.names()),
    )


def _read(path: Path | None, schema: Schema, model: Model, value: str) -> pl.DataFrame:
    if path is None:
        return schema.empty()
    frame = read(path, schema)
    other = frame.filter(pl.col("model") != model.name)
    if other.height:
        raise TableError(
            f"{path}: holds rows of model '{other['model'][0]}', not '{model.name}'. Call the model so in "
            "section 'models', or keep them in a folder of their own."
        )
    wrong = frame.filter(~pl.col(value).is_between(0, 1))
    if wrong.height:
        raise TableError(
            f"{path}: {value} {wrong[value][0]} of task '{wrong['task'][0]}' is not in [0,1]. Rescale it."
        )
    return frame
