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
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from karma_plugins import lineage
from karma_plugins.errors import require
from karma_plugins.tracking import record as records
from karma_plugins.tracking import tags
from karma_plugins.tracking.courier import Courier
from karma_plugins.tracking.data import describe, distinct
from karma_plugins.tracking.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Milliseconds after which reported points are written through to disk, where the courier sees them.
FLUSH_AFTER: Final = 500


class StageRun:
    """What a stage reports to. This one keeps nothing; a tracked run writes all of it to its record."""

    def progress(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics at a step, as the work goes on; cheap, and safe from any thread."""

    def metrics(self, metrics: Mapping[str, Any]) -> None:
        """Final metrics of the stage, which its pipeline run shows too; nested ones get dotted names."""

    def figure(self, name: str, draw: Callable[..., Figure], *data: Any) -> None:
        """The picture that `draw(*data)` makes, as `pictures/<name>.png`; drawn only where it is kept."""

    def model(
        self, path: Path, trained_on: Path, *, name: str = "aligned", register: str | None = None
    ) -> None:
        """A folder of weights among the outs, trained on one of the inputs.

        `register` names it in the model registry.
        """


class TrackedRun(StageRun):
    """A run whose record lies in `folder`, of a stage of the pipeline in folder `pipeline`."""

    def __init__(self, record: Record, folder: Path, pipeline: Path) -> None:
        self._record, self._folder, self._pipeline = record, folder, pipeline
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

    def metrics(self, metrics: Mapping[str, Any]) -> None:  # noqa: D102
        self._record.metrics |= records.numbers(metrics)

    def figure(self, name: str, draw: Callable[..., Figure], *data: Any) -> None:  # noqa: D102
        pictures = self._folder / "artifacts" / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        picture = pictures / f"{name}.png"
        draw(*data).savefig(picture, format="png", bbox_inches="tight", metadata={"Software": None})

    def model(  # noqa: D102
        self, path: Path, trained_on: Path, *, name: str = "aligned", register: str | None = None
    ) -> None:
        made, data = (
            Path(os.path.relpath(p.parent.resolve() / p.name, self._workspace)).as_posix()
            for p in (path, trained_on)
        )
        self._record.models.append(records.Model(name, made, data, register))

    def finish(self, inputs: Sequence[Path], outs: Sequence[Path]) -> None:
        """Hash what was read and written, and write the finished record."""
        self._record.datasets = distinct(
            [
                *(describe(path, self._workspace, self._pipeline, "input") for path in inputs),
                *(describe(path, self._workspace, self._pipeline, "output") for path in outs),
            ]
        )
        known = {data.path for data in self._record.datasets}
        for model in self._record.models:
            for path in {model.path, model.trained_on} - known:
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
) -> Iterator[StageRun]:
    """Track one run of a stage: its params, what it read and wrote, what it reports.

    `params` is the stage's own section, `item` its key in a `foreach`, `pipeline` the folder of dvc.yaml.
    Raises LineageError where an input or out can't be hashed, NotInstalledError without DVC or MLflow;
    trouble with MLflow ends as one line on stderr.
    """
    if os.environ.get("KARMA_TRACKING") == "off":
        yield StageRun()
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
        record = _begin(uid, f"{name}@{item}" if item else name, params, pipeline)
        record.write(folder)
        courier.begin()
        run = TrackedRun(record, folder, pipeline)
        try:
            yield run
            run.finish(inputs, outs)
        except BaseException:
            run.end("FAILED")
            raise
    finally:
        courier.wait()
        alive.release()


def _begin(uid: str, name: str, params: Mapping[str, Any], folder: Path) -> Record:
    """The record as it stands when the stage starts."""
    pipeline, origin = lineage.pipeline(folder), tags.origin(folder)
    return Record(
        uid=uid,
        name=name,
        stage=name.partition("@")[0],
        started=_now(),
        params={key: tags.written(value) for key, value in lineage.flatten(params).items()},
        tags={**origin, **tags.versions(), "mlflow.user": getpass.getuser()},
        state=pipeline.state,
        pipeline=tags.pipeline_name(pipeline, origin),
        pipeline_params={key: tags.written(value) for key, value in pipeline.params.items()},
        experiment=pipeline.params.get("tracking.experiment"),
        system_metrics=pipeline.params.get("tracking.system_metrics") is True,
    )


def _now() -> int:
    return int(time.time() * 1000)
