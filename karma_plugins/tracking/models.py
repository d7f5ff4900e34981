"""Models in MLflow: weights that a stage made, linked to the data that they were trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from mlflow.entities import LoggedModelInput, LoggedModelOutput, Metric, Run
from mlflow.tracking._tracking_service.utils import _use_tracking_uri

from karma_plugins.tracking import names
from karma_plugins.tracking.data import Data
from karma_plugins.tracking.record import Model, Record
from karma_plugins.tracking.store import Known, Store

#: The tag in which MLflow's model page looks for the versions of a logged model.
VERSIONS = "mlflow.modelVersions"
#: Aliases that MLflow keeps for itself.
RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)


def log_made(store: Store, run_id: str, parent: str, record: Record, final: Sequence[Metric]) -> list[Metric]:
    """Make the logged models of a record and link them to its run and its pipeline's run (`parent`).

    Gives the run's final metrics as those of the models.
    """
    data = {dataset.path: dataset for dataset in record.datasets}
    of_models: list[Metric] = []
    for model in record.models:
        weights, source = data[model.path], data.get(model.trained_on or "")
        model_id = _log_model(store, run_id, record, model, weights, source)
        for target in dict.fromkeys((run_id, parent)):
            link(store, target, model_id)
        metric_source = (model_id, source.path, source.short_digest) if source else (model_id, None, None)
        of_models += [Metric(m.key, m.value, m.timestamp, m.step, *metric_source) for m in final]
    return of_models


def register_made(store: Store, run_id: str, record: Record) -> None:
    """Register the models of a record that have a name in the registry; they are logged already."""
    data = {dataset.path: dataset for dataset in record.datasets}
    for model in record.models:
        weights = data[model.path]
        if model.register and (model_id := _logged(store, run_id, weights)):
            _register(store, model, model_id, run_id, weights, record)


def log_read(store: Store, run_id: str, record: Record, final: Sequence[Metric]) -> None:
    """Link a run to the models that it read, each of which gets the run's final metrics, too."""
    known = store.models()
    inputs = [data for data in record.datasets if data.context == "input" and data.digest in known]
    of_others = [
        [model for model in known[data.digest] if model.run_id != run_id]  # a copy of it may be its own
        for data in inputs
    ]
    read = [
        _nearest(models, data.path, record.state).id
        for data, models in zip(inputs, of_others, strict=True)
        if models
    ]
    read = list(dict.fromkeys(read))
    if read:
        store.client.log_inputs(run_id, models=[LoggedModelInput(model_id) for model_id in read])
        store.log_metrics(
            run_id,
            [Metric(m.key, m.value, m.timestamp, m.step, model_id) for m in final for model_id in read],
        )


def _nearest(models: Sequence[Known], path: str, state: str) -> Known:
    """Of models of the same weights one at that path, then one of the same pipeline state, else the first."""
    return min(models, key=lambda model: (model.tags.get("dvc.path") != path, model.state != state))


def _log_model(
    store: Store, run_id: str, record: Record, model: Model, weights: Data, source: Data | None
) -> str:
    """The logged model of weights: their bytes stay in DVC, its tags say where."""
    if known := _logged(store, run_id, weights):
        return known
    tags = {"dvc.path": weights.path, "dvc.md5": weights.digest, "karma.state": record.state}
    tags |= {"karma.name": model.name, **model.tags}
    tags |= {"dvc.trained_on": source.path, f"data.{source.path}": source.digest} if source else {}
    tags |= {key: value for key, value in record.tags.items() if key.startswith("mlflow.source.git.")}
    tags = {names.allowed(key): names.tag(value) for key, value in tags.items()}
    params = {names.allowed(key): names.param(value) for key, value in record.params.items()}
    name = names.plain(model.name)
    logged = store.client.create_logged_model(store.experiment, name, run_id, tags, params)
    store.client.finalize_logged_model(logged.model_id, "READY")
    store.learn(tags, logged.model_id, name, run_id, logged.creation_timestamp)
    return str(logged.model_id)


def _logged(store: Store, run_id: str, weights: Data) -> str | None:
    """The id of the logged model that a run has of these weights."""
    for known in store.models().get(weights.digest, []):
        if known.run_id == run_id and known.tags.get("dvc.path") == weights.path:
            return known.id
    return None


def made_by(run: Run) -> list[str]:
    """Ids of the models that are outputs of the run."""
    return [output.model_id for output in run.outputs.model_outputs] if run.outputs else []


def link(store: Store, run_id: str, model_id: str) -> None:
    """Show the model as an output of the run, once."""
    if model_id not in made_by(store.client.get_run(run_id)):
        store.client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])


def _register(store: Store, model: Model, model_id: str, run_id: str, weights: Data, record: Record) -> None:
    """A version of a registered model; the same weights get one version, however often they are restored.

    The model's aliases lead to the version of the newest commit that has them.
    """
    client, name = store.client, names.registered(model.register or "")
    # The registry looks for the logged model in the process's store: another one in an experiment's copy.
    with store.lock, _use_tracking_uri(store.client.tracking_uri):
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        versions = list(client.search_model_versions(f"name = '{name}'"))
        version = next((known for known in versions if known.tags.get("dvc.md5") == weights.digest), None)
        if version is None:
            tags = {"dvc.path": weights.path, "dvc.md5": weights.digest, "karma.at": str(record.started)}
            version = client.create_model_version(
                name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id
            )
            _show_version(store, model_id, name, str(version.version))
        for label in model.aliases:
            _alias(store, name, label, version, record)


def _show_version(store: Store, model_id: str, name: str, version: str) -> None:
    before = json.loads(store.client.get_logged_model(model_id).tags.get(VERSIONS, "[]"))
    if not any(known["name"] == name and str(known["version"]) == version for known in before):
        listed = json.dumps([*before, {"name": name, "version": version}])
        store.client.set_logged_model_tags(model_id, {VERSIONS: listed})


def _alias(store: Store, name: str, label: str, version: object, record: Record) -> None:
    """Have an alias lead to a version, where no newer commit's version has it."""
    alias = re.sub(r"[^\w\-]", "-", label)
    alias = f"label-{alias}" if RESERVED.fullmatch(alias) else alias
    number = str(getattr(version, "version", ""))
    key, stamp = f"karma.alias.{alias}", str(record.started)
    known = store.client.get_registered_model(name)
    since = str(known.tags.get(key, ""))
    if since and int(since) > record.started:
        return
    if str(known.aliases.get(alias, "")) != number:
        store.client.set_registered_model_alias(name, alias, number)
    if since != stamp:
        store.client.set_registered_model_tag(name, key, stamp)
