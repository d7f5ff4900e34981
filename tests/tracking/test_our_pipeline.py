"""Our own pipeline, all of its stages: what they told as they ran is what a sync makes of their commit."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lineage.projects import Project
from tests.lineage.two_stages import COMMIT, DVC, run
from tests.tracking.differences import differences, told

pytestmark = [
    pytest.mark.usefixtures("tracked"),
    pytest.mark.skipif("KARMA_SLOW_TESTS" not in os.environ, reason="minutes: set KARMA_SLOW_TESTS=1"),
]
KARMA = [sys.executable, "-m", "karma_plugins"]
SHARES = {"knowledge": 1, "reasoning": 1, "instruction": 1}
FAMILY = {
    "trunk": {"steps": 40, "form": "plain", "mixture": SHARES},
    "pupil": {"parent": "trunk", "steps": 40, "mixture": SHARES},
    "east": {"steps": 40, "form": "equals", "mixture": SHARES},
}


def tiny(params: dict[str, Any]) -> dict[str, Any]:
    """The shipped params with a family of three that trains in seconds."""
    params["zoo"] = {
        "people": 6, "towns": 4, "benchmark": 8, "train": 12, "heldout": 12, "lessons": 60, "hidden_size": 32,
        "layers": 1, "heads": 2, "batch_size": 16, "threads": 1, "family": FAMILY,
    }  # fmt: skip
    params["models"] = {name: params["models"][name] for name in FAMILY}
    params["curriculum"] |= {"pairing": "best-worst", "margin": 0.0, "budget": 40}
    params["train"] |= {"max_steps": 4, "batch_size": 4}
    params["evaluate"] |= {"samples": 1, "bootstrap": 100}
    return params


def pipeline(root: Path, repository: Path) -> None:
    """A repository of the shipped pipeline with tiny models; nothing has run."""
    root.mkdir()
    run(["git", "init", "-q", "-b", "main", "."], root)
    run([*DVC, "init", "-q"], root)
    run([*DVC, "config", "core.autostage", "false"], root)
    for name in ("dvc.yaml", ".gitignore"):
        shutil.copyfile(repository / name, root / name)
    shutil.copytree(repository / "stages", root / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    params = yaml.safe_load((repository / "params.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(tiny(params), sort_keys=False))
    run([*KARMA, "lock"], root)
    run(["git", "add", "-A"], root)
    run([*COMMIT, "tiny"], root)


def test_a_sync_of_our_own_pipeline_makes_what_its_stages_told(
    tmp_path: Path, repository: Path, database: Path
) -> None:
    ours, clone = tmp_path / "ours", tmp_path / "clone"
    pipeline(ours, repository)
    shutil.copyfile(database, ours / "mlflow.db")
    paths = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
    run([*DVC, "repro", "-q"], ours, PYTHONPATH=paths)
    run(["git", "add", "-A"], ours)
    run([*COMMIT, "ran"], ours)
    run(["git", "clone", "-q", str(ours), str(clone)], tmp_path)
    shutil.copytree(ours / ".dvc/cache", clone / ".dvc/cache")
    shutil.copyfile(database, clone / "mlflow.db")
    Project.at(clone).karma("sync", "--rev", "HEAD")
    as_they_ran, synced = told(ours / "mlflow.db"), told(clone / "mlflow.db")
    assert sum(name.startswith("stage ") for name in synced) == 16
    assert differences(as_they_ran, synced) == []
    assert "Nothing changed." in Project.at(ours).karma("sync")
