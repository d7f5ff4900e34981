"""Pipelines read by DVC's own index, in the workspace or at a commit; stages checked for being current."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karma_plugins.lineage import pipelines
from karma_plugins.lineage.comparing import Comparer
from karma_plugins.lineage.documents import remembered
from karma_plugins.lineage.hashing import LineageError, open_repo, workspace_root
from karma_plugins.lineage.held import AtCommit, Held, InWorkspace
from karma_plugins.lineage.locked import (
    Artifact,
    LockedData,
    LockedPipeline,
    LockedStage,
    Revision,
    time_of,
)
from karma_plugins.lineage.pipelines import PARAMS, Commit, Pipeline
from karma_plugins.lineage.settings import Settings

if TYPE_CHECKING:
    from dvc.repo import Repo


def read(
    repo: Repo, workspace: Path, revision: Revision, settings: Settings, faults: list[str]
) -> list[LockedPipeline]:
    """Every pipeline of a revision, by folder; what can't be read is named in `faults`."""
    from dvc.exceptions import DvcException
    from dvc.repo.brancher import switch

    where = f" at {revision}" if revision.sha else ""
    try:
        with switch(repo, revision.sha) if revision.sha else nullcontext():
            return list(Reader(repo, workspace, revision, settings, faults).pipelines())
    except (DvcException, ValueError, OSError, LineageError) as error:
        faults.append(f"DVC can't read the pipeline{where}: {_line(error)}. `dvc status` says more.")
        return []


def starting(
    folder: Path, settings: Settings, stage_name: str | None = None
) -> tuple[Pipeline, LockedPipeline | None]:
    """The state of the pipeline in a folder as it starts now, and what its dvc.yaml says of one stage.

    Of data that no commit tells the bytes count. The stage has its params as they are now, and data without
    digests; null where dvc.yaml has no such stage.
    """
    workspace = workspace_root(folder)
    if not (workspace / ".dvc").is_dir() or not (folder / "dvc.yaml").is_file():
        return _bare(folder, settings), None
    faults: list[str] = []
    reader = Reader(open_repo(folder), workspace, Revision(), settings, faults, starting=True)
    within = pipelines.place(folder)
    stages = [stage for stage in reader.index.stages if reader.folder(stage) == within and stage.cmd]
    if faults and not stages:
        raise LineageError(faults[0])
    pipeline = reader.state(within, stages)
    own = [stage for stage in stages if name(stage) == stage_name]
    return pipeline, reader.declared(within, own[0], pipeline) if own else None


def _bare(folder: Path, settings: Settings) -> Pipeline:
    """The state of a folder without dvc.yaml: its params and the project's code file."""
    held = InWorkspace(folder)
    sources = {settings.code: held.oids(settings.code).get("", "")} if settings.code else {}
    params = pipelines.read_params(held.read(PARAMS))
    before = pipelines.params_before(folder, held.sha, PARAMS) if held.sha else {}
    return pipelines.described(str(folder.name), [], sources, params, before, settings)


