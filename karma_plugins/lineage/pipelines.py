"""The state of a pipeline, known when it starts, and the git commit under it."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from karma_plugins.lineage.hashing import LineageError, dvc_hash, open_repo, project_root, workspace_root

#: What a run of the pipeline rewrites by itself, so that a change in it is no change made by a person.
WRITTEN_BY_DVC: Final = ("**/dvc.lock", "**/.gitignore")
#: Files beside dvc.yaml that decide results; of params.yaml the values do.
DECIDING: Final = ("dvc.yaml", "karma.lock.json")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What decides a pipeline's results and is known when it starts.

    `state` digests dvc.yaml, karma.lock.json, the values in params.yaml (without section `tracking`, which
    decides no result) and every dependency that no stage makes; `params` is params.yaml with flat keys
    (`judge.list`); `changed` holds the keys that differ from the last commit.
    """

    state: str
    params: Mapping[str, Any]
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit under a folder, the branch (empty when detached), and whether files differ from it."""

    sha: str
    branch: str
    dirty: bool


def pipeline(folder: Path) -> Pipeline:
    """The state of the pipeline whose dvc.yaml lies in `folder` (in an experiment: of its temporary copy)."""
    folder = folder.resolve()
    deciding = {name: folder / name for name in DECIDING}
    if deciding["dvc.yaml"].is_file():
        deciding |= _sources(folder)
    hashes = {name: dvc_hash(path) for name, path in deciding.items() if path.exists()}
    params_file = folder / "params.yaml"
    params = read_params(params_file.read_text(encoding="utf-8") if params_file.is_file() else "")
    before = read_params(git(folder, "show", "HEAD:./params.yaml"), "params.yaml of HEAD")
    return described(os.path.relpath(folder, workspace_root(folder)), hashes, params, before)


def described(
    folder: str, hashes: Mapping[str, str], params: Mapping[str, Any], before: Mapping[str, Any]
) -> Pipeline:
    """The state made of params and of the hashes of what decides it, by their paths as seen from `folder`."""
    hashes = {posixpath.normpath(posixpath.join(folder, name)): md5 for name, md5 in hashes.items()}
    values = {key: value for key, value in params.items() if not key.startswith("tracking.")}
    told = json.dumps([sorted(hashes.items()), sorted(values.items())], default=str)
    changed = tuple(
        sorted(key for key in params.keys() | before.keys() if params.get(key) != before.get(key))
    )
    return Pipeline(hashlib.sha256(told.encode()).hexdigest(), params, changed if before else ())


def _sources(folder: Path) -> dict[str, Path]:
    """Params files and dependencies of the folder's stages that no stage of the repository makes."""
    index = open_repo(folder).index
    stages = [stage for stage in index.stages if Path(stage.path).parent == folder]
    made = [Path(out.fs_path) for stage in index.stages if stage.cmd for out in stage.outs]
    found = {}
    for dep in (dep for stage in stages for dep in stage.deps if dep.protocol == "local"):
        path = Path(dep.fs_path)
        if path != folder / "params.yaml" and not makes(made, path):
            found[os.path.relpath(path, folder)] = path
    return found


def makes(outs: Iterable[PurePath], path: PurePath) -> bool:
    """Whether a path is one of the outs, lies in one, or holds one."""
    return any(path.is_relative_to(out) or out.is_relative_to(path) for out in outs)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping with one dotted key for each leaf; a list is a leaf."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_params(text: str, where: str = "params.yaml") -> dict[str, Any]:
    """Flat params, read as DVC reads them; LineageError where `text` is no YAML."""
    from karma_plugins.params import yaml

    try:
        nested = yaml.parse(text, dates=True)
    except yaml.YamlError as error:
        raise LineageError(f"{where}: not readable as YAML ({error}).") from error
    return flatten(nested) if isinstance(nested, Mapping) else {}


def commit(folder: Path) -> Commit | None:
    """The git commit that `folder` stands on, or null outside a repository or before its first commit."""
    sha = git(folder, "rev-parse", "HEAD").strip()
    if not sha:
        return None
    excluded = [f":(top,exclude,glob){pattern}" for pattern in WRITTEN_BY_DVC]
    changes = git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", *excluded)
    branch = git(project_root(folder), "branch", "--show-current").strip()
    return Commit(sha, branch, bool(changes.strip()))


def git(folder: Path, *arguments: str) -> str:
    """What git prints; empty where git says no (no repository, no such file in the commit, no git)."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # DVC works without
        return ""
    return asked.stdout if asked.returncode == 0 else ""
