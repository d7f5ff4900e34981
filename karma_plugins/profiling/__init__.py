"""Profiling: what a model can do, as scores by competency and outcomes by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from karma_plugins import models
from karma_plugins.contracts import Model, Piece, Profile, Profiler, Shards
from karma_plugins.errors import KarmaError, ParamsError, PluginError, TableError, not_installed
from karma_plugins.registry import Bound, lock
from karma_plugins.runtime.progress import progress
from karma_plugins.runtime.shards import NoShards, key
from karma_plugins.schemas import ITEMS, SCORES, Schema
from karma_plugins.tables import check

TABLES = {"scores": SCORES, "items": ITEMS}


def profile(
    model: Model,
    profiler: Bound[Profiler],
    tasks: Mapping[str, Sequence[str]],
    *,
    shards: Shards | None = None,
) -> Profile:
    """Measure a model by the tasks of each competency; returns tables `scores` and `items`.

    Weights are measured task by task, each a piece of work that `shards` may keep; a server, or what was
    recorded, is asked for all of them at once. Raises ParamsError where a competency names no task or two
    competencies name the same one, PluginError where the profiler breaks its contract.
    """
    for competency, names in tasks.items():
        if not names:
            raise ParamsError(
                f"params.yaml, profile.tasks: competency '{competency}' has no task. Name one or remove it."
            )
    if isinstance(model.source, models.Weights) and tasks:
        pieces = _pieces(model, profiler, tasks)
        keeper = NoShards() if shards is None else shards
        frames = []
        with progress(f"profile {model.name}", len(pieces)) as advance:
            for frame in keeper.run(pieces):
                frames.append(frame)
                advance(1)
    else:
        frames = [measured(model, profiler, tasks)]
    scores, items = (
        pl.concat([frame.filter(pl.col("table") == name).select(schema.columns.names()) for frame in frames])
        .unique(schema.key, maintain_order=True)  # a task that is named by itself and in a group
        .sort(schema.key)
        for name, schema in TABLES.items()
    )
    _check_homes(scores)
    missing = sorted(set(tasks) - set(scores["competency"].to_list()))
    if missing:
        raise PluginError(
            f"{_who(model, profiler)}: no score for competency '{missing[0]}'. Upgrade or report the plugin."
        )
    return Profile(scores, items)


def measured(model: Model, profiler: Bound[Profiler], tasks: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """What the profiler says of some tasks, checked: the rows of both tables, column `table` saying whose."""
    who = _who(model, profiler)
    try:
        profile = profiler.plugin.profile(model, tasks, profiler.options)
    except KarmaError:
        raise
    except Exception as error:
        if isinstance(error, ImportError) and (profiled := not_installed(error, who)):
            raise profiled from error
        raise PluginError(
            f"{who} failed with {type(error).__name__}: {error}. KARMA_DEBUG=1 shows where."
        ) from error
    scores = _checked(profile.scores, SCORES, who, model, "score")
    items = _checked(profile.items, ITEMS, who, model, "correct")
    parts = [scores.with_columns(table=pl.lit("scores")), items.with_columns(table=pl.lit("items"))]
    return pl.concat(parts, how="diagonal")


def _pieces(model: Model, profiler: Bound[Profiler], tasks: Mapping[str, Sequence[str]]) -> list[Piece]:
    """The work in pieces, one for each task."""
    code = lock.plugin_digest(profiler.plugin, profiler.origin)
    paths = [*models.files(model), *profiler.files]
    basis = (
        profiler.plugin.name, profiler.version, code, profiler.options.model_dump_json(), model.name,
        *map(models.fingerprint, paths),
    )  # fmt: skip
    return [
        Piece(
            key(*basis, competency, task),
            measured,
            (model, profiler, {competency: [task]}),
            f"profile {model.name}, task {task}",
        )
        for competency, names in sorted(tasks.items())
        for task in sorted(set(names))
    ]


def _check_homes(scores: pl.DataFrame) -> None:
    """Raise ParamsError where a task counts in two competencies."""
    homes = scores.group_by("task").agg(pl.col("competency").unique().sort()).sort("task")
    for task, competencies in homes.filter(pl.col("competency").list.len() > 1).iter_rows():
        raise ParamsError(
            f"params.yaml, profile.tasks: task '{task}' is in '{competencies[0]}' and in "
            f"'{competencies[1]}'. Keep it in one."
        )


def _who(model: Model, profiler: Bound[Profiler]) -> str:
    return f"profiler '{profiler.plugin.name}' ({profiler.origin}), models.{model.name}"


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
