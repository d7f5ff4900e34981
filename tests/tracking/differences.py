"""Two MLflow databases compared: of tracked runs, and of a sync of what they left.

    python -m tests.tracking.differences ONE.db OTHER.db

prints each difference of runs, params, metrics, tags, datasets, models and links; times and ids are none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

#: Tags with times, ids, or what the process alone knows: who ran it and how, the commit then.
OF_THE_MOMENT: Final = (
    "karma.from", "runner.", "karma.uid", "karma.at", "karma.alias.", "karma.claim", "mlflow.user",
    "mlflow.parentRunId", "git.dirty", "mlflow.source.git.", "mlflow.runName", "mlflow.artifact",
    "mlflow.runColor", "mlflow.modelVersions",
)  # fmt: skip
#: Counts of the work that is done, on the way; what came of it is told by other metrics.
PROGRESS: Final = ("verdicts", "aligned.answers", "aligned.failed", "base.answers", "base.failed")
#: Files that only a process makes: pictures of what its tables hold, and the report's page.
AS_IT_RAN: Final = ("pictures/", "report.html")
Told = dict[str, dict[str, Any]]


def told(database: Path) -> Told:
    """What MLflow says: an entry for each stage run, pipeline run, logged model and registered model."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    models = {model.model_id: model for model in client.search_logged_models(experiments)}
    named = {
        key: (model.name, model.tags["dvc.path"], model.tags["dvc.md5"]) for key, model in models.items()
    }
    found: Told = {}
    for run in client.search_runs(experiments, max_results=5000):
        tags = run.data.tags
        own = "" if tags.get("karma.role") == "pipeline" else f" {run.info.run_name}"
        state = tags.get("karma.state", "")[:8]
        entry = found.setdefault(f"{tags.get('karma.role')} {state}{own}", {"how often": 0})
        entry["how often"] += 1
        entry["status"] = run.info.status
        entry |= {f"param {key}": value for key, value in run.data.params.items()}
        entry |= {f"metric {key}": value for key, value in run.data.metrics.items() if key not in PROGRESS}
        entry |= {f"tag {key}": value for key, value in tags.items() if not key.startswith(OF_THE_MOMENT)}
        for data in run.inputs.dataset_inputs:
            entry[f"dataset {data.dataset.name}"] = (
                data.dataset.digest, data.dataset.schema, data.dataset.profile,
                sorted((tag.key, tag.value) for tag in data.tags if tag.key != "git.commit"),
            )  # fmt: skip
        whole = client.get_run(run.info.run_id)  # a search tells no models that were read
        entry["models made"] = sorted(named[one.model_id] for one in whole.outputs.model_outputs)
        entry["models read"] = sorted(named[one.model_id] for one in whole.inputs.model_inputs)
        entry["plots"] = sorted(
            name for name in _files(client, run.info.run_id) if not name.startswith(AS_IT_RAN)
        )
    for model in models.values():
        tags = {key: value for key, value in model.tags.items() if not key.startswith(OF_THE_MOMENT)}
        metrics = sorted((one.key, one.value, one.dataset_name or "") for one in model.metrics or [])
        found[f"model {model.name} {tags['dvc.md5'][:8]}"] = {
            **tags, **{f"param {key}": value for key, value in model.params.items()}, "metrics": metrics,
        }  # fmt: skip
    for registered in client.search_registered_models():
        versions = client.search_model_versions(f"name = '{registered.name}'")
        found[f"registered {registered.name}"] = {
            "versions": sorted(version.tags["dvc.md5"] for version in versions),
            "aliases": dict(registered.aliases),
        }
    return found


def _files(client: Any, run_id: str, folder: str | None = None) -> Iterator[str]:
    for file in client.list_artifacts(run_id, folder):
        if file.is_dir:
            yield from _files(client, run_id, file.path)
        else:
            yield file.path


def differences(one: Told, other: Told) -> list[str]:
    """Each entry and key that one says and the other does not, or says otherwise."""
    said = []
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            said.append(f"{name}: only in {'one' if name in one else 'the other'}")
            continue
        for key in sorted(one[name].keys() | other[name].keys()):
            if one[name].get(key) != other[name].get(key):
                said.append(f"{name}, {key}: {one[name].get(key)!r} | {other[name].get(key)!r}")
    return said


if __name__ == "__main__":
    sides = [told(Path(name).resolve()) for name in sys.argv[1:3]]
    lines = differences(*sides)
    values = sum(len(entry) for entry in sides[0].values())
    lines.append(f"{len(sides[0])} runs and models with {values} values: {len(lines)} differences")
    sys.stdout.write("".join(f"{line[:400]}\n" for line in lines))
