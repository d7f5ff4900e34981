"""What dvc.yaml and dvc.lock claim, in the workspace or at a commit: what every stage read and wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from karma_plugins.lineage.git import git, objects
from karma_plugins.lineage.hashing import LineageError, open_repo
from karma_plugins.lineage.pipelines import Commit, Pipeline
from karma_plugins.lineage.settings import ANY, Settings

#: A ref of an experiment: its baseline's commit, cut in two, and its name.
EXPERIMENT: Final = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(?P<name>[^/]+)")


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit whose dvc.lock is read, with the experiment it is, if any; null `sha` is the workspace."""

    sha: str | None = None
    branch: str = ""
    experiment: str = ""

    def __str__(self) -> str:
        return self.experiment or self.branch or (self.sha or "the workspace")[:10]


@dataclass(frozen=True, slots=True)
class LockedData:
    """A file or folder by its path from the root of the repository (or address), with what dvc.yaml says.

    `digest` is the hash of dvc.lock, its kind is `hash_name` (`md5`, `md5-dos2unix` of before DVC 3, `etag`,
    …). `kind`, `desc`, `labels` and `meta` are the annotations of an out; `metric` and `plot` say that it is
    a file of metrics or for plots.
    """

    path: str
    digest: str
    size: int | None = None
    hash_name: str = "md5"
    metric: bool = False
    plot: bool = False
    kind: str = ""
    desc: str = ""
    labels: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def in_repository(self) -> bool:
        """Whether it is a path in the repository, no address or path elsewhere."""
        return "://" not in self.path and not self.path.startswith(("/", "../"))


@dataclass(frozen=True, slots=True)
class Artifact:
    """An entry of `artifacts` in dvc.yaml: something of a name, at a path from the root."""

    name: str
    path: str
    kind: str = ""
    desc: str = ""
    labels: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LockedStage:
    """A stage (`generate@trunk`) as it last ran.

    `params` have the names of params.yaml (`train.lr`), those of other files the file before them
    (`conf.json:lr`). `code` holds what the project's code file said then, by label: distribution, version,
    digest. `stale` says in which ways command, params or data are not those of the revision: the stage ran
    for another state.
    """

    name: str
    params: Mapping[str, Any]
    code: Mapping[str, Mapping[str, str]]
    deps: tuple[LockedData, ...]
    outs: tuple[LockedData, ...]
    stale: tuple[str, ...] = ()
    desc: str = ""

    @property
    def current(self) -> bool:
        """Whether it ran for the revision's own command, params and data."""
        return not self.stale


@dataclass(frozen=True, slots=True)
class LockedPipeline:
    """The stages of a folder, and what its dvc.yaml says beside them; `at` in ms since 1970.

    `metrics` and `plots` are paths from the root, of files or folders, made by stages or not. `never` names
    the stages that have not run. `own` says that the project's code file lies there. `loose` is data of its
    metrics, plots and artifacts that DVC or git hold and no stage makes.
    """

    folder: str
    revision: Revision
    commit: Commit | None
    at: int
    pipeline: Pipeline
    stages: tuple[LockedStage, ...]
    metrics: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    never: tuple[str, ...] = ()
    own: bool = False
    loose: tuple[LockedData, ...] = ()


