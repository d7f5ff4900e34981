"""What a person means by a word: a model, a run, a digest or a path, as a place in the graph of lineage."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlflow.exceptions import MlflowException

from karma_plugins import lineage
from karma_plugins.lineage import Datum, Graph, StageRun
from karma_plugins.tracking.access import TrackingError
from karma_plugins.tracking.store import Store

#: A run id or a digest, or at least so much of it that it is no ordinary word.
HEX: Final = re.compile(r"[0-9a-f]{6,32}(\.dir)?")
#: So many candidates are named where a word fits several.
NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of data or a stage run; `state` is that of the pipeline run to look at, if known."""

    place: Datum | StageRun
    state: str | None = None


def find(store: Store, graph: Graph, what: str, root: Path) -> Found:
    """The place of `what`: `name/version`, `name@alias`, `name`, a model's, run's or data's id, or a path.

    Raises TrackingError where nothing or several things fit.
    """
    word = what.removeprefix("models:/")
    if word.startswith("m-"):
        return _model(graph, word)
    if HEX.fullmatch(word) and (place := _by_hash(store, graph, word)):
        return place
    if place := _by_path(graph, what, root):
        return place
    if place := _registered(store, graph, word):
        return place
    raise TrackingError(
        f"{what}: no model, run, digest or path that MLflow knows. Name a registered model (`name/1`), a run "
        "id, a hash in dvc.lock or a path; `karma sync` tells MLflow what dvc.lock holds."
    )


def _model(graph: Graph, model_id: str) -> Found:
    for model in graph.models:
        if model.id == model_id:
            runs = {run.id: run for run in graph.runs}
            maker = runs.get(model.run_id)
            return Found(model.weights, state=maker.state if maker else None)
    raise TrackingError(f"{model_id}: no model of this experiment whose weights lie in DVC.")


def _by_hash(store: Store, graph: Graph, word: str) -> Found | None:
    runs = [run for run in graph.runs if run.id.startswith(word)]
    data = sorted(datum for datum in graph.data if datum.digest.startswith(word))
    if len({run.id for run in runs} | {datum.digest for datum in data}) > 1:
        names = [f"run {run.id} ({run.name})" for run in runs] + [f"{d.digest} ({d.path})" for d in data]
        raise TrackingError(f"{word} fits several: {', '.join(names[:NAMED])}. Name more of it.")
    if runs:
        return Found(runs[0])
    if data:
        return Found(data[0])
    return _pipeline(store, graph, word) if len(word) == len("0" * 32) else None


def _pipeline(store: Store, graph: Graph, run_id: str) -> Found | None:
    """The model that a pipeline run made."""
    try:
        state = store.client.get_run(run_id).data.tags.get("karma.pipeline")
    except MlflowException:
        return None
    runs = [run for run in graph.runs if run.state == state]
    models = graph.models_of(runs)
    if len(models) == 1:
        return Found(models[0].weights, state=state)
    names = ", ".join(f"{run.name} {run.id[:8]}" for run in runs)
    raise TrackingError(
        f"{run_id} is a pipeline run with {len(models)} models. Name one of its runs: {names}."
    )


def _by_path(graph: Graph, what: str, root: Path) -> Found | None:
    """The data at a path, or in the folder around it that a stage read or wrote, as it is now or was last."""
    path = Path(os.path.relpath(Path(what).absolute(), root)).as_posix()
    if path.startswith(".."):
        return None
    for place in (path, *(parent.as_posix() for parent in Path(path).parents)):
        here = root / place
        known = [run for run in graph.runs for datum in (*run.inputs, *run.outs) if datum.path == place]
        if not known:
            continue
        last = known[-1]
        now = lineage.known_hash(here) if here.exists() else _in_lock(root, place)
        if now is None:
            return Found(next(d for d in (*last.outs, *last.inputs) if d.path == place), state=last.state)
        if Datum(place, now) in graph.data:
            return Found(Datum(place, now))
        raise TrackingError(
            f"{what}: MLflow knows no run that read or wrote it as it is now ({now}). Run `karma sync`, or "
            "`dvc repro` where the file was changed by hand."
        )
    return None


def _in_lock(root: Path, path: str) -> str | None:
    for pipeline in lineage.locked(root):
        for stage in pipeline.stages:
            for data in (*stage.outs, *stage.deps):
                if data.path == path:
                    return data.digest
    return None


def _registered(store: Store, graph: Graph, word: str) -> Found | None:
    """A version of a registered model: `name/2`, `name@champion`, or the newest of `name`."""
    client, (name, _, alias) = store.client, word.partition("@")
    try:
        if alias:
            version: Any = client.get_model_version_by_alias(name, alias)
        elif match := re.fullmatch(r"(.+)/(\d+)", word):
            version = client.get_model_version(match[1], match[2])
        else:
            versions = client.search_model_versions(f"name = '{word}'")
            version = max(versions, key=lambda v: int(v.version), default=None)
    except MlflowException:
        return None
    if version is None:
        return None
    if version.source.startswith("models:/m-"):
        return _model(graph, version.source.removeprefix("models:/"))
    raise TrackingError(f"{word}: its weights do not lie in DVC, so its lineage is not known.")
