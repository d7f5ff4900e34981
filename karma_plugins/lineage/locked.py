"""What dvc.lock claims, in the workspace or at a commit: the hashes that every stage read and wrote."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from karma_plugins.lineage import pipelines
from karma_plugins.lineage.hashing import LineageError, open_repo
from karma_plugins.lineage.pipelines import Commit, Pipeline, flatten, git

if TYPE_CHECKING:
    from dvc.repo import Repo

CODE: Final = "karma.lock.json"
#: Folder of notes: what karma.lock.json said of the plugins of a stage that names several, in `STAGE.json`.
NOTES: Final = "code"
#: A ref of an experiment: its baseline's commit, cut in two, and its name.
EXPERIMENT: Final = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(?P<name>[^/]+)")


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit whose dvc.lock is read, with the experiment it is, if any; null `sha` is the workspace."""

    sha: str | None = None
    branch: str = ""
    experiment: str = ""


@dataclass(frozen=True, slots=True)
class LockedData:
    """A file or folder by its path from the root of the repository, with what dvc.yaml says of an out.

    `kind` and `meta` are the out's annotations `type` and `meta`; `metric` marks a metrics file.
    """

    path: str
    md5: str
    size: int | None = None
    metric: bool = False
    kind: str = ""
    meta: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LockedStage:
    """A stage (`generate@trunk`) as it last ran. Its own section of params.yaml has keys without its name.

    `code` holds what karma.lock.json said then, by key: distribution, version, digest. A stage is `current`
    where command, params and hashes are those of the revision; otherwise it ran for another state.
    """

    name: str
    params: Mapping[str, Any]
    code: Mapping[str, Mapping[str, str]]
    deps: tuple[LockedData, ...]
    outs: tuple[LockedData, ...]
    current: bool


@dataclass(frozen=True, slots=True)
class LockedPipeline:
    """A dvc.yaml with its dvc.lock, and the folder they lie in from the root; `at` in ms since 1970."""

    folder: str
    revision: Revision
    commit: Commit | None
    at: int
    pipeline: Pipeline
    stages: tuple[LockedStage, ...]


def revisions(
    workspace: Path, revs: tuple[str, ...] = (), *, branches: bool = False, experiments: bool = False
) -> list[Revision]:
    """The commits asked for, each once; LineageError where git doesn't know one of them."""
    found: dict[str | None, Revision] = {}
    for rev in revs:
        sha = git(workspace, "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}").strip()
        if not sha:
            raise LineageError(f"{rev}: git knows no such revision in {workspace}. `git fetch` it.")
        found.setdefault(sha, Revision(sha, rev if rev != sha else ""))
    for kind, wanted in (("refs/heads", branches), ("refs/exps", experiments)):
        refs = git(workspace, "for-each-ref", "--format=%(objectname) %(refname)", kind) if wanted else ""
        for sha, _, ref in (line.partition(" ") for line in refs.splitlines()):
            experiment = EXPERIMENT.fullmatch(ref)
            if kind == "refs/heads":
                found.setdefault(sha, Revision(sha, ref.removeprefix("refs/heads/")))
            elif experiment:
                found[sha] = Revision(sha, "", experiment["name"])
    return list(found.values())


def locked(workspace: Path, revision: Revision | None = None) -> list[LockedPipeline]:
    """Every pipeline of the repository that has run, by folder; LineageError outside a DVC repository."""
    from dvc.exceptions import DvcException
    from dvc.repo.brancher import switch

    revision = revision or Revision()
    repo = open_repo(workspace)
    try:
        with switch(repo, revision.sha) if revision.sha else nullcontext():
            repo._reset()  # what an earlier call read may have changed
            return list(_pipelines(repo, workspace.resolve(), revision))
    except DvcException as error:
        place = f" of {revision.sha}" if revision.sha else ""
        raise LineageError(f"DVC can't read the pipeline{place}: {error}. `dvc status` says more.") from error


def _pipelines(repo: Repo, workspace: Path, revision: Revision) -> Iterator[LockedPipeline]:
    files = sorted({stage.path for stage in repo.index.stages if stage.cmd and not stage.is_data_source})
    for file in files:
        folder = posixpath.dirname(file)
        if not repo.fs.exists(posixpath.join(folder, "dvc.lock")):
            continue
        within = posixpath.relpath(folder, repo.root_dir)
        stages = [stage for stage in repo.index.stages if stage.path == file]
        if revision.sha is None:
            pipeline, commit = pipelines.pipeline(workspace / within), pipelines.commit(workspace)
            at = int(1000 * (workspace / within / "dvc.lock").stat().st_mtime)
        else:
            pipeline = _pipeline_at(repo, workspace, folder, stages, revision)
            commit = Commit(revision.sha, revision.branch, dirty=False)
            at = _time(workspace, revision.sha)
        yield LockedPipeline(within, revision, commit, at, pipeline, tuple(_stages(repo, stages)))


