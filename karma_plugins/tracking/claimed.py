"""Records of what dvc.lock claims: those that tracked runs of its stages would have written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from karma_plugins.lineage import LockedData, LockedPipeline, LockedStage, Settings, StageRun
from karma_plugins.lineage.contents import Contents
from karma_plugins.lineage.hashing import shortened
from karma_plugins.tracking import declared, tags
from karma_plugins.tracking.data import Context, Data, describe_locked, distinct
from karma_plugins.tracking.points import Point
from karma_plugins.tracking.record import Record


class Earlier:
    """Runs that reported as they went: they are known again where what they made is restored."""

    def __init__(self, runs: Iterable[StageRun]) -> None:
        self._runs: dict[str, list[StageRun]] = {}
        for run in runs:
            self._runs.setdefault(run.name, []).append(run)

    def maker(self, stage: LockedStage) -> StageRun | None:
        """The run that made these bytes from these inputs and params, in another state of the pipeline."""
        deps = {(dep.path, shortened(dep.digest)) for dep in stage.deps}
        outs = {(out.path, shortened(out.digest)) for out in stage.outs}
        params = declared.params_of(stage)
        for run in self._runs.get(stage.name, []):
            if (
                {(d.path, d.digest) for d in run.outs} >= outs
                and {(d.path, d.digest) for d in run.inputs} <= deps
                and all(run.params.get(key, value) == value for key, value in params.items())
            ):
                return run
        return None


def uid(stage: LockedStage, pipeline: LockedPipeline) -> str:
    """The same for the same claim, so that it is one run however often it is made."""
    claim = [pipeline.pipeline.state, stage.name, [[out.path, out.digest] for out in stage.outs]]
    return hashlib.blake2b(json.dumps(claim).encode(), digest_size=16).hexdigest()


def record_of(
    stage: LockedStage,
    pipeline: LockedPipeline,
    root: Path,
    maker: StageRun | None,
    contents: Contents,
    artifacts: Path,
    settings: Settings,
) -> tuple[Record, list[Point]]:
    """The record that the stage would have written, as far as it is known, and the steps of its metrics."""
    record = _bare(pipeline, settings, stage.name)
    record.uid = uid(stage, pipeline)
    record.params = declared.params_of(stage)
    if stage.desc:
        record.tags["mlflow.note.content"] = stage.desc
    outs = [out for other in pipeline.stages for out in other.outs]
    record.datasets = distinct(
        [*_described(stage.deps, root, "input", outs), *_described(stage.outs, root, "output")]
    )
    record.models = declared.models_of(stage.outs, stage, pipeline, settings)
    if maker:
        record.params = {**maker.params, **record.params}
        record.metrics = dict(maker.metrics)
        record.tags |= {key: value for key, value in maker.tags.items() if key.startswith("version.")}
        record.tags["karma.made_by"] = maker.id
    points = declared.complete(record, stage, pipeline, contents, artifacts)
    return record, points


def record_of_rest(
    pipeline: LockedPipeline, root: Path, contents: Contents, artifacts: Path, settings: Settings
) -> tuple[Record, list[Point]]:
    """What dvc.yaml names that no stage makes: metrics, plots and artifacts, for the pipeline's own run."""
    record = _bare(pipeline, settings, "")
    outs = pipeline.loose
    record.datasets = distinct(_described(outs, root, "input"))
    nothing = LockedStage("", {}, {}, (), tuple(outs))
    record.models = declared.models_of(outs, nothing, pipeline, settings)
    points = declared.complete(record, nothing, pipeline, contents, artifacts)
    return record, points


def _bare(pipeline: LockedPipeline, settings: Settings, name: str) -> Record:
    params = pipeline.pipeline.params
    record = Record(
        uid="",
        name=name,
        stage=name.partition("@")[0],
        started=pipeline.at,
        ended=pipeline.at,
        status="FINISHED",
        tags=_tags(name, pipeline),
        state=pipeline.pipeline.state,
        pipeline_params={key: tags.written(value) for key, value in params.items()},
    )
    record.pipeline = tags.pipeline_name(pipeline.pipeline, record.tags, settings.telling)
    return record


def _described(
    data: Iterable[LockedData], root: Path, context: Context, outs: Sequence[LockedData] = ()
) -> list[Data]:
    described = [(one, describe_locked(one, root, context, outs)) for one in data]
    for one, known in described:
        known.notes = declared.notes(one)
    return [known for _, known in described]


def _tags(name: str, pipeline: LockedPipeline) -> dict[str, str]:
    origin = {"karma.from": "dvc.lock"}
    if name:
        origin["dvc.stage"] = name
    if pipeline.folder != ".":
        origin["dvc.folder"] = pipeline.folder
    if pipeline.revision.experiment:
        origin["dvc.experiment"] = pipeline.revision.experiment
    if commit := pipeline.commit:
        origin |= {"mlflow.source.git.commit": commit.sha, "git.dirty": str(commit.dirty).lower()}
        origin |= {"mlflow.source.git.branch": commit.branch} if commit.branch else {}
    return origin
