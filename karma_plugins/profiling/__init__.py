"""Profiling: what a model can do, as scores by competency and outcomes by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from karma_plugins.contracts import Model, Profile, Profiler
from karma_plugins.errors import KarmaError, ParamsError, PluginError, TableError, not_installed
from karma_plugins.registry import Bound
from karma_plugins.schemas import ITEMS, SCORES, Schema
from karma_plugins.tables import check


def profile(model: Model, profiler: Bound[Profiler], tasks: Mapping[str, Sequence[str]]) -> Profile:
    """Measure a model by the tasks of each competency; returns tables `scores` and `items`.

    Raises ParamsError where a competency names no task, PluginError where the profiler breaks its contract.
    """
    for competency, names in tasks.items():
        if not names:
            raise ParamsError(
                f"params.yaml, profile.tasks: competency '{competency}' has no task. Name one or remove it."
            )
    who = f"profiler '{profiler.plugin.name}' ({profiler.origin}), models.{model.name}"
    try:
        measured = profiler.plugin.profile(model, tasks, profiler.options)
    except KarmaError:
        raise
    except Exception as error:
        if isinstance(error, ImportError) and (told := not_installed(error, who)):
            raise told from error
        raise PluginError(
            f"{who} failed with {type(error).__name__}: {error}. KARMA_DEBUG=1 shows where."
        ) from error
    scores = _checked(measured.scores, SCORES, who, model, "score")
    items = _checked(measured.items, ITEMS, who, model, "correct")
    missing = sorted(set(tasks) - set(scores["competency"].to_list()))
    if missing:
        raise PluginError(f"{who}: no score for competency '{missing[0]}'. Upgrade or report the plugin.")
    return Profile(scores, items)


def competencies(scores: pl.DataFrame) -> dict[str, float]:
    """A model's mean score in each competency, every task counting alike; no score, no competency."""
    means = scores.sort(SCORES.key).group_by("competency", maintain_order=True).agg(pl.col("score").mean())
    return {name: score for name, score in means.iter_rows() if score is not None}


def _checked(frame: pl.DataFrame, schema: Schema, who: str, model: Model, value: str) -> pl.DataFrame:
    try:
        frame = check(frame, schema, where=who).sort(schema.key)
    except TableError as error:
        raise PluginError(f"{error} Upgrade or report the plugin.") from error
    wrong = frame.filter(~pl.col(value).is_between(0, 1))
    if wrong.height:
        raise PluginError(
            f"{who}: {value} {wrong[value][0]} of task '{wrong['task'][0]}' is not in [0,1]. "
            "Upgrade or report the plugin."
        )
    strangers = frame.filter(pl.col("model") != model.name)
    if strangers.height:
        raise PluginError(f"{who}: a row of model '{strangers['model'][0]}'. Upgrade or report the plugin.")
    return frame