def revisions(
    workspace: Path,
    revs: Sequence[str] = (),
    *,
    branches: bool = False,
    experiments: bool = False,
    tags: bool = False,
    commits: bool = False,
    since: str | None = None,
) -> list[Revision]:
    """The commits asked for, each once, oldest last; LineageError where git doesn't know one of them.

    `commits` are all that a branch, a tag or HEAD leads to; `since` (a date in git's words, or a revision)
    leaves out what is older.
    """
    revisions_by_sha: dict[str | None, Revision] = {}
    for rev in revs:
        revision = _named(workspace, rev)
        revisions_by_sha.setdefault(revision.sha, revision)
    kinds = (("refs/heads", branches), ("refs/tags", tags), ("refs/exps", experiments))
    for kind in [kind for kind, wanted in kinds if wanted]:
        form = "--format=%(objectname) %(*objectname) %(refname)"
        for line in git(workspace, "for-each-ref", form, kind).splitlines():
            own, peeled, ref = line.split(" ", 2)
            sha, experiment = peeled or own, EXPERIMENT.fullmatch(ref)
            if experiment:
                revisions_by_sha[sha] = Revision(sha, "", experiment["name"])
            elif kind != "refs/exps" and _is_commit(workspace, sha):
                revisions_by_sha.setdefault(sha, Revision(sha, ref.split("/", 2)[2]))
    if commits:
        listed = git(workspace, "rev-list", "HEAD", "--branches", "--tags").split()
        revisions_by_sha |= {sha: Revision(sha) for sha in listed if sha not in revisions_by_sha}
    return (
        _since(workspace, list(revisions_by_sha.values()), since)
        if since
        else list(revisions_by_sha.values())
    )


def _named(workspace: Path, name: str) -> Revision:
    """A revision as git knows it, or the experiment of that name; LineageError where neither is there."""
    sha = git(workspace, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    if sha:
        return Revision(sha, name if name != sha else "")
    listed = git(workspace, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines()
    refs = [line.split(" ", 1) for line in listed]
    shas = [sha for sha, ref in refs if (match := EXPERIMENT.fullmatch(ref)) and match["name"] == name]
    if len(shas) > 1:
        some = ", ".join(sha[:10] for sha in shas)
        raise LineageError(f"{name}: {len(shas)} experiments have that name. Name one by its commit: {some}.")
    if not shas:
        raise LineageError(f"{name}: git knows no such revision in {workspace}. `git fetch` it.")
    return Revision(shas[0], "", name)


def _is_commit(workspace: Path, sha: str) -> bool:
    known = objects(workspace.resolve()).read(sha)
    return known is not None and known[1] == "commit"


def _since(workspace: Path, chosen: list[Revision], since: str) -> list[Revision]:
    """Those that are not older than a revision's commit or a date."""
    sha = git(workspace, "rev-parse", "--verify", "--quiet", f"{since}^{{commit}}").strip()
    if sha:
        limit = time_of(workspace, sha)
    else:
        seconds = git(workspace, "rev-parse", f"--since={since}").strip().partition("=")[2]
        if not seconds.isdigit() or not re.search(r"\d|yesterday|last|ago", since):
            raise LineageError(f"--since {since}: neither a revision that git knows nor a date.")
        limit = 1000 * int(seconds)
    return [revision for revision in chosen if time_of(workspace, str(revision.sha)) >= limit]


def time_of(workspace: Path, sha: str) -> int:
    """When a commit was made, in milliseconds since 1970."""
    known = objects(workspace.resolve()).read(f"{sha}^{{commit}}")
    for line in known[2].split(b"\n") if known else []:
        if line.startswith(b"committer "):
            return 1000 * int(line.split()[-2])
    stamp = git(workspace, "show", "-s", "--format=%cI", sha).strip()
    return int(datetime.fromisoformat(stamp).timestamp() * 1000)


def locked(
    workspace: Path,
    revision: Revision | None = None,
    settings: Settings = ANY,
    faults: list[str] | None = None,
) -> list[LockedPipeline]:
    """Every pipeline of the repository, by folder; LineageError outside a DVC repository.

    A dvc.yaml that DVC can't read is an error, too; where `faults` is given it is named there, and all others
    are read.
    """
    from karma_plugins.lineage.reading import read

    folders: list[str] = []
    pipelines = read(open_repo(workspace), workspace.resolve(), revision or Revision(), settings, folders)
    if folders and faults is None:
        raise LineageError(folders[0])
    if faults is not None:
        faults += folders
    return pipelines
