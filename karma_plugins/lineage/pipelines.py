"""The state of a pipeline, known when it starts, and the git commit under it."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from karma_plugins.lineage.git import git
from karma_plugins.lineage.hashing import LineageError, project_root, workspace_root
from karma_plugins.lineage.held import WRITTEN_BY_DVC, AtCommit
from karma_plugins.lineage.settings import ANY, Settings

PARAMS: Final = "params.yaml"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What decides a pipeline's results and is known when it starts.

    `state` digests what its stages are told to do, the values in params.yaml and every file and dependency
    that no stage makes; at a clean commit it is decided by the commit alone. `params` are those of
    params.yaml with flat keys (`judge.list`), and of other params files with the file before them
    (`conf.json:lr`); `changed` holds the keys of params.yaml that differ from the last commit.
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


def pipeline(folder: Path, settings: Settings = ANY) -> Pipeline:
    """The state of the pipeline in `folder` as it starts now (in an experiment: of its temporary copy)."""
    from karma_plugins.lineage.reading import starting

    return starting(folder.resolve(), settings)[0]


def described(
    folder: str,
    definitions: Any,
    sources: Mapping[str, str],
    params: Mapping[str, Any],
    before: Mapping[str, Any],
    settings: Settings = ANY,
) -> Pipeline:
    """The state made of what stages do, of what they read that no stage makes, and of params."""
    aside = tuple(f"{section}." for section in settings.aside)
    values = {key: value for key, value in params.items() if not key.startswith(aside)}
    parts = [folder, definitions, sorted(sources.items()), sorted(values.items())]
    digest = hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()
    changed = tuple(
        sorted(key for key in params.keys() | before.keys() if params.get(key) != before.get(key))
    )
    return Pipeline(digest, params, changed if before else ())


def lies_in(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it; both from the root, in their shortest form."""
    return folder == "." or path == folder or path.startswith(f"{folder}/")


def makes(outs: Iterable[str], path: str) -> bool:
    """Whether a path is one of the outs, lies in one, or holds one."""
    return any(lies_in(path, out) or lies_in(out, path) for out in outs)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping with one dotted key for each leaf; a list is a leaf."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_params(text: str | bytes | None, name: str = PARAMS) -> dict[str, Any]:
    """Flat params of a YAML file, read as DVC reads them (YAML 1.2: `1e-5` is a number).

    Raises LineageError where it is no YAML, no UTF-8, or names a key twice.
    """
    from karma_plugins.params import yaml

    try:
        nested = yaml.parse(text.decode() if isinstance(text, bytes) else text or "", dates=True)
    except (yaml.YamlError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise LineageError(f"{name}: can't be read ({reason[:200]}). Correct that file.") from error
    return flatten(nested) if isinstance(nested, Mapping) else {}


def params_before(root: Path, rev: str, path: str) -> dict[str, Any]:
    """The params of a file in a commit; empty where there is none, or none that can be read."""
    try:
        return read_params(AtCommit(root, rev).read(path))
    except LineageError:
        return {}


def commit(folder: Path) -> Commit | None:
    """The git commit that `folder` stands on, or null outside a repository or before its first commit."""
    sha = git(folder, "rev-parse", "HEAD").strip()
    if not sha:
        return None
    excluded = [f":(top,exclude,glob)**/{name}" for name in WRITTEN_BY_DVC]
    changes = git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", *excluded)
    branch = git(project_root(folder), "branch", "--show-current").strip()
    return Commit(sha, branch, bool(changes.strip()))


def place(folder: Path) -> str:
    """A pipeline's folder as seen from the root of its workspace."""
    return posixpath.normpath(Path(os.path.relpath(folder, workspace_root(folder))).as_posix())
