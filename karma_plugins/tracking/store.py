"""MLflow as the place that records go to: opening it, and bringing it to hold a record."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from karma_plugins.tracking.record import Record

#: What can go wrong with MLflow that is no mistake of ours: the record then waits.
REFUSALS = (MlflowException, RequestException, SQLAlchemyError, OSError)
#: Answers of a server (HTTP) that say nothing of what was sent: who asks, how often, or where.
ELSEWHERE = (401, 403, 404, 408, 429)
#: What MLflow takes in one request, and how long a param or tag may be.
METRICS, PARAMS, TAGS, LENGTH = 1000, 100, 100, 5000
#: The experiment shows "Training runs".
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Point:
    """A metric's value at a step; `at` in milliseconds since 1970."""

    key: str
    value: float
    step: int
    at: int


class Store:
    """An MLflow experiment that takes the records of the repository at `root`.

    MLFLOW_TRACKING_URI and its fellows say which; by default `mlflow.db` in the root, where a relative sqlite
    address leads, too: a queued experiment's own folder is deleted. Databases without a server in front have
    their artifacts in `mlruns` in the root. Every method can be repeated: what MLflow already holds stays as
    it is.
    """

    def __init__(self, root: Path, experiment: str | None = None) -> None:
        self.lock = FileLock(root / ".karma" / "mlflow.lock")
        place = address(root)
        artifacts = (root / "mlruns").as_uri() if place.startswith(tuple(DATABASE_ENGINES)) else None
        with self.lock:  # opening makes the database where there is none: two at once would break it
            self.client = MlflowClient(tracking_uri=place)
            self.experiment = self._experiment(experiment or root.name or "karma", artifacts)

    def _experiment(self, default: str, artifacts: str | None) -> str:
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", default)
        if found := self.client.get_experiment_by_name(name):
            return str(found.experiment_id)
        return str(self.client.create_experiment(name, artifact_location=artifacts, tags=EXPERIMENT_TAGS))

    # --- runs ---------------------------------------------------------------------------------------------

    def begin(self, record: Record) -> str:
        """The run of a record, and the pipeline run around it, made where they are not there yet."""
        if found := self.find("karma.uid", record.uid):
            self._log_params(found, record.params)
            return str(found.info.run_id)
        parent = self._pipeline(record)
        tags = {**record.tags, "karma.role": "stage", "karma.stage": record.stage, "karma.uid": record.uid}
        tags |= {"karma.state": record.state, "mlflow.parentRunId": parent, "mlflow.source.name": record.name}
        run = self.client.create_run(self.experiment, record.started, short(tags), record.name)
        self._log_params(run, record.params)
        self.client.update_run(parent, status="RUNNING")
        return str(run.info.run_id)

    def _pipeline(self, record: Record) -> str:
        """The run of the pipeline's state: one, also when several stages look for it at once."""
        with self.lock:
            run = self.find("karma.pipeline", record.state)
            if run is None:
                kept = ("git.", "version.", "mlflow.", "dvc.experiment")
                tags = {key: value for key, value in record.tags.items() if key.startswith(kept)}
                tags |= {
                    "karma.role": "pipeline",
                    "karma.pipeline": record.state,
                    "karma.state": record.state,
                }
                run = self.client.create_run(self.experiment, record.started, short(tags), record.pipeline)
            self._log_params(run, record.pipeline_params)
        return str(run.info.run_id)

    def find(self, tag: str, value: str) -> Run | None:
        """The first run with a tag of this value, by start and id."""
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        runs = self.client.search_runs(
            [self.experiment], f"tags.`{tag}` = '{value}'", max_results=1, order_by=order
        )
        return runs[0] if runs else None

    def _log_params(self, run: Run, params: dict[str, str]) -> None:
        """The params that the run lacks: all, or those that a lost connection kept from it."""
        lacking = short(params).items() - run.data.params.items()
        entities = [Param(key, value) for key, value in sorted(lacking) if key not in run.data.params]
        for some in chunks(entities, PARAMS):
            self.client.log_batch(run.info.run_id, params=some)

    def log_points(self, run_id: str, points: Iterable[Point]) -> None:
        """Metrics with their steps, a thousand a request; a point that is there already is not doubled."""
        entities = [Metric(allowed(point.key), point.value, point.at, point.step) for point in points]
        for some in chunks(entities, METRICS):
            self.client.log_batch(run_id, metrics=some)

    def end(self, run_id: str, status: str, ended: int | None) -> None:
        """End a run, and the pipeline run around it: that one shows how its last stage ended."""
        parent = self.client.get_run(self.client.get_run(run_id).data.tags["mlflow.parentRunId"])
        self.client.set_terminated(run_id, status, ended)
        last = max(parent.info.end_time or 0, ended or 0) or None
        self.client.set_terminated(parent.info.run_id, status, last)


def address(root: Path) -> str:
    """The address of MLflow for the repository at `root`."""
    given = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if given.startswith("sqlite:///") and not given.startswith(("sqlite:////", "sqlite:///:")):
        return f"sqlite:///{root.absolute() / given.removeprefix('sqlite:///')}"
    return given


def is_final(error: Exception) -> bool:
    """Whether MLflow refuses what it was sent, so that sending it again is of no use."""
    if not isinstance(error, MlflowException):
        return False
    status = int(error.get_http_status_code())
    return 400 <= status < 500 and status not in ELSEWHERE


def allowed(name: str) -> str:
    """A name as MLflow allows it for params, metrics and tags: in its letters, no path with empty parts."""
    parts = re.sub(r"[^\w\-./: ]", "_", name)[:250].split("/")
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "_"


def short(tags: dict[str, str]) -> dict[str, str]:
    """Tags or params as MLflow takes them."""
    return {allowed(key): value[:LENGTH] for key, value in tags.items()}


def chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Pieces of at most `size` values."""
    return (values[start : start + size] for start in range(0, len(values), size))
