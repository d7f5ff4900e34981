"""Bringing MLflow to hold whole pipelines of one revision: their runs, models and the links between them."""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mlflow.entities import Metric, Run

from karma_plugins.lineage import LineageError, LockedPipeline, LockedStage, Settings
from karma_plugins.lineage.contents import Contents
from karma_plugins.lineage.hashing import digest_of, shortened
from karma_plugins.tracking import finished, history, refusing
from karma_plugins.tracking.claimed import Earlier, record_of, record_of_rest, uid
from karma_plugins.tracking.declared import models_of
from karma_plugins.tracking.memory import Held
from karma_plugins.tracking.models import link, log_read, made_by
from karma_plugins.tracking.points import Point
from karma_plugins.tracking.record import Record
from karma_plugins.tracking.store import REFUSALS, Store

if TYPE_CHECKING:
    from karma_plugins.tracking.synced import Synced

T = TypeVar("T")
#: A pipeline run whose stages are being completed has this tag until it holds them all.
UNFINISHED = "karma.unfinished"
#: What of the pipeline no stage makes, and MLflow holds.
REST = "karma.rest"
#: Metrics and plots of a run that could not be read yet.
LACKS = "karma.lacks"


@dataclass(slots=True)
class Work:
    """What MLflow lacks of one pipeline: records with their runs, once these are there."""

    pipeline: LockedPipeline
    parent: Run | None
    todo: list[LockedStage]
    rest: bool
    known: dict[str, Run]
    records: list[tuple[Record, str, list[Metric], bool]] = field(default_factory=list)
    artifacts: list[Path] = field(default_factory=list)
    whole: bool = True


@dataclass(slots=True)
class Ready:
    """A record to be brought to its run, which may be there; `points` is null where that holds all of it."""

    record: Record
    parent: str
    run: Run | None
    points: Sequence[Point] | None
    artifacts: Path


