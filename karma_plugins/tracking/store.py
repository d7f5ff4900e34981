"""MLflow as the place that records go to: opening it, and making runs there, each once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from karma_plugins.errors import KarmaError
from karma_plugins.lineage.git import git, leave_out, prefix
from karma_plugins.tracking import names
from karma_plugins.tracking.points import Point
from karma_plugins.tracking.record import Record
from karma_plugins.tracking.transactions import together

#: What can go wrong with MLflow that is no mistake of ours: the record then waits.
REFUSALS = (MlflowException, RequestException, SQLAlchemyError, OSError)
#: Answers of a server (HTTP) that say nothing of what was sent: who asks, how often, or where.
ELSEWHERE = (401, 403, 404, 408, 429)
#: What MLflow takes in one request.
METRICS, PARAMS, TAGS = 1000, 100, 100
#: The experiment shows "Training runs".
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
#: The tag of an experiment that says which repository it is of: its first commit, and the folder in it.
REPOSITORY = "karma.repository"

T = TypeVar("T")


class StoreError(KarmaError):
    """MLflow's place for a repository's runs can't be used as it is set: trying again is of no use."""


@dataclass(slots=True)
class Known:
    """A logged model that MLflow holds: its id, the pipeline state it was made in, and when."""

    id: str
    name: str
    state: str
    run_id: str
    at: int
    tags: dict[str, str] = field(default_factory=dict)