class Reader:
    """The pipelines of one revision, as DVC's index has them and the repository's files."""

    def __init__(
        self,
        repo: Repo,
        workspace: Path,
        revision: Revision,
        settings: Settings,
        faults: list[str],
        *,
        starting: bool = False,
    ) -> None:
        from dvc.exceptions import DvcException
        from dvc.repo.index import Index

        repo._reset()  # what an earlier call read may have changed
        self.repo, self.workspace, self.revision, self.settings = repo, workspace, revision, settings
        where = f" at {revision}" if revision.sha else ""

        def fault(path: str, error: Exception) -> None:
            faults.append(f"{path}{where}: DVC can't read it: {_line(error)}")

        try:
            with remembered():
                self.index = Index.from_repo(repo, onerror=fault)
        except DvcException:
            raise
        except Exception as error:  # odd files make DVC raise odd errors: a date in params.yaml a TypeError
            raise LineageError(_line(error)) from error
        self.held: Held = AtCommit(workspace, revision.sha) if revision.sha else InWorkspace(workspace)
        self.comparer = Comparer(self, starting=starting)
        self.made = [self.path(out) for stage in self.index.stages if stage.cmd for out in stage.outs]
        self._locks: dict[str, Mapping[str, Any]] = {}
        self._values: dict[str, Mapping[str, Any]] = {}

    # --- places -------------------------------------------------------------------------------------------

    def path(self, data: Any) -> str:
        """The path of data from the root of the repository; an address, or a path elsewhere."""
        if data.protocol == "local" and data.is_in_repo:
            return str(posixpath.relpath(data.fs_path, self.repo.root_dir))
        return str(data.def_path if data.protocol != "local" else data.fs_path)

    def folder(self, stage: Any) -> str:
        """The folder of a stage's dvc.yaml from the root."""
        return str(posixpath.relpath(posixpath.dirname(stage.path), self.repo.root_dir))

    def from_root(self, file: str, path: str) -> str:
        """A path that a dvc.yaml names, from the root."""
        within = posixpath.relpath(posixpath.dirname(file), self.repo.root_dir)
        return posixpath.normpath(posixpath.join(within, path))

    # --- pipelines ----------------------------------------------------------------------------------------

    def pipelines(self) -> Iterator[LockedPipeline]:
        """Every pipeline, by folder."""
        index = self.index
        top = (index._metrics, index._params, index._plots, index._artifacts)
        folders: dict[str, list[Any]] = {}
        for stage in index.stages:
            if stage.cmd:
                folders.setdefault(self.folder(stage), []).append(stage)
        for file in {file for sections in top for file in sections}:
            folders.setdefault(self.from_root(file, "."), [])
        for folder, stages in sorted(folders.items()):
            if pipeline := self._pipeline(folder, sorted(stages, key=name)):
                yield pipeline

    def _pipeline(self, folder: str, stages: list[Any]) -> LockedPipeline | None:
        ran = [stage for stage in stages if self._ran(stage)]
        never = tuple(name(stage) for stage in stages if stage not in ran)
        metrics, plots, artifacts = self._tops(folder)
        if not ran and not (not stages and (metrics or plots or artifacts or self._param_files(folder))):
            return None
        locked = tuple(self._stage(stage) for stage in ran)
        named = [*metrics, *plots, *(artifact.path for artifact in artifacts)]
        loose = tuple(data for path in dict.fromkeys(named) if (data := self._loose(path)))
        commit, at = self._commit(folder)
        return LockedPipeline(
            folder, self.revision, commit, at, self.state(folder, stages), locked, metrics, plots,
            artifacts, never, self._is_own(folder), loose,
        )  # fmt: skip

    def declared(self, folder: str, stage: Any, pipeline: Pipeline) -> LockedPipeline:
        """A pipeline of one stage as it is about to run."""
        params: dict[str, Any] = {}
        code: dict[str, Any] = {}
        for dep in stage.deps:
            if dep.hash_name != "params":
                continue
            values = self.comparer.params_now(dep)
            if posixpath.basename(dep.fs_path) == self.settings.code:
                code |= values
            else:
                params |= named(self._params_name(stage, dep), pipelines.flatten(values))
        deps = [dep for dep in stage.deps if dep.hash_name != "params"]
        for dep in deps:
            code |= self._note(stage, dep)
        metrics, plots, artifacts = self._tops(folder)
        locked = LockedStage(
            name(stage), params, _code(code), tuple(self._bare_data(dep) for dep in deps),
            tuple(self._bare_data(out) for out in stage.outs), (), stage.desc or "",
        )  # fmt: skip
        return LockedPipeline(
            folder, self.revision, None, 0, pipeline, (locked,), metrics, plots, artifacts,
            own=self._is_own(folder),
        )  # fmt: skip

    def _bare_data(self, data: Any) -> LockedData:
        known = self._data(data)
        return replace(known, digest="") if known.in_repository else known

    def _is_own(self, folder: str) -> bool:
        return bool(
            self.settings.code and self.held.oids(posixpath.normpath(f"{folder}/{self.settings.code}"))
        )

    def _commit(self, folder: str) -> tuple[Commit | None, int]:
        if self.revision.sha:
            return (
                Commit(self.revision.sha, self.revision.branch, dirty=False),
                time_of(self.workspace, self.revision.sha),
            )
        here = self.workspace / folder
        files = [here / name for name in ("dvc.lock", "dvc.yaml") if (here / name).is_file()] or [here]
        return pipelines.commit(self.workspace), int(1000 * files[0].stat().st_mtime)

    def _tops(self, folder: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Artifact, ...]]:
        """Metrics, plots and artifacts that the folder's dvc.yaml names, beside its stages or in them."""
        outs = [out for stage in self.index.stages if self.folder(stage) == folder for out in stage.outs]
        metrics = [self.path(out) for out in outs if _is_metric(out)]
        plots = [self.path(out) for out in outs if out.plot]
        for file, paths in self.index._metrics.items():
            metrics += [self.from_root(file, path) for path in paths if self.from_root(file, ".") == folder]
        for file, entries in self.index._plots.items():
            if self.from_root(file, ".") == folder:
                plots += [self.from_root(file, path) for path in _plot_files(entries)]
        artifacts = [
            Artifact(
                key, self.from_root(file, entry["path"]), entry.get("type") or "", entry.get("desc") or "",
                tuple(entry.get("labels") or ()), entry.get("meta") or {},
            )
            for file, entries in self.index._artifacts.items() if self.from_root(file, ".") == folder
            for key, entry in entries.items() if entry and entry.get("path")
        ]  # fmt: skip
        return tuple(dict.fromkeys(metrics)), tuple(dict.fromkeys(plots)), tuple(artifacts)

    def _param_files(self, folder: str) -> list[str]:
        """Params files that the folder's dvc.yaml names beside its stages."""
        files = [
            self.from_root(file, path)
            for file, paths in self.index._params.items()
            if self.from_root(file, ".") == folder
            for path in paths
        ]
        return list(dict.fromkeys(files))

    def _loose(self, path: str) -> LockedData | None:
        """What no stage makes, by a .dvc file's hash or that of git's own bytes."""
        if pipelines.makes(self.made, path):
            return None
        for out in self.comparer.tracked:
            if self.path(out) == path and out.hash_info:
                return self._data(out)
        digest = next(iter(self.comparer.claims(path, "md5")), None)
        return LockedData(path, digest) if digest else None

    # --- stages -------------------------------------------------------------------------------------------

    def _ran(self, stage: Any) -> bool:
        """Whether dvc.lock (or the stage's own .dvc file) holds it."""
        if any(not out.hash_info for out in stage.outs):
            return False
        if stage.outs or any(dep.hash_info for dep in stage.deps):
            return True
        lock = posixpath.splitext(stage.path)[0] + ".lock"
        if lock not in self._locks:
            from karma_plugins.params import yaml

            text = self.repo.fs.open(lock, "rb").read() if self.repo.fs.exists(lock) else b""
            self._locks[lock] = (yaml.parse(text.decode(), dates=True) or {}).get("stages") or {}
        return stage.name in self._locks[lock]

    def _note(self, stage: Any, dep: Any) -> dict[str, Any]:
        """What a dep notes of the code file for a stage (`code/STAGE.json`), from DVC's cache or, where the
        stage is yet to run, from the workspace; nothing where it is not there.
        """
        base = name(stage).partition("@")[0]
        place = str(dep.fs_path or "").replace("\\", "/")  # an entry of `datasets` has none
        if not self.settings.code or not place.endswith(f"/code/{base}.json"):
            return {}
        cached = dep.hash_info and self.repo.cache.local.oid_to_path(dep.hash_info.value)
        try:
            note = json.loads(Path(cached or dep.fs_path).read_bytes())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def _stage(self, stage: Any) -> LockedStage:
        params: dict[str, Any] = {}
        code: dict[str, Any] = {}
        deps = []
        for dep in stage.deps:
            if dep.hash_name == "params":
                values = dict(dep.hash_info.value or {})
                if posixpath.basename(dep.fs_path) == self.settings.code:
                    code.update(values)
                else:
                    params |= named(self._params_name(stage, dep), pipelines.flatten(values))
            elif dep.hash_info:
                deps.append(self._data(dep))
                code |= self._note(stage, dep)
        return LockedStage(
            name(stage), params, _code(code), tuple(deps), tuple(self._data(out) for out in stage.outs),
            tuple(self.comparer.stale(stage)), stage.desc or "",
        )  # fmt: skip

    def _params_name(self, stage: Any, dep: Any) -> str:
        """A params file as seen from dvc.yaml."""
        return str(posixpath.relpath(dep.fs_path, posixpath.dirname(stage.path)))

    def _data(self, data: Any) -> LockedData:
        note = getattr(data, "annot", None)
        value, hash_name = data.hash_info.value, data.hash_info.name
        if isinstance(value, Mapping):  # an entry of `datasets`
            from karma_plugins.lineage.hashing import digest_of

            value = digest_of(value)
        return LockedData(
            self.path(data) if data.hash_name != "dataset" else data.def_path,
            str(value),
            data.meta.size if getattr(data, "meta", None) else None,
            hash_name,
            _is_metric(data),
            bool(getattr(data, "plot", False)),
            (note.type if note else None) or "",
            (note.desc if note else None) or "",
            tuple(note.labels or ()) if note else (),
            (note.meta if note else None) or {},
        )

    # --- state --------------------------------------------------------------------------------------------

    def state(self, folder: str, stages: list[Any]) -> Pipeline:
        """The state of the pipeline of these stages and of the stages that they get data from."""
        members = self._with_upstream(stages)
        local = [dep for stage in members for dep in stage.deps if dep.hash_name != "dataset"]
        default = posixpath.normpath(f"{folder}/{PARAMS}")
        sources = self.comparer.sources(dep for dep in local if self.path(dep) != default)
        files = [*self._param_files(folder)]
        if not stages:
            metrics, plots, artifacts = self._tops(folder)
            files += [*metrics, *plots, *(artifact.path for artifact in artifacts)]
        if self.settings.code:
            files.append(posixpath.normpath(f"{folder}/{self.settings.code}"))
        for path in files:
            if path != default and (known := self.comparer.identity(path, None)):
                sources[path] = known
        params = pipelines.flatten(self.values(default))
        base = f"{self.revision.sha}^" if self.revision.experiment else self.revision.sha
        before = pipelines.params_before(self.workspace, base or "HEAD", default)
        definitions = [
            [self.folder(stage), name(stage), stage.cmd, *self._definition(stage)]
            for stage in sorted(members, key=lambda stage: (self.folder(stage), name(stage)))
        ]
        described = pipelines.described(folder, definitions, sources, params, before, self.settings)
        return Pipeline(described.state, {**params, **self._other_params(folder, stages)}, described.changed)

    def _definition(self, stage: Any) -> list[Any]:
        keys = [sorted(dep.params) if dep.hash_name == "params" else [] for dep in stage.deps]
        deps = sorted([str(dep.def_path), *some] for dep, some in zip(stage.deps, keys, strict=True))
        return [
            posixpath.relpath(stage.wdir, self.repo.root_dir),
            deps,
            sorted(str(o.def_path) for o in stage.outs),
        ]

    def _with_upstream(self, stages: list[Any]) -> list[Any]:
        """The stages and all whose outs they read, near or far."""
        makers = [(self.path(out), stage) for stage in self.index.stages if stage.cmd for out in stage.outs]
        members = {id(stage): stage for stage in stages}
        waiting = list(stages)
        while waiting:
            for dep in waiting.pop().deps:
                path = self.path(dep) if dep.hash_name not in ("params", "dataset") else None
                for out, stage in makers if path else []:
                    if id(stage) not in members and pipelines.makes([out], path or out):
                        members[id(stage)] = stage
                        waiting.append(stage)
        return list(members.values())

    def _other_params(self, folder: str, stages: list[Any]) -> dict[str, Any]:
        """The values of params files beside params.yaml, that stages or dvc.yaml name."""
        files = {
            posixpath.relpath(dep.fs_path, self.repo.root_dir): self._params_name(stage, dep)
            for stage in stages
            for dep in stage.deps
            if dep.hash_name == "params" and posixpath.basename(dep.fs_path) != self.settings.code
        }
        files |= {path: posixpath.relpath(path, folder) for path in self._param_files(folder)}
        params: dict[str, Any] = {}
        for path, shown in files.items():
            if shown != PARAMS and (values := self.values(path)):
                params |= named(shown, pipelines.flatten(values))
        return params

    def values(self, path: str) -> Mapping[str, Any]:
        """The values in a params file, empty where there is none; LineageError where it can't be read."""
        if path not in self._values:
            from dvc.utils.serialize import ParseError, load_path

            where = self.repo.fs.join(self.repo.root_dir, path)
            try:
                loaded = load_path(where, self.repo.fs) if self.repo.fs.isfile(where) else {}
            except (ParseError, ValueError) as error:
                raise LineageError(f"{path}: can't be read ({_line(error)}). Correct that file.") from error
            self._values[path] = loaded if isinstance(loaded, Mapping) else {}
        return self._values[path]