class Session:
    """One call of `sync`: what was learnt of MLflow is kept for the revisions that follow."""

    def __init__(
        self, store: Store, root: Path, settings: Settings, done: Synced, trouble: refusing.Trouble
    ) -> None:
        self._store, self._root, self._settings = store, root, settings
        self._done, self._trouble = done, trouble
        self._asked: set[str] = set()
        self._scratch = root / ".karma" / "sync-artifacts"

    @cached_property
    def _earlier(self) -> Earlier:
        return Earlier(history.stage_runs(self._store, "tags.`karma.from` = 'stage'"))

    def complete(self, pipelines: Sequence[LockedPipeline]) -> Held | None:
        """Make what MLflow lacks of the pipelines of one revision; what is held then, null where not all is.

        Runs and models of all pipelines come first, then the links between them, so that no order counts.
        """
        held = Held()
        try:
            works = [work for pipeline in pipelines if (work := self._look(pipeline, held))]
            for work in works:
                self._make(work, held)
            for work in works:
                self._finish(work, held)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        return held if all(work.whole for work in works) else None

    # --- looking ------------------------------------------------------------------------------------------

    def _look(self, pipeline: LockedPipeline, held: Held) -> Work | None:
        """What MLflow lacks of a pipeline; null where nothing."""
        state = pipeline.pipeline.state
        runs = history.runs(self._store, f"tags.`karma.state` = '{state}'")
        parent, united = unite(self._store, [run for run in runs if _role(run) == "pipeline"])
        self._done.united += united
        children = [run for run in runs if _role(run) == "stage"]
        ended = [history.stage_run(run) for run in children if run.info.status == "FINISHED"]
        lacking = {run.info.run_id for run in children if LACKS in run.data.tags}
        todo = []
        for stage in pipeline.stages:
            outs = {(out.path, shortened(out.digest)) for out in stage.outs}
            same = [
                run
                for run in ended
                if run.name == stage.name and outs <= {(d.path, d.digest) for d in run.outs}
            ]
            if same and not any(run.id in lacking for run in same):
                if stage.current:
                    self._check(stage, pipeline)
                held.runs += 1
                self._done.held += 1
            elif stage.current:
                todo.append(stage)
            else:
                self._stale(stage, pipeline, held)
        for name in pipeline.never:
            self._done.never[name] = None
            held.never.append(name)
        rest = _rest(pipeline)
        tags = parent.data.tags if parent else {}
        lacks_rest = bool(rest) and tags.get(REST) != rest
        if not todo and not lacks_rest and UNFINISHED not in tags:
            return None
        if not todo and parent is None and not lacks_rest:
            return None
        known = {run.data.tags.get("karma.uid", ""): run for run in children}
        return Work(pipeline, parent, todo, lacks_rest or (bool(rest) and UNFINISHED in tags), known)

    def _check(self, stage: LockedStage, pipeline: LockedPipeline) -> None:
        """What dvc.yaml says of models must be true also where the run is there."""
        try:
            models_of(stage.outs, stage, pipeline, self._settings)
        except LineageError as error:
            self._done.refused[stage.name] = str(error)

    def _stale(self, stage: LockedStage, pipeline: LockedPipeline, held: Held) -> None:
        where = f" at {pipeline.revision}" if pipeline.revision.sha else ""
        reason = ", ".join(stage.stale)
        self._done.stale[f"{stage.name}{where}"] = reason
        # What is remembered of a commit goes by its own name: a branch, or HEAD, moves on.
        kept = f" at {pipeline.revision.sha[:10]}" if pipeline.revision.sha else ""
        held.stale[f"{stage.name}{kept}"] = reason

    # --- making -------------------------------------------------------------------------------------------

    def _make(self, work: Work, held: Held) -> None:
        """Runs and models of the stages, all but the models that they read."""
        pipeline = work.pipeline
        contents = Contents(self._root, pipeline.revision, self._asked)
        again = work.parent is not None and UNFINISHED in work.parent.data.tags
        stages = work.todo if not again else [
            stage for stage in pipeline.stages if stage in work.todo or uid(stage, pipeline) in work.known
        ]  # fmt: skip
        ready: list[Ready] = []
        for number, stage in enumerate(stages):
            artifacts = self._scratch / f"{pipeline.pipeline.state[:16]}-{number}"
            with self._set_aside(work, stage.name):
                maker = self._earlier.maker(stage)
                record, points = record_of(
                    stage, pipeline, self._root, maker, contents, artifacts, self._settings
                )
                run = work.known.get(record.uid)
                fresh = stage in work.todo
                if fresh and run and record.lacks and _lacks(run) == record.lacks[:5000]:
                    self._bare(record, held)  # still
                    self._done.held += 1
                    held.runs += 1
                    continue
                ready.append(
                    Ready(record, self._parent(work, record), run, points if fresh else None, artifacts)
                )
        at_once = self._all_at_once([partial(self._log, one) for one in ready])
        for place, one in enumerate(ready):
            with self._set_aside(work, one.record.name):
                run_id, final = at_once[place] if at_once else self._store.together(partial(self._log, one))
                if one.points is not None:
                    finished.log_files(self._store, run_id, one.record, one.artifacts)
                work.records.append((one.record, run_id, final, one.points is not None))
                work.artifacts.append(one.artifacts)
                self._bare(one.record, held)
        if work.rest:
            artifacts = self._scratch / f"{pipeline.pipeline.state[:16]}-rest"
            with self._set_aside(work, f"dvc.yaml of {pipeline.folder}"):
                record, points = record_of_rest(pipeline, self._root, contents, artifacts, self._settings)
                parent = self._parent(work, record)
                self._store.together(partial(finished.log_stage, self._store, parent, parent, record, points))
                finished.log_files(self._store, parent, record, artifacts)
                self._bare(record, held)
                if not record.lacks:
                    self._store.client.set_tag(parent, REST, _rest(pipeline))
                if not pipeline.stages:
                    self._done.completed.append(posixpath.normpath(f"{pipeline.folder}/dvc.yaml"))

    def _all_at_once(self, calls: Sequence[Callable[[], T]]) -> list[T] | None:
        """What the calls give in one transaction; null where one is refused: then each by itself."""
        try:
            return self._store.together(lambda: [call() for call in calls])
        except REFUSALS:
            return None

    def _log(self, one: Ready) -> tuple[str, list[Metric]]:
        """The run of a record, made where it is not there, and its final metrics."""
        store, record = self._store, one.record
        run_id = one.run.info.run_id if one.run else store.create(record, one.parent)
        if one.points is None:
            return run_id, []
        return run_id, finished.log_stage(store, run_id, one.parent, record, one.points, params=True)

    def _bare(self, record: Record, held: Held) -> None:
        if record.lacks:
            name = record.name or "dvc.yaml"
            self._done.bare[name] = held.bare[name] = record.lacks
            held.nowhere += record.nowhere

    def _parent(self, work: Work, record: Record) -> str:
        if work.parent is None:
            work.parent = self._store.pipeline(record)
        if UNFINISHED not in work.parent.data.tags:
            self._store.client.set_tag(work.parent.info.run_id, UNFINISHED, "true")
            work.parent.data.tags[UNFINISHED] = "true"
        return str(work.parent.info.run_id)

    @contextmanager
    def _set_aside(self, work: Work, name: str) -> Iterator[None]:
        """Note what can't be told or what MLflow refuses, and go on with the others."""
        where = f" at {work.pipeline.revision}" if work.pipeline.revision.sha else ""
        try:
            yield
        except LineageError as error:
            work.whole = False
            self._done.refused[f"{name}{where}"] = str(error)
        except REFUSALS as error:
            self._trouble.meet(error)
            work.whole = False
            self._done.refused[f"{name}{where}"] = refusing.reason(error)
        else:
            self._trouble.over()

    # --- finishing ----------------------------------------------------------------------------------------

    def _finish(self, work: Work, held: Held) -> None:
        """Link the runs to the models that they read, end them, and show all of it on the pipeline's run."""
        if work.parent is None or UNFINISHED not in work.parent.data.tags:
            return
        parent = str(work.parent.info.run_id)
        fresh = [(record, run_id, final) for record, run_id, final, new in work.records if new]
        at_once = self._all_at_once([partial(self._end, work, *one) for one in fresh])
        for record, run_id, final in fresh:
            with self._set_aside(work, record.name):
                if at_once is None:
                    self._end(work, record, run_id, final)
                self._done.completed.append(record.name)
                held.runs += 1
        with self._set_aside(work, f"pipeline {work.pipeline.folder}"):
            finished.log_pipeline(
                self._store, parent, [record for record, *_ in work.records], work.artifacts
            )
            ended = max([work.pipeline.at, work.parent.info.end_time or 0])
            self._store.client.set_terminated(parent, "FINISHED", ended)
            if work.whole:
                self._store.client.delete_tag(parent, UNFINISHED)

    def _end(self, work: Work, record: Record, run_id: str, final: list[Metric]) -> None:
        log_read(self._store, run_id, record, final)
        self._note_lacking(run_id, record, work)
        self._store.client.set_terminated(run_id, "FINISHED", record.ended)

    def _note_lacking(self, run_id: str, record: Record, work: Work) -> None:
        before = work.known.get(record.uid)
        if record.lacks:
            self._store.client.set_tag(run_id, LACKS, record.lacks[:5000])
        elif before and LACKS in before.data.tags:
            self._store.client.delete_tag(run_id, LACKS)