class Store:
    """An MLflow experiment that takes the records of the repository at `root`.

    MLFLOW_TRACKING_URI and its fellows say which; by default `mlflow.db` in the root, where a relative sqlite
    address leads, too: a queued experiment's own folder is deleted. Databases without a server in front have
    their artifacts in `mlruns` in the root. The experiment is the one named, else the one of the repository's
    address or folder, else the one that a clone of it made. Every method can be repeated: what MLflow already
    holds stays as it is.
    """

    def __init__(self, root: Path, experiment: str | None = None) -> None:
        self.root = root
        place = address(root)
        database = database_file(place)
        # Beside the database, which several clones may share; it is made where it is not.
        self.lock = FileLock(
            database.with_name(f"{database.name}.lock") if database else root / ".karma" / "mlflow.lock"
        )
        artifacts = (root / "mlruns").as_uri() if place.startswith(tuple(DATABASE_ENGINES)) else None
        with self.lock:  # opening makes the database where there is none: two at once would break it
            own = place == f"sqlite:///{root.absolute() / 'mlflow.db'}"
            leave_out(root, (".karma/", "mlflow.db*", "mlruns/") if own else (".karma/",))
            if database and not database.exists():
                make(database)
            self.client = MlflowClient(tracking_uri=place)
            self.experiment = self._experiment(experiment, artifacts)
        self._models: dict[str, list[Known]] | None = None

    def _experiment(self, named: str | None, artifacts: str | None) -> str:
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            try:
                return self._usable(self.client.get_experiment(given))
            except MlflowException as error:
                if is_final(error) or error.get_http_status_code() == 404:
                    raise StoreError(
                        f"MLFLOW_EXPERIMENT_ID={given}: MLflow has no such experiment. Correct or unset it."
                    ) from error
                raise
        given = os.environ.get("MLFLOW_EXPERIMENT_NAME") or named
        name = given or default_name(self.root)
        if experiment := self.client.get_experiment_by_name(name):
            return self._usable(experiment)
        identity = repository(self.root)
        if identity and not given:
            text = identity.replace("'", "")
            for clone in self.client.search_experiments(filter_string=f"tags.`{REPOSITORY}` = '{text}'"):
                return str(clone.experiment_id)
        tags = {**EXPERIMENT_TAGS, **({REPOSITORY: identity} if identity else {})}
        return str(self.client.create_experiment(name, artifact_location=artifacts, tags=tags))

    def _usable(self, experiment: object) -> str:
        known = getattr(experiment, "experiment_id", ""), getattr(experiment, "name", "")
        if getattr(experiment, "lifecycle_stage", "active") == "deleted":
            raise StoreError(
                f"MLflow's experiment {known[1]!r} is deleted. `mlflow experiments restore --experiment-id "
                f"{known[0]}` brings it back, MLFLOW_EXPERIMENT_NAME names another."
            )
        return str(known[0])

    def together(self, work: Callable[[], T]) -> T:
        """What `work` gives; all that it has MLflow write is there then, or none (not in the registry)."""

        def forget() -> None:
            self._models = None

        with self.lock:  # before the database's own: those who wait for this one must not hold that
            return together(self.client, work, forget)

    # --- runs ---------------------------------------------------------------------------------------------

    def begin(self, record: Record, parent: str | None = None) -> str:
        """The run of a record, and the pipeline run around it, made where they are not there yet."""
        if existing := self.find("karma.uid", record.uid):
            self.log_params(existing.info.run_id, record.params, existing.data.params)
            return str(existing.info.run_id)
        if parent is None:
            parent = str(self.pipeline(record).info.run_id)
            self.client.update_run(parent, status="RUNNING")
        run_id = self.create(record, parent)
        self.log_params(run_id, record.params)
        return run_id

    def create(self, record: Record, parent: str, **more: str) -> str:
        """A new run of a record, with all its tags and no params yet."""
        tags = {**record.tags, **names.changed({**record.params, **record.metrics}), **more}
        tags |= {f"data.{data.path}": data.short_digest[:8] for data in record.datasets}
        tags |= {"karma.role": "stage", "karma.stage": record.stage, "karma.uid": record.uid}
        tags |= {"karma.state": record.state, "mlflow.parentRunId": parent, "mlflow.source.name": record.name}
        tags |= {"karma.claim": record.claim} if record.claim else {}
        run = self.client.create_run(self.experiment, record.started, safe_tags(tags), record.name)
        return str(run.info.run_id)

    def pipeline(self, record: Record) -> Run:
        """The run of the pipeline's state: one, also when several stages look for it at once."""
        with self.lock:
            run = self.find("karma.pipeline", record.state)
            if run is None:
                kept = ("git.", "version.", "mlflow.", "dvc.experiment")
                tags = {key: value for key, value in record.tags.items() if key.startswith(kept)}
                tags.pop("mlflow.note.content", None)  # what dvc.yaml says of the stage alone
                tags |= names.changed(record.pipeline_params)
                tags |= {
                    "karma.role": "pipeline",
                    "karma.pipeline": record.state,
                    "karma.state": record.state,
                }
                run = self.client.create_run(
                    self.experiment, record.started, safe_tags(tags), record.pipeline
                )
            self.log_params(run.info.run_id, record.pipeline_params, run.data.params)
        return run

    def find(self, tag: str, value: str) -> Run | None:
        """The first run with a tag of this value, by start and id."""
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        runs = self.client.search_runs(
            [self.experiment], f"tags.`{tag}` = '{value}'", max_results=1, order_by=order
        )
        return runs[0] if runs else None

    def log_params(self, run_id: str, params: dict[str, str], held: dict[str, str] | None = None) -> None:
        """The params that the run lacks: all, or those that a lost connection kept from it."""
        entities = [param for param in entities_of(params) if param.key not in (held or {})]
        for some in chunks(entities, PARAMS):
            self.client.log_batch(run_id, params=some)

    def log_tags(self, run_id: str, tags: dict[str, str]) -> None:
        """Tags, a hundred a request."""
        entities = [RunTag(key, value) for key, value in safe_tags(tags).items()]
        for some in chunks(entities, TAGS):
            self.client.log_batch(run_id, tags=some)

    def log_points(self, run_id: str, points: Iterable[Point]) -> None:
        """Metrics with their steps, a thousand a request; a point that is there already is not doubled."""
        entities = [Metric(names.allowed(point.key), point.value, point.at, point.step) for point in points]
        self.log_metrics(run_id, entities)

    def log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Metrics, a thousand a request."""
        for some in chunks(metrics, METRICS):
            self.client.log_batch(run_id, metrics=some)

    def end(self, run_id: str, status: str, ended: int | None) -> None:
        """End a run, and the pipeline run around it: that one shows how its last stage ended."""
        parent = self.client.get_run(self.client.get_run(run_id).data.tags["mlflow.parentRunId"])
        self.client.set_terminated(run_id, status, ended)
        last = max(parent.info.end_time or 0, ended or 0) or None
        self.client.set_terminated(parent.info.run_id, status, last)

    # --- models -------------------------------------------------------------------------------------------

    def models(self) -> dict[str, list[Known]]:
        """The logged models whose weights lie in DVC, by their hash, oldest first; read once."""
        if self._models is None:
            self._models = {}
            token: str | None = None
            while True:
                page = self.client.search_logged_models([self.experiment], page_token=token)
                for model in page:
                    self.learn(
                        model.tags, model.model_id, model.name, model.source_run_id, model.creation_timestamp
                    )
                token = page.token
                if not token:
                    break
            for known in self._models.values():
                known.sort(key=lambda model: (model.at, model.id))
        return self._models

    def learn(self, tags: dict[str, str], model_id: str, name: str, run_id: str, at: int) -> None:
        """Remember a logged model."""
        if self._models is not None and "dvc.md5" in tags:
            known = Known(str(model_id), name, tags.get("karma.state", ""), str(run_id), at, dict(tags))
            self._models.setdefault(tags["dvc.md5"], []).append(known)


def default_name(root: Path) -> str:
    """What an unnamed experiment is called: like the repository at its address, else like its folder."""
    url = git(root, "config", "--get", "remote.origin.url").strip().rstrip("/")
    name = url.replace(":", "/").rpartition("/")[2].removesuffix(".git")
    within = prefix(root.resolve()).strip("/")
    if name and name not in (".", ".."):
        return f"{name}/{within}" if within else name
    return root.resolve().name or "karma"


def repository(root: Path) -> str:
    """What all clones of a repository share: its first commit, and the folder in it; empty without."""
    if git(root, "rev-parse", "--is-shallow-repository").strip() != "false":
        return ""
    first = sorted(git(root, "rev-list", "--max-parents=0", "HEAD").split())
    within = prefix(root.resolve()).strip("/")
    return f"{first[0]}{f':{within}' if within else ''}" if first else ""


def address(root: Path) -> str:
    """The address of MLflow for the repository at `root`."""
    given = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if given.startswith("sqlite:///") and not given.startswith(("sqlite:////", "sqlite:///:")):
        return f"sqlite:///{root.absolute() / given.removeprefix('sqlite:///')}"
    return given


def database_file(place: str) -> Path | None:
    """The file of an sqlite address; null for any other address, or one with settings of its own."""
    name = place.removeprefix("sqlite:///")
    return Path(name) if name != place and name and ":" not in name and "?" not in name else None


def make(database: Path) -> None:
    """Make an empty database of MLflow's, whole or not at all; whoever calls holds its lock.

    MLflow writes its tables one after the other: a process that is killed meanwhile would leave some, and
    every later opening would fail.
    """
    for left in database.parent.glob(f"{database.name}.*.partial*"):  # of one that was killed
        left.unlink(missing_ok=True)
    partial = database.with_name(f"{database.name}.{uuid4().hex[:12]}.partial")
    MlflowClient(tracking_uri=f"sqlite:///{partial}").search_experiments(max_results=1)
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(database)


def is_final(error: Exception) -> bool:
    """Whether MLflow refuses what it was sent, so that sending it again is of no use."""
    if not isinstance(error, MlflowException):
        return False
    status = int(error.get_http_status_code())
    return 400 <= status < 500 and status not in ELSEWHERE


def is_setting(error: Exception) -> bool:
    """Whether it is how MLflow is reached that it refuses (a kind of address, a file store): so all of it."""
    text = str(error)
    return isinstance(error, MlflowException) and (
        "file:" in text or "filesystem tracking backend" in text or type(error).__name__ in WRONG
    )


#: Errors of MLflow for an address that it can't use.
WRONG = (
    "UnsupportedModelRegistryStoreURIException",
    "UnsupportedTrackingStoreURIException",
    "InvalidUrlException",
)


def safe_tags(tags: dict[str, str]) -> dict[str, str]:
    """Tags as MLflow takes them."""
    return {names.allowed(key): names.tag(value) for key, value in tags.items()}


def entities_of(params: dict[str, str]) -> list[Param]:
    """Params as MLflow takes them, by name."""
    return [Param(names.allowed(key), names.param(value)) for key, value in sorted(params.items())]


def chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Pieces of at most `size` values."""
    return (values[start : start + size] for start in range(0, len(values), size))
