"""Tracking of a stage run: the stage writes a record to disk, a courier process carries it to MLflow.

    with tracking.stage("kinship", params=settings, inputs=[scores], outs=[kinship]) as run:
        ...
        run.metrics({"pairs": 21})

Nothing in this module imports MLflow: the courier imports it while the stage works. Whatever becomes of the
courier or of the server, the finished record lies in `$DVC_ROOT/.karma/spool` until it has been delivered.
`KARMA_TRACKING=off` tracks nothing.
"""

from __future__ import annotations

import getpass
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from karma_plugins import lineage
from karma_plugins.errors import require
from karma_plugins.lineage import Settings
from karma_plugins.tracking import record as records
from karma_plugins.tracking import tags, words
from karma_plugins.tracking.courier import Courier
from karma_plugins.tracking.data import CONTEXTS, describe, distinct
from karma_plugins.tracking.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from karma_plugins.lineage import LockedPipeline

#: Milliseconds after which reported points are written through to disk, where the courier sees them.
FLUSH_AFTER: Final = 500


class StageRun:
    """What a stage reports to. This one keeps its final metrics alone, a tracked run a record of it all."""

    def __init__(self) -> None:
        self.final: dict[str, float] = {}

    def progress(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics at a step, as the work goes on; cheap, and safe from any thread."""

    def metrics(self, metrics: Mapping[str, Any]) -> None:
        """Final metrics of the stage, which its pipeline run shows too; nested ones get dotted names."""
        self.final |= records.numbers(metrics)

    def figure(self, name: str, draw: Callable[..., Figure], *data: Any) -> None:
        """The picture that `draw(*data)` makes, as `pictures/<name>.png`; drawn only where it is kept."""

    def page(self, name: str, write: Callable[..., str], *data: Any) -> None:
        """The text that `write(*data)` makes, as artifact `name`; written only where it is kept."""

    def model(
        self,
        path: Path,
        trained_on: Path | None = None,
        *,
        name: str | None = None,
        register: str | None = None,
    ) -> None:
        """Weights among the outs, where said trained on one of the inputs.

        Unnamed they are called as `karma sync` would: by dvc.yaml, else after the out. `register` names them
        in the model registry.
        """


class TrackedRun(StageRun):
    """A run whose record lies in `folder`, of the stage that `declared` says what dvc.yaml does of."""

    def __init__(
        self,
        record: Record,
        folder: Path,
        pipeline: Path,
        declared: LockedPipeline | None,
        settings: Settings,
    ) -> None:
        super().__init__()
        self._record, self._folder, self._pipeline = record, folder, pipeline
        self._declared, self._settings = declared, settings
        self._workspace = lineage.workspace_root(pipeline)
        self._points = (folder / "points.jsonl").open("a", encoding="utf-8")
        self._lock, self._flushed = threading.Lock(), 0

    def progress(self, metrics: Mapping[str, float], step: int) -> None:  # noqa: D102
        now = _now()
        lines = [json.dumps([key, float(value), step, now]) + "\n" for key, value in metrics.items()]
        with self._lock:
            self._points.write("".join(lines))
            if now - self._flushed > FLUSH_AFTER:
                self._points.flush()
                self._flushed = now

    def figure(self, name: str, draw: Callable[..., Figure], *data: Any) -> None:  # noqa: D102
        pictures = self._folder / "artifacts" / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        picture = pictures / f"{name}.png"
        draw(*data).savefig(picture, format="png", bbox_inches="tight", metadata={"Software": None})

    def page(self, name: str, write: Callable[..., str], *data: Any) -> None:  # noqa: D102
        place = self._folder / "artifacts" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(write(*data), encoding="utf-8")

    def model(  # noqa: D102
        self,
        path: Path,
        trained_on: Path | None = None,
        *,
        name: str | None = None,
        register: str | None = None,
    ) -> None:
        weights, data = (self._place(p) if p else None for p in (path, trained_on))
        self._record.models.append(records.Model(name or "", str(weights), data, register))

    def _place(self, path: Path) -> str:
        return Path(os.path.relpath(path.parent.resolve() / path.name, self._workspace)).as_posix()

    def finish(self, inputs: Sequence[Path], outs: Sequence[Path]) -> None:
        """Hash what was read and written, and write the finished record."""
        from karma_plugins.tracking.reported import complete

        record = self._record
        record.ended, record.metrics = _now(), dict(self.final)
        data = {
            self._place(path): describe(path, self._workspace, context)
            for paths, context in ((inputs, CONTEXTS[0]), (outs, CONTEXTS[1]))
            for path in paths
        }
        points = complete(record, self._declared, data, self._workspace, self._folder, self._settings)
        for point in points:
            self._points.write(json.dumps([point.key, point.value, point.step, point.at]) + "\n")
        record.datasets = distinct(data.values())
        for model in record.models:
            for path in {model.path, model.trained_on} - data.keys() - {None}:
                raise ValueError(f"model {model.name}: {path} is not among the stage's inputs and outs")
        self.end("FINISHED")

    def end(self, status: records.Status) -> None:
        """Write the record with how the stage ended."""
        self._points.close()
        self._record.status, self._record.ended = status, _now()
        self._record.write(self._folder)


@contextmanager
def stage(
    name: str,
    *,
    params: Mapping[str, Any],
    inputs: Sequence[Path],
    outs: Sequence[Path],
    item: str | None = None,
    pipeline: Path = Path(),
    settings: Settings = lineage.ANY,
    machine: Mapping[str, Any] | None = None,
) -> Iterator[StageRun]:
    """Track one run of a stage: its params, what it read and wrote, what it reports.

    What dvc.yaml says of the stage is known: its params, deps and outs, and which of them are metrics, plots
    and models. `params`, `inputs` and `outs` are further ones. `item` is the stage's key in a `foreach` or
    `matrix`, `pipeline` the folder of dvc.yaml. `machine` says how it was computed, as tags. Where dvc.yaml
    has an out of `type: run`, further params, final metrics and versions are left there, tracked or not, so
    that `karma sync` tells them of a restored stage. Raises LineageError where an input or out can't be
    hashed, NotInstalledError without DVC or MLflow; trouble with MLflow ends as one line on stderr.
    """
    own = {key: tags.written(value) for key, value in lineage.flatten(params).items()}
    versions = tags.versions(settings.libraries)
    if os.environ.get("KARMA_TRACKING") == "off":
        untracked = StageRun()
        yield untracked
        words.Words(own, untracked.final, versions).write(words.places(pipeline, name, item))
        return
    require("Tracking a stage (KARMA_TRACKING=off goes without)", "dvc", "mlflow")
    root = lineage.project_root(pipeline)
    uid = uuid.uuid4().hex
    folder = records.spool(root) / uid
    folder.mkdir(parents=True)
    alive = records.living(folder)
    alive.acquire()
    courier = Courier(folder, root)
    try:
        record, declared = _begin(uid, f"{name}@{item}" if item else name, own, pipeline, settings)
        record.tags |= {f"version.{library}": number for library, number in versions.items()}
        record.tags |= {key: tags.written(value) for key, value in lineage.flatten(machine or {}).items()}
        record.write(folder)
        courier.begin()
        run = TrackedRun(record, folder, pipeline, declared, settings)
        try:
            yield run
            words.Words(own, run.final, versions).write(words.places(pipeline, name, item))
            run.finish(inputs, outs)
        except BaseException as error:
            # A full disk must not hide what went wrong: the record then stays as it was, and sync ends it.
            with suppress(OSError):
                run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
    finally:
        courier.wait()
        alive.release()


def _begin(
    uid: str, name: str, own: Mapping[str, str], folder: Path, settings: Settings
) -> tuple[Record, LockedPipeline | None]:
    """The record as it stands when the stage starts, and what dvc.yaml says of the stage."""
    from karma_plugins.lineage.reading import starting

    pipeline, declared = starting(folder.resolve(), settings, name)
    origin = tags.origin(folder)
    written = dict(own)
    if declared:
        from karma_plugins.tracking.declared import params_of

        (stage,) = declared.stages
        written |= params_of(stage)
        if stage.desc:
            origin["mlflow.note.content"] = stage.desc
        if declared.folder != ".":
            origin["dvc.folder"] = declared.folder
    experiment = pipeline.params.get(settings.experiment) if settings.experiment else None
    record = Record(
        uid=uid,
        name=name,
        stage=name.partition("@")[0],
        started=_now(),
        params=written,
        tags={
            "dvc.stage": name, **origin, "mlflow.user": getpass.getuser(), "karma.from": "stage",
        },
        state=pipeline.state,
        pipeline=tags.pipeline_name(pipeline, origin, settings.telling),
        pipeline_params={key: tags.written(value) for key, value in pipeline.params.items()},
        experiment=str(experiment) if experiment else None,
        system_metrics=bool(settings.system_metrics)
        and pipeline.params.get(str(settings.system_metrics)) is True,
    )  # fmt: skip
    return record, declared


def _now() -> int:
    return int(time.time() * 1000)