def _pipeline_at(repo: Repo, workspace: Path, folder: str, stages: list[Any], revision: Revision) -> Pipeline:
    """As `pipelines.pipeline`, of a commit: what no stage makes has the hash that dvc.lock holds."""
    import hashlib

    def text(name: str) -> str:
        path = posixpath.join(folder, name)
        return repo.fs.open(path, "rb").read().decode() if repo.fs.exists(path) else ""

    made = [PurePosixPath(out.fs_path) for stage in repo.index.stages if stage.cmd for out in stage.outs]
    hashes = {}
    for name in pipelines.DECIDING:
        if content := text(name):
            hashes[name] = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
    for dep in (dep for stage in stages for dep in stage.deps if dep.protocol in ("local", None)):
        path = PurePosixPath(dep.fs_path)
        name = posixpath.relpath(dep.fs_path, folder)
        if name == "params.yaml" or name in hashes or pipelines.makes(made, path):
            continue
        if dep.hash_name == "params":
            hashes[name] = hashlib.md5(text(name).encode(), usedforsecurity=False).hexdigest()
        elif dep.hash_info.value:
            hashes[name] = str(dep.hash_info.value)
    base = f"{revision.sha}^" if revision.experiment else revision.sha
    where = posixpath.relpath(folder, repo.root_dir)
    before = git(workspace, "show", f"{base}:./{posixpath.join(where, 'params.yaml')}")
    return pipelines.described(
        where, hashes, pipelines.read_params(text("params.yaml")), pipelines.read_params(before)
    )


def _stages(repo: Repo, stages: list[Any]) -> Iterator[LockedStage]:
    """The stages that have run, each checked against the revision's own files and the other stages' outs."""
    made = {out.fs_path: out.hash_info.value for s in repo.index.stages for out in s.outs if out.hash_info}
    for stage in sorted(stages, key=lambda stage: str(stage.name)):
        outs = [out for out in stage.outs if out.hash_info]
        if len(outs) < len(stage.outs):
            continue  # dvc.lock does not hold it
        params: dict[str, Any] = {}
        code: dict[str, Any] = {}
        deps, current = [], not stage.cmd_changed
        base = str(stage.name).partition("@")[0]
        for dep in stage.deps:
            if dep.hash_name == "params":
                values = dict(dep.hash_info.value or {})
                current &= not dep.status()
                (code if posixpath.basename(dep.fs_path) == CODE else params).update(values)
            elif dep.hash_info and dep.protocol in ("local", None):  # a remote file's tag is no hash of bytes
                deps.append(dep)
                if dep.fs_path.replace("\\", "/").endswith(f"/{NOTES}/{base}.json"):
                    code |= _note(repo, dep)
                current &= made.get(dep.fs_path, dep.hash_info.value) == dep.hash_info.value
        yield LockedStage(
            str(stage.name),
            {key.removeprefix(f"{base}."): value for key, value in flatten(params).items()},
            _code(code),
            tuple(_data(repo, dep) for dep in deps),
            tuple(_data(repo, out) for out in outs),
            current,
        )


def _data(repo: Repo, out: Any) -> LockedData:
    annotation = getattr(out, "annot", None)
    return LockedData(
        posixpath.relpath(out.fs_path, repo.root_dir),
        str(out.hash_info.value),
        out.meta.size,
        bool(getattr(out, "metric", False)),
        (annotation.type if annotation else None) or "",
        (annotation.meta if annotation else None) or {},
    )


def _note(repo: Repo, dep: Any) -> dict[str, Any]:
    """The entries of karma.lock.json that a note holds, from DVC's cache; none where it is not there."""
    try:
        content = Path(repo.cache.local.oid_to_path(dep.hash_info.value)).read_bytes()
        note = json.loads(content)
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _code(values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Entries of karma.lock.json by key (`judge.core`), whether dvc.lock holds a section or a key of one."""
    entries: dict[str, dict[str, str]] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and "digest" in value:
            entries[key] = dict(value)
        elif isinstance(value, Mapping):
            whole = {f"{key}.{name}": entry for name, entry in value.items()}
            entries |= {name: dict(entry) for name, entry in whole.items() if isinstance(entry, Mapping)}
    return entries


def _time(workspace: Path, sha: str) -> int:
    stamp = git(workspace, "show", "-s", "--format=%cI", sha).strip()
    return int(datetime.fromisoformat(stamp).timestamp() * 1000)