def _role(run: Run) -> str:
    return str(run.data.tags.get("karma.role", ""))


def _lacks(run: Run) -> str:
    return str(run.data.tags.get(LACKS, "")) if run.info.status == "FINISHED" else ""


def _rest(pipeline: LockedPipeline) -> str:
    """What names the data that no stage makes and dvc.yaml names, empty where there is none."""
    if not pipeline.loose and pipeline.stages:
        return ""
    return digest_of({data.path: data.digest for data in pipeline.loose})


def unite(store: Store, runs: Sequence[Run]) -> tuple[Run | None, int]:
    """One pipeline run of a state: two machines that began one at once on a server may have made two."""
    if not runs:
        return None, 0
    kept, *others = runs
    for run in others:
        for child in history.runs(store, f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"):
            store.client.set_tag(child.info.run_id, "mlflow.parentRunId", kept.info.run_id)
        store.log_tags(
            kept.info.run_id, {key: value for key, value in run.data.tags.items() if key.startswith("data.")}
        )
        for key, value in run.data.metrics.items():
            store.client.log_metric(kept.info.run_id, key, value)
        store.client.log_inputs(kept.info.run_id, datasets=run.inputs.dataset_inputs)
        for model_id in made_by(run):
            link(store, kept.info.run_id, model_id)
        store.client.delete_run(run.info.run_id)
    return kept, len(others)
