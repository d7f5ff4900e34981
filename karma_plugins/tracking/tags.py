"""Tags that say where a run comes from, and names that tell pipeline runs apart."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from karma_plugins import lineage

#: So many changed params are named, the others counted.
NAMED_CHANGES: Final = 2


def origin(folder: Path) -> dict[str, str]:
    """DVC stage and experiment, git commit, branch and whether files differ from it, as far as there are any.

    Of the environment nothing but the stage's and the experiment's name is told.
    """
    commit = lineage.commit(folder)
    tags = {
        "dvc.stage": os.environ.get("DVC_STAGE", ""),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
    }
    if commit:
        tags |= {"mlflow.source.git.commit": commit.sha, "mlflow.source.git.branch": commit.branch}
        tags["git.dirty"] = str(commit.dirty).lower()
    return {key: value for key, value in tags.items() if value}


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of installed libraries, none of which is imported for it."""
    by_library = {"python": platform.python_version()}
    for library in libraries:
        try:
            by_library[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return by_library


def pipeline_name(pipeline: lineage.Pipeline, origin: Mapping[str, str], telling: Sequence[str] = ()) -> str:
    """A pipeline run's name: experiment or commit, what was chosen, what was changed since, the state."""
    sha, branch = origin.get("mlflow.source.git.commit", ""), origin.get("mlflow.source.git.branch", "")
    place = origin.get("dvc.experiment") or (f"{branch}@{sha[:7]}" if sha and branch else sha[:7])
    chosen = [written(pipeline.params[key]) for key in telling if key in pipeline.params]
    changed = [f"{key}={written(pipeline.params.get(key))}" for key in pipeline.changed if key not in telling]
    if len(changed) > NAMED_CHANGES:
        changed[NAMED_CHANGES:] = [f"+{len(changed) - NAMED_CHANGES} more"]
    return " · ".join(part for part in (place, *chosen, *changed, pipeline.state[:4]) if part)


def written(value: Any) -> str:
    """A param's value as text."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
