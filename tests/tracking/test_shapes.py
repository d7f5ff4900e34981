"""Repositories of the shapes of public DVC projects: all that DVC knows of them is in MLflow after a sync."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from karma_plugins.lineage import verifying
from tests.lineage import shapes
from tests.lineage.projects import Project
from tests.tracking.table import Table

pytestmark = pytest.mark.usefixtures("tracked")
#: A file of each shape that something reads, to be changed.
READ = {
    "tutorial": "src/prepare.sh", "live": "data/pool/0.jpg", "versions": "model.weights.h5",
    "monorepo": "shared/clean.sh", "sweep": "raw.txt", "old": "raw.txt", "imports": "use/cats.csv",
    "flags": "raw.txt", "international": "größen/2 mal.txt",
}  # fmt: skip

#: Those that are always tried; each takes some seconds, all with KARMA_SLOW_TESTS.
FEW = ("monorepo", "old", "imports", "flags")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with shapes.web({"data.xml": b"<a/>\n"}) as served:
        yield served


def status(project: Project) -> set[str]:
    """The paths that `dvc status` calls changed."""
    from dvc.repo import Repo

    with chdir(project.root), Repo() as repo:
        said: dict[str, list[Any]] = repo.status()
    kinds = [change for changes in said.values() for change in changes if isinstance(change, dict)]
    return {path for change in kinds for entries in change.values() for path in entries}


def data_status(project: Project) -> set[str]:
    """The paths that `dvc data status` calls changed in the workspace, or lost."""
    from dvc.repo import Repo

    with chdir(project.root), Repo() as repo:
        said = repo.data_status(granular=True)
    changes = [*said["uncommitted"].items(), ("not_in_cache", said["not_in_cache"])]
    return {path for kind, paths in changes if kind != "unknown" for path in paths}


@pytest.mark.parametrize("shape", shapes.SHAPES if "KARMA_SLOW_TESTS" in os.environ else FEW)
def test_all_that_dvc_knows_of_a_project_is_in_mlflow_and_verify_agrees_with_status(
    shape: str, tmp_path: Path, database: Path, address: str
) -> None:
    project = shapes.make(shape, tmp_path, database, address)
    project.karma("sync")
    table = Table(project)
    assert table.lacking == []
    assert sum(count.there for count in table.counts.values()) > 3
    for again in (("sync",), ("sync", "--all-commits")):
        assert "Nothing changed." in project.karma(*again)
    assert "0 differences" in project.karma("verify")
    assert status(project) | data_status(project) == set()
    project.write({READ[shape]: "other\n"})
    agree(project)
    shutil.rmtree(project.root / ".dvc/cache", ignore_errors=True)
    agree(project)


def agree(project: Project) -> None:
    """Whether verify names what `dvc status` and `dvc data status` name, and nothing else."""
    differences = verifying.verify(project.root).differences
    changed = {path.removesuffix("/") for path in status(project) | data_status(project)}
    assert changed
    for path in changed:
        assert any(overlap(difference.where, path) for difference in differences), path
    for difference in differences:
        assert any(overlap(difference.where, path) for path in changed), difference


def overlap(one: str, other: str) -> bool:
    """Whether one is the other or lies in it; a stage's own words for a path are its last part."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/") or one.endswith(other)
