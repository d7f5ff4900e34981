"""Whether MLflow's runs say the same as dvc.lock."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow.entities import ViewType

from karma_plugins.lineage import Graph, LockedPipeline, LockedStage, StageRun
from karma_plugins.lineage.hashing import shortened
from karma_plugins.lineage.verifying import Difference
from karma_plugins.tracking import history
from karma_plugins.tracking.store import Store


def differences(store: Store, pipelines: Sequence[LockedPipeline]) -> tuple[list[Difference], list[str]]:
    """Stage runs of these states that are missing or hold other hashes, and models of other weights.

    A run that is missing is a difference where MLflow was told of the stage once, or of its whole pipeline,
    or where no stage of a project's own pipeline has a run of this state. Stages that it was never told of
    are named apart; among them are those that never say anything by themselves.
    """
    graph = history.graph(store)
    known = {run.name for run in graph.runs} | deleted(store)
    all_differences: list[Difference] = []
    untold: list[str] = []
    for pipeline in pipelines:
        runs = {run.name: run for run in graph.runs if run.state == pipeline.pipeline.state}
        synced = any(run.tags.get("karma.from") == "dvc.lock" for run in runs.values())
        for stage in pipeline.stages:
            if not stage.current:
                continue
            if stage.name in runs:
                all_differences += _of_run(graph, runs[stage.name], stage)
            elif synced or stage.name in known or (stage.code and not runs):
                all_differences.append(
                    Difference(stage.name, "mlflow", "no run of this state; `karma sync` makes one")
                )
            else:
                untold.append(stage.name)
    return all_differences, untold


def deleted(store: Store) -> set[str]:
    """Names of the stages whose runs were deleted."""
    wanted = "tags.`karma.role` = 'stage'"
    runs = store.client.search_runs([store.experiment], wanted, run_view_type=ViewType.DELETED_ONLY)
    return {str(run.info.run_name) for run in runs}


def _of_run(graph: Graph, run: StageRun, stage: LockedStage) -> list[Difference]:
    lines = []
    claimed = {data.path: shortened(data.digest) for data in (*stage.deps, *stage.outs)}
    for datum in (*run.inputs, *run.outs):
        if claimed.get(datum.path, datum.digest) != datum.digest:
            difference = f"run {run.id} ({run.name}) says {datum.digest}, dvc.lock says {claimed[datum.path]}"
            lines.append(Difference(datum.path, "mlflow", difference))
    for model in graph.models_of([run]):
        if claimed.get(model.weights.path) != model.weights.digest:
            difference = f"model {model.id} says {model.weights.digest}, dvc.lock says otherwise"
            lines.append(Difference(model.weights.path, "mlflow", difference))
    return lines
