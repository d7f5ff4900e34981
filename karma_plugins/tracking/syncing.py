"""Completing MLflow: what waits in the spool, and stages that were skipped or restored, so said nothing."""

from __future__ import annotations

import hashlib
import json
import posixpath
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from filelock import Timeout

from karma_plugins import lineage
from karma_plugins.lineage import LineageError, LockedData, LockedPipeline, LockedStage, StageRun
from karma_plugins.lineage.pipelines import read_params
from karma_plugins.tracking import delivery, finished, history, tags
from karma_plugins.tracking import record as records
from karma_plugins.tracking.data import describe_locked, distinct
from karma_plugins.tracking.models import link, made_by
from karma_plugins.tracking.record import Model, Record
from karma_plugins.tracking.store import REFUSALS, Store, is_final

#: Formats of metrics files that DVC knows, by their suffix.
METRICS: Final[Mapping[str, Callable[[str], Any]]] = {
    ".json": json.loads,
    ".yaml": read_params,
    ".yml": read_params,
    ".toml": tomllib.loads,
}


@dataclass(slots=True)
class Synced:
    """What `sync` did, in names of stages; `held` counts stage runs that MLflow held already.

    `stale` stages of a dvc.lock ran for other params or data than the revision's, and are left to the
    revision that they ran for; `bare` ones have metrics files that can't be read or are nowhere. `refused`
    holds by their folders the records that MLflow will never take, with its reasons.
    """

    delivered: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)
    united: int = 0
    held: int = 0

    @property
    def changed(self) -> bool:
        """Whether MLflow holds more than before."""
        return bool(self.delivered or self.ended or self.completed or self.united)


def sync(store: Store, root: Path, revisions: Sequence[lineage.Revision] = ()) -> Synced:
    """Deliver the spool, then complete MLflow from the dvc.lock of each revision (none: of the workspace).

    Repeating it changes nothing. Raises LineageError outside a DVC repository.
    """
    done = Synced()
    for folder in sorted(file.parent for file in records.spool(root).glob("*/record.json")):
        _settle(store, folder, done)
    done.united = _unite(store)
    for revision in revisions or [lineage.Revision()]:
        for pipeline in lineage.locked(root, revision):
            _complete(store, root, pipeline, done)
    return done


def _settle(store: Store, folder: Path, done: Synced) -> None:
    """Deliver a finished record; end the run of a stage that died. What is still at work is left alone."""
    try:
        with records.living(folder, timeout=0), records.carrier(folder, timeout=0):
            record = records.read(folder)
            if record.status == "FINISHED":
                _deliver(store, folder, record.name, done)
                return
            if run := store.find("karma.uid", record.uid):
                status = "FAILED" if record.status == "FAILED" else "KILLED"
                store.end(run.info.run_id, status, record.ended)
            shutil.rmtree(folder)
            done.ended.append(record.name)
    except Timeout:
        return


def _deliver(store: Store, folder: Path, name: str, done: Synced) -> None:
    """Deliver a finished record, or note that MLflow will never take it."""
    try:
        delivery.deliver(store, folder)
    except REFUSALS as error:
        if not is_final(error):
            raise
        done.refused[folder] = f"{name}: {str(error).splitlines()[0]}"
    else:
        done.delivered.append(name)


def _complete(store: Store, root: Path, pipeline: LockedPipeline, done: Synced) -> None:
    """Make the stage runs that the pipeline's state lacks."""
    state = pipeline.pipeline.state
    known = history.stage_runs(store, f"tags.`karma.state` = '{state}'")
    lacking = []
    for stage in pipeline.stages:
        made = {(out.path, out.md5) for out in stage.outs}
        if any(run.name == stage.name and made <= {(d.path, d.digest) for d in run.outs} for run in known):
            done.held += 1
        elif stage.current:
            lacking.append(stage)
        else:
            done.stale.append(stage.name)
    earlier = [run for run in history.stage_runs(store) if "karma.from" not in run.tags] if lacking else []
    for stage in lacking:
        record = _record(stage, pipeline, root, _maker(stage, earlier), done)
        finished.log(store, record, [], root / ".karma" / "no-artifacts")
        done.completed.append(stage.name)


def _maker(stage: LockedStage, earlier: Sequence[StageRun]) -> StageRun | None:
    """The run that made these bytes from these inputs and params, in another state of the pipeline."""
    deps = {(dep.path, dep.md5) for dep in stage.deps}
    outs = {(out.path, out.md5) for out in stage.outs}
    told = {key: tags.written(value) for key, value in stage.params.items()}
    for run in earlier:
        if (
            run.name == stage.name
            and {(d.path, d.digest) for d in run.outs} >= outs
            and {(d.path, d.digest) for d in run.inputs} <= deps
            and all(run.params.get(key, value) == value for key, value in told.items())
        ):
            return run
    return None


