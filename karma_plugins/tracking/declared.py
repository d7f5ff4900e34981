"""What dvc.yaml says of a stage beside its data: its metrics, plots and models, and what they hold."""

from __future__ import annotations

import json
import posixpath
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from karma_plugins.lineage import LineageError, LockedData, LockedPipeline, LockedStage, Settings, flatten
from karma_plugins.lineage.contents import Contents
from karma_plugins.lineage.pipelines import lies_in, makes, read_params
from karma_plugins.tracking import names, tags, words
from karma_plugins.tracking.points import Point
from karma_plugins.tracking.record import Model, Record, numbers

#: Formats of metrics files that DVC knows, by their suffix.
METRICS: Final[Mapping[str, Callable[[str], Any]]] = {
    ".json": json.loads,
    ".yaml": read_params,
    ".yml": read_params,
    ".toml": tomllib.loads,
}
#: Where DVCLive writes the metrics of each step: a table for each metric.
STEPS: Final = "plots/metrics/"


def data_of(paths: Iterable[str], outs: Iterable[LockedData]) -> list[LockedData]:
    """The data at paths that outs hold: the outs themselves where they lie at or in a path."""
    by_path: dict[str, LockedData] = {}
    places = list(paths)
    for out in outs:
        if makes(places, out.path):
            by_path[out.path] = out
    return list(by_path.values())


def files_at(
    paths: Iterable[str], outs: Iterable[LockedData], contents: Contents
) -> Iterator[LockedData | str]:
    """The files of outs that lie at or below one of the paths; as text those of unlisted folders."""
    wanted = list(paths)
    for out in data_of(wanted, outs):
        files = contents.files(out)
        if files is None:
            yield out.path
            continue
        for file in files:
            if any(lies_in(file.path, path) for path in wanted):
                yield file


def read_metrics(
    paths: Iterable[str], outs: Iterable[LockedData], contents: Contents
) -> tuple[dict[str, float], list[str]]:
    """The numbers in metrics files, with dotted keys, and the files that could not be read.

    Where two files have the same key each has its file before it.
    """
    by_file: dict[str, dict[str, float]] = {}
    lacking, named = [], list(paths)
    for file in files_at(named, outs, contents):
        if isinstance(file, str):
            lacking.append(file)
            continue
        read = METRICS.get(PurePosixPath(file.path).suffix, read_params if file.path in named else None)
        if read is None:
            continue  # in a folder of metrics and other files
        data = contents.read(file)
        try:
            values = read(data.decode()) if data is not None else None
        except (ValueError, LineageError):
            values = None
        if values is None:
            lacking.append(file.path)
        else:
            by_file[file.path] = numbers(
                values if isinstance(values, Mapping) else {PurePosixPath(file.path).stem: values}
            )
    keys = [key for values in by_file.values() for key in values]
    metrics = {
        (f"{file}:{key}" if keys.count(key) > 1 else key): value
        for file, values in by_file.items()
        for key, value in values.items()
    }
    return metrics, lacking


def write_plots(
    paths: Iterable[str], outs: Iterable[LockedData], contents: Contents, folder: Path, at: int
) -> tuple[list[Point], list[str]]:
    """Write plots and pictures below `folder`; the steps of DVCLive's metrics, and what could not be read."""
    points: list[Point] = []
    lacking = []
    for file in files_at(paths, outs, contents):
        data = None if isinstance(file, str) else contents.read(file)
        if isinstance(file, str) or data is None:
            lacking.append(file if isinstance(file, str) else file.path)
            continue
        target = folder / "plots" / file.path.replace("..", "_")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        points += _steps(file.path, data, at)
    return points, lacking


def _steps(path: str, data: bytes, at: int) -> list[Point]:
    """The points in a table of DVCLive's, under the name that its metrics.json has for them."""
    _, mark, within = path.partition(STEPS)
    if not mark or not path.endswith(".tsv"):
        return []
    rows = [line.split("\t") for line in data.decode(errors="replace").splitlines()]
    if not rows or "step" not in rows[0] or len(rows[0]) < 2:
        return []
    step, value = rows[0].index("step"), len(rows[0]) - 1
    key = within.removesuffix(".tsv").replace("/", ".")
    points = []
    for row in rows[1:]:
        try:
            points.append(Point(key, float(row[value]), int(float(row[step])), at))
        except (ValueError, IndexError):
            continue
    return points


