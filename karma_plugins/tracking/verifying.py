"""Whether MLflow's runs say the same as dvc.lock."""

from __future__ import annotations

from collections.abc import Sequence

from karma_plugins.lineage import LockedPipeline
from karma_plugins.lineage.verifying import Difference
from karma_plugins.tracking import history
from karma_plugins.tracking.store import Store


def differences(store: Store, pipelines: Sequence[LockedPipeline]) -> list[Difference]:
    """Stage runs of these states that are missing or hold other hashes, and models of other weights."""
    graph = history.graph(store)
    found: list[Difference] = []
    for pipeline in pipelines:
        runs = {run.name: run for run in graph.runs if run.state == pipeline.pipeline.state}
        for stage in pipeline.stages:
            if not stage.current:
                continue
            if stage.name not in runs:
                found.append(Difference(stage.name, "mlflow", "no run of this state; `karma sync` makes one"))
                continue
            run = runs[stage.name]
            claimed = {data.path: data.md5 for data in (*stage.deps, *stage.outs)}
            for datum in (*run.inputs, *run.outs):
                if claimed.get(datum.path, datum.digest) != datum.digest:
                    told = (
                        f"run {run.id} ({run.name}) says {datum.digest}, dvc.lock says {claimed[datum.path]}"
                    )
                    found.append(Difference(datum.path, "mlflow", told))
            for model in graph.models_of([run]):
                if claimed.get(model.weights.path) != model.weights.digest:
                    told = f"model {model.id} says {model.weights.digest}, dvc.lock says otherwise"
                    found.append(Difference(model.weights.path, "mlflow", told))
    return found