def _record(
    stage: LockedStage, pipeline: LockedPipeline, root: Path, maker: StageRun | None, done: Synced
) -> Record:
    """The record that the stage would have written, as far as it is known."""
    data = distinct(
        [
            *(describe_locked(dep, root, pipeline.folder, "input") for dep in stage.deps),
            *(describe_locked(out, root, pipeline.folder, "output") for out in stage.outs),
        ]
    )
    record = Record(
        uid=_uid(stage, pipeline),
        name=stage.name,
        stage=stage.name.partition("@")[0],
        started=pipeline.at,
        ended=pipeline.at,
        status="FINISHED",
        params={key: tags.written(value) for key, value in stage.params.items()},
        tags=_tags(stage, pipeline),
        datasets=data,
        state=pipeline.pipeline.state,
        experiment=pipeline.pipeline.params.get("tracking.experiment"),
        pipeline_params={key: tags.written(value) for key, value in pipeline.pipeline.params.items()},
    )
    record.pipeline = tags.pipeline_name(pipeline.pipeline, record.tags)
    record.params |= _plugins(stage)
    record.models = [
        Model(out.meta.get("name", "aligned"), out.path, trained_on, stage.params.get("register_as"))
        for out in stage.outs
        if out.kind == "model" and out.meta and (trained_on := _trained_on(out, stage, pipeline.folder))
    ]
    if maker:
        record.params |= maker.params
        record.metrics = dict(maker.metrics)
        record.tags |= {key: value for key, value in maker.tags.items() if key.startswith("version.")}
        record.tags["karma.made_by"] = maker.id
    else:
        record.metrics = _metrics(stage, root, done)
    return record


def _plugins(stage: LockedStage) -> dict[str, str]:
    """The plugins that the stage used: of those in its part of karma.lock.json, the ones that params name."""
    own = {key: value for key, value in stage.params.items() if not key.startswith("models.")}
    named = {part for key in own for part in key.split(".")} | {str(value) for value in own.values()}
    allowed = {key.partition(".")[2]: entry for key, entry in stage.code.items() if not key.endswith(".core")}
    used = {name: entry for name, entry in allowed.items() if len(allowed) == 1 or name in named}
    return {
        f"plugin.{name}": f"{name} ({entry['distribution']} {entry['version']})"
        for name, entry in used.items()
    }


def _tags(stage: LockedStage, pipeline: LockedPipeline) -> dict[str, str]:
    origin = {"karma.from": "dvc.lock", "dvc.stage": stage.name}
    if pipeline.revision.experiment:
        origin["dvc.experiment"] = pipeline.revision.experiment
    if commit := pipeline.commit:
        origin |= {"mlflow.source.git.commit": commit.sha, "git.dirty": str(commit.dirty).lower()}
        origin |= {"mlflow.source.git.branch": commit.branch} if commit.branch else {}
    return origin


def _trained_on(model: LockedData, stage: LockedStage, folder: str) -> str | None:
    """The dependency that dvc.yaml says a model was trained on; LineageError where it is none."""
    told = (model.meta or {}).get("trained_on")
    if told is None:
        return None
    path, deps = posixpath.normpath(posixpath.join(folder, str(told))), [dep.path for dep in stage.deps]
    if path not in deps:
        raise LineageError(
            f"dvc.yaml, stage {stage.name}, {model.path}: meta.trained_on is {told!r}, which is none of the "
            f"stage's deps. Name one of them, as seen from dvc.yaml: {', '.join(deps)}."
        )
    return path


def _metrics(stage: LockedStage, root: Path, done: Synced) -> dict[str, float]:
    """The numbers in the stage's metrics files, with dotted keys."""
    found: dict[str, float] = {}
    for out in (out for out in stage.outs if out.metric and Path(out.path).suffix in METRICS):
        try:
            text = lineage.restore(out.path, out.md5, root).read_text(encoding="utf-8")
            values = METRICS[Path(out.path).suffix](text)
        except (LineageError, ValueError):
            done.bare.append(stage.name)
            continue
        if isinstance(values, dict):
            found |= records.numbers(values)
    return found


def _uid(stage: LockedStage, pipeline: LockedPipeline) -> str:
    """The same for the same claim, so that it is one run however often it is made."""
    told = [pipeline.pipeline.state, stage.name, [[out.path, out.md5] for out in stage.outs]]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()


def _unite(store: Store) -> int:
    """One pipeline run a state: two machines that started one at once on a server may have made two."""
    first: dict[str, str] = {}
    united = 0
    for run in history.runs(store, "tags.`karma.role` = 'pipeline'"):
        state = run.data.tags["karma.pipeline"]
        kept = first.setdefault(state, run.info.run_id)
        if kept == run.info.run_id:
            continue
        for child in history.runs(store, f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"):
            store.client.set_tag(child.info.run_id, "mlflow.parentRunId", kept)
        digests = {key: value for key, value in run.data.tags.items() if key.startswith("data.")}
        for key, value in digests.items():
            store.client.set_tag(kept, key, value)
        for key, value in run.data.metrics.items():
            store.client.log_metric(kept, key, value)
        store.client.log_inputs(kept, datasets=run.inputs.dataset_inputs)
        for model_id in made_by(run):
            link(store, kept, model_id)
        store.client.delete_run(run.info.run_id)
        united += 1
    return united