def models_of(
    outs: Iterable[LockedData], stage: LockedStage, pipeline: LockedPipeline, settings: Settings
) -> list[Model]:
    """The models among outs: of type `model`, or under such an entry of `artifacts`; one each.

    Raises LineageError where `meta.trained_on` names none of the stage's deps.
    """
    models = {}
    whole = [out for other in pipeline.stages for out in other.outs if out.kind == "model"]
    for out in outs:
        entry = next((a for a in pipeline.artifacts if a.path == out.path and a.kind == "model"), None)
        if out.kind != "model" and entry is None:
            continue
        meta = {**(out.meta or {}), **(entry.meta if entry else {})}
        name = str(meta.get("name") or "") or (entry.name if entry else "")
        name = name or (settings.models.get(_from(out.path, pipeline.folder), "") if pipeline.own else "")
        labels = list(dict.fromkeys([*(entry.labels if entry else ()), *out.labels]))
        note = {"dvc.desc": (entry.desc if entry else "") or out.desc, "dvc.labels": ", ".join(labels)}
        register = _registered(entry.name, pipeline.folder) if entry else None
        if pipeline.own and settings.register:
            given = stage.params.get(f"{stage.name.partition('@')[0]}.{settings.register}")
            register = str(given) if given else register
        models[out.path] = Model(
            name or named_after(out.path, [other.path for other in whole]), out.path,
            _trained_on(meta, out, stage, pipeline.folder), register, labels if entry else [],
            {key: value for key, value in note.items() if value},
        )  # fmt: skip
    return list(models.values())


def _registered(name: str, folder: str) -> str:
    """A model's name in the registry: that of its artifact, with the folder of its dvc.yaml before it."""
    return name if folder == "." else f"{folder}-{name}"


def named_after(path: str, all_paths: Sequence[str]) -> str:
    """A model's name: its file's without suffix, or the path where models of the pipeline share that."""
    stems = [names.plain(PurePosixPath(other).stem) for other in all_paths]
    own = names.plain(PurePosixPath(path).stem)
    return own if stems.count(own) < 2 else path


def _from(path: str, folder: str) -> str:
    return posixpath.relpath(path, folder)


def _trained_on(meta: Mapping[str, Any], model: LockedData, stage: LockedStage, folder: str) -> str | None:
    """The dependency that dvc.yaml says a model was trained on; LineageError where it is none."""
    stated = meta.get("trained_on")
    if stated is None:
        return None
    path, deps = posixpath.normpath(posixpath.join(folder, str(stated))), [dep.path for dep in stage.deps]
    if path not in deps:
        raise LineageError(
            f"dvc.yaml, stage {stage.name}, {model.path}: meta.trained_on is {stated!r}, which is none "
            f"of the stage's deps. Name one of them, as seen from dvc.yaml: {', '.join(deps)}."
        )
    return path


def notes(data: LockedData) -> dict[str, str]:
    """What dvc.yaml says of data in words, as tags of it as an input."""
    words = {
        "dvc.desc": data.desc,
        "dvc.type": data.kind,
        "dvc.labels": ", ".join(data.labels),
        "dvc.meta": json.dumps(data.meta, sort_keys=True, default=str) if data.meta else "",
    }
    return {key: value[:500] for key, value in words.items() if value}


def params_of(stage: LockedStage) -> dict[str, str]:
    """The params of a stage as text, and the plugins that it used."""
    return {key: tags.written(value) for key, value in flatten(stage.params).items()} | plugins_of(stage)


def plugins_of(stage: LockedStage) -> dict[str, str]:
    """The plugins that the stage used: of those in its code file's part, the ones that params name."""
    own = {key: value for key, value in stage.params.items() if not key.startswith("models.")}
    named = {part for key in own for part in key.split(".")} | {str(value) for value in own.values()}
    allowed = {key.partition(".")[2]: entry for key, entry in stage.code.items() if not key.endswith(".core")}
    used = {name: entry for name, entry in allowed.items() if len(allowed) == 1 or name in named}
    return {
        f"plugin.{name}": f"{name} ({entry.get('distribution')} {entry.get('version')})"
        for name, entry in used.items()
    }


def complete(
    record: Record, stage: LockedStage, pipeline: LockedPipeline, contents: Contents, folder: Path
) -> list[Point]:
    """Add to a record what dvc.yaml says of its stage's outs; plots are written below `folder`.

    What the record says already counts, then what the stage said of itself where an out has kept it. What
    can't be read is named in `record.lacks`.
    """
    mine = [path for path in pipeline.metrics if data_of([path], stage.outs)]
    plots = [path for path in pipeline.plots if data_of([path], stage.outs)]
    said_by_stage = [out for out in stage.outs if out.kind == words.TYPE]
    wanted = [*data_of([*mine, *plots], stage.outs), *said_by_stage]
    contents.bring(wanted)
    contents.bring(file for out in wanted for file in contents.files(out) or [])
    metrics, lacking = read_metrics(mine, stage.outs, contents)
    points, bare = write_plots(plots, stage.outs, contents, folder, record.ended or record.started)
    said, silent = words.kept(said_by_stage, contents)
    record.params = {**said.params, **record.params}
    record.metrics = {**metrics, **said.metrics, **record.metrics}
    record.tags = {**{f"version.{name}": number for name, number in said.versions.items()}, **record.tags}
    record.lacks = ", ".join(dict.fromkeys([*lacking, *bare, *silent]))
    if record.lacks:
        files = [file for out in wanted for file in contents.files(out) or [out]]
        record.nowhere = sorted(
            {file.digest for file in files if file.digest and contents.read(file) is None}
        )
    return points
