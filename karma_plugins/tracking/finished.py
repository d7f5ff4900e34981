"""A finished record in MLflow: its metrics, datasets, models and pictures, on its run and its pipeline's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlflow.entities import DatasetInput, InputTag, Metric, RunTag

from karma_plugins.tracking.models import log_models
from karma_plugins.tracking.record import Record
from karma_plugins.tracking.sources import DvcDataset
from karma_plugins.tracking.store import METRICS, Point, Store, allowed, chunks


def log(store: Store, record: Record, points: Iterable[Point], artifacts: Path) -> str:
    """Bring MLflow to hold a finished record; gives the id of its run."""
    run_id = store.begin(record)
    parent = store.client.get_run(run_id).data.tags["mlflow.parentRunId"]
    store.log_points(run_id, points)
    digests = {f"data.{dataset.name}": dataset.digest[:8] for dataset in record.datasets}
    at = record.ended or record.started
    for target in (run_id, parent):
        _log_datasets(store, target, record)
        store.client.log_batch(target, tags=[RunTag(allowed(k), value) for k, value in digests.items()])
    final = [Metric(allowed(key), value, at, 0) for key, value in record.metrics.items()]
    final_of_stage = [Metric(f"{record.name.replace('@', '.')}.{m.key}", m.value, at, 0) for m in final]
    for target, metrics in (
        (run_id, final + log_models(store, run_id, parent, record, final)),
        (parent, final_of_stage),
    ):
        for some in chunks(metrics, METRICS):
            store.client.log_batch(target, metrics=some)
    if artifacts.is_dir():
        store.client.log_artifacts(run_id, str(artifacts))
        store.client.log_artifacts(parent, str(artifacts))
    store.end(run_id, "FINISHED", record.ended)
    return run_id


def _log_datasets(store: Store, run_id: str, record: Record) -> None:
    """Datasets, tagged with what the source can't hold: who logs one first settles it for all."""
    sha = record.tags.get("mlflow.source.git.commit", "")
    inputs = []
    for data in record.datasets:
        tags = {"mlflow.data.context": data.context, "dvc.path": data.path, "git.commit": sha}
        inputs.append(
            DatasetInput(
                DvcDataset(data)._to_mlflow_entity(),
                [InputTag(key, value) for key, value in tags.items() if value],
            )
        )
    with store.lock:  # two runs that log one new dataset at once would break its unique key
        store.client.log_inputs(run_id, datasets=inputs)