def _is_metric(data: Any) -> bool:
    """Whether an out is a metric of dvc.yaml, or annotated (`type: metrics`) as one that DVC omits."""
    note = getattr(data, "annot", None)
    return bool(getattr(data, "metric", False)) or (note is not None and note.type == "metrics")


def name(stage: Any) -> str:
    """The name of a stage; of a stage in a .dvc file of its own the file's."""
    return str(stage.name or posixpath.basename(stage.path))


def named(file: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Params with the file before them, but for those of params.yaml."""
    return dict(values) if file == PARAMS else {f"{file}:{key}": value for key, value in values.items()}


def _plot_files(entries: Iterable[Any]) -> Iterator[str]:
    """The files that top-level plots name: as themselves, as ids, or as keys of `x` and `y`."""
    for entry in [{entry: {}} if isinstance(entry, str) else entry for entry in entries]:
        for key, options in entry.items():
            axes = [
                axis
                for axis in ((options or {}).get("x"), (options or {}).get("y"))
                if isinstance(axis, Mapping)
            ]
            yield from [str(file) for axis in axes for file in axis] or [str(key)]


def _code(values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Entries of a code file by key (`judge.core`), whether dvc.lock holds a section or a key of one."""
    entries: dict[str, dict[str, str]] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and "digest" in value:
            entries[key] = dict(value)
        elif isinstance(value, Mapping):
            whole = {f"{key}.{name}": entry for name, entry in value.items()}
            entries |= {key: dict(entry) for key, entry in whole.items() if isinstance(entry, Mapping)}
    return entries


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
