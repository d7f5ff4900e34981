"""A finished record in MLflow: its metrics, datasets, models and pictures, on its run and its pipeline's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from mlflow.entities import DatasetInput, InputTag, Metric

from karma_plugins.tracking import names
from karma_plugins.tracking.data import Data
from karma_plugins.tracking.models import log_made, log_read, register_made
from karma_plugins.tracking.points import Point
from karma_plugins.tracking.record import Record
from karma_plugins.tracking.sources import DvcDataset
from karma_plugins.tracking.store import PARAMS, Store, entities_of


def log(
    store: Store, record: Record, points: Sequence[Point], artifacts: Path, every: Sequence[Point] = ()
) -> str:
    """Bring MLflow to hold a finished record; gives the id of its run.

    `every` are all points that the run reported, where MLflow holds all but `points` already.
    """
    run_id = store.begin(record)
    parent = str(store.client.get_run(run_id).data.tags["mlflow.parentRunId"])
    final = log_stage(store, run_id, parent, record, points, every)
    log_files(store, run_id, record, artifacts)
    log_read(store, run_id, record, final)
    store.log_tags(run_id, _tags([record]))
    log_pipeline(store, parent, [record], [artifacts])
    store.end(run_id, "FINISHED", record.ended)
    return run_id


def log_stage(
    store: Store,
    run_id: str,
    parent: str,
    record: Record,
    points: Sequence[Point],
    every: Sequence[Point] = (),
    *,
    params: bool = False,
) -> list[Metric]:
    """What a record holds, on its run, but for tags, files, models that it read, and its end; final metrics.

    Params only where `params` is true: else they are there.
    """
    store.log_points(run_id, points)
    final = _final(record, every or points)
    of_models = log_made(store, run_id, parent, record, final)
    entities = entities_of(record.params) if params else []
    first = entities[:PARAMS] if len(final) < PARAMS else []
    store.client.log_batch(run_id, metrics=final[:PARAMS], params=first)
    for start in range(len(first), len(entities), PARAMS):
        store.client.log_batch(run_id, params=entities[start : start + PARAMS])
    store.log_metrics(run_id, final[PARAMS:])
    store.log_metrics(run_id, of_models)
    _log_datasets(store, run_id, [record])
    return final


def log_files(store: Store, run_id: str, record: Record, artifacts: Path) -> None:
    """The files of a record, and its models in the registry: what no transaction holds."""
    if artifacts.is_dir():
        store.client.log_artifacts(run_id, str(artifacts))
    _long_params(store, run_id, record.params)
    register_made(store, run_id, record)


def log_pipeline(store: Store, parent: str, records: Sequence[Record], artifacts: Iterable[Path]) -> None:
    """What stages of a pipeline hold, on the pipeline's run."""
    store.together(partial(_log_pipeline, store, parent, records))
    for folder in artifacts:
        if folder.is_dir():
            store.client.log_artifacts(parent, str(folder))
    if records:
        _long_params(store, parent, records[0].pipeline_params)


def _log_pipeline(store: Store, parent: str, records: Sequence[Record]) -> None:
    metrics = {}
    for record in records:
        at = record.ended or record.started
        for key, value in record.metrics.items():
            shown = names.allowed(of_pipeline(record.name, key))
            metrics[shown] = Metric(shown, value, at, 0)
    store.log_metrics(parent, list(metrics.values()))
    _log_datasets(store, parent, records)
    tags = _tags(records) | names.changed({of_pipeline(r.name, key): 0 for r in records for key in r.metrics})
    store.log_tags(parent, tags)


def of_pipeline(stage: str, key: str) -> str:
    """A stage's metric as its pipeline shows it; a stage of a name with dots keeps its @ before them."""
    if not stage:
        return key
    return f"{stage if '.' in stage else stage.replace('@', '.')}.{key}"


def _final(record: Record, points: Sequence[Point]) -> list[Metric]:
    """The final metrics, each at the last step that was reported of it, so that charts show it last.

    And later than that: of two values of one step and millisecond MLflow holds the greater for the last.
    """
    last: dict[str, tuple[int, int]] = {}
    for point in points:
        last[point.key] = max((point.step, point.at), last.get(point.key, (0, 0)))
    ended, metrics = record.ended or record.started, []
    for key, value in record.metrics.items():
        step, at = last.get(key, (0, 0))
        metrics.append(Metric(names.allowed(key), value, max(ended, at + 1), step))
    return metrics


def _tags(records: Sequence[Record]) -> dict[str, str]:
    tags = {f"data.{data.path}": data.short_digest[:8] for record in records for data in record.datasets}
    for record in records:
        tags |= names.changed({**record.params, **record.metrics})
    return tags


def _long_params(store: Store, run_id: str, params: dict[str, str]) -> None:
    """The whole of params that MLflow takes a part of alone."""
    whole = {key: value for key, value in params.items() if names.param(value) != value}
    if whole:
        store.client.log_text(run_id, json.dumps(whole, indent=1), "long_params.json")


def _log_datasets(store: Store, run_id: str, records: Sequence[Record]) -> None:
    """Datasets, tagged with what the source can't hold: who logs one first settles it for all."""
    inputs: dict[tuple[str, str], DatasetInput] = {}
    for record in records:
        sha = record.tags.get("mlflow.source.git.commit", "")
        for data in record.datasets:
            key = (data.path, data.short_digest)
            if key not in inputs or data.context == "output":
                inputs[key] = _input(data, sha)
    if inputs:
        with store.lock:  # two runs that log one new dataset at once would break its unique key
            for start in range(0, len(inputs), 500):
                some = list(inputs.values())[start : start + 500]
                store.client.log_inputs(run_id, datasets=some)


def _input(data: Data, sha: str) -> DatasetInput:
    tags = {"mlflow.data.context": data.context, "dvc.path": data.path, "git.commit": sha, **data.notes}
    tags |= {"dvc.hash": f"{data.hash_name} {data.digest}"} if data.hash_name != "md5" else {}
    return DatasetInput(
        DvcDataset(data)._to_mlflow_entity(),
        [InputTag(key, value[:500]) for key, value in tags.items() if value],
    )
