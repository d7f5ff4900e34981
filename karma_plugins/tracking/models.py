"""Models in MLflow: weights that a stage made, linked to the data that they were trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mlflow.entities import LoggedModel, LoggedModelInput, LoggedModelOutput, Metric, Run
from mlflow.tracking._tracking_service.utils import _use_tracking_uri

from karma_plugins.tracking.data import Data
from karma_plugins.tracking.record import Record
from karma_plugins.tracking.store import Store, short

#: The tag in which MLflow's model page looks for the versions of a logged model.
VERSIONS = "mlflow.modelVersions"


def log_models(
    store: Store, run_id: str, parent: str, record: Record, final: Sequence[Metric]
) -> list[Metric]:
    """Link the run to models that it made or read, and its pipeline's run (`parent`) to those that it made.

    Gives the run's final metrics as those of the models.
    """
    data = {dataset.path: dataset for dataset in record.datasets}
    of_models: list[tuple[str, str | None, str | None]] = []
    for model in record.models:
        made, pairs = data[model.path], data[model.trained_on]
        model_id = _log_model(store, run_id, record, model.name, made, pairs)
        for target in (run_id, parent):
            link(store, target, model_id)
        if model.register:
            _register(store, model.register, model_id, run_id, made)
        of_models += [(model_id, pairs.name, pairs.digest)]
    inputs = [data.digest for data in record.datasets if data.context == "input"]
    read = [
        model.model_id for digest in inputs for model in _models(store, f"tags.`dvc.md5` = '{digest}'")[:1]
    ]
    store.client.log_inputs(run_id, models=[LoggedModelInput(model_id) for model_id in read])
    of_models += [(model_id, None, None) for model_id in read]
    return [Metric(m.key, m.value, m.timestamp, 0, *model) for m in final for model in of_models]


def _log_model(store: Store, run_id: str, record: Record, name: str, made: Data, pairs: Data) -> str:
    """The logged model of a folder of weights: its bytes stay in DVC, its tags say where."""
    if found := _models(store, f"source_run_id = '{run_id}' AND name = '{name}'"):
        return str(found[0].model_id)
    tags = {"dvc.path": made.path, "dvc.md5": made.digest, f"data.{pairs.name}": pairs.digest}
    tags |= {key: value for key, value in record.tags.items() if key.startswith("mlflow.source.git.")}
    params = short(record.params)
    model_id = str(store.client.create_logged_model(store.experiment, name, run_id, tags, params).model_id)
    store.client.finalize_logged_model(model_id, "READY")
    return model_id


def made_by(run: Run) -> list[str]:
    """Ids of the models that are outputs of the run."""
    return [output.model_id for output in run.outputs.model_outputs] if run.outputs else []


def link(store: Store, run_id: str, model_id: str) -> None:
    """Show the model as an output of the run, once."""
    if model_id not in made_by(store.client.get_run(run_id)):
        store.client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])


def _register(store: Store, name: str, model_id: str, run_id: str, weights: Data) -> None:
    """A version of a registered model; the same weights get one version, however often they are restored."""
    # The registry looks for the logged model in the process's store: another one in an experiment's copy.
    with store.lock, _use_tracking_uri(store.client.tracking_uri):
        if not store.client.search_registered_models(f"name = '{name}'"):
            store.client.create_registered_model(name)
        for known in store.client.search_model_versions(f"name = '{name}'"):
            if known.tags.get("dvc.md5") == weights.digest:
                return
        tags = {"dvc.path": weights.path, "dvc.md5": weights.digest}
        made = store.client.create_model_version(
            name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id
        )
        before = json.loads(store.client.get_logged_model(model_id).tags.get(VERSIONS, "[]"))
        listed = json.dumps([*before, {"name": name, "version": str(made.version)}])
        store.client.set_logged_model_tags(model_id, {VERSIONS: listed})


def _models(store: Store, condition: str) -> list[LoggedModel]:
    return list(store.client.search_logged_models([store.experiment], condition))
