"""A small pipeline of recorded answers, run up to the curriculum once, and copied for each case."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from karma_plugins.errors import installed
from karma_plugins.registry import lock, manager
from tests.recorded_pipeline import inside
from tests.sweep import material
from tests.tiny import write_model

STAGES = (
    "prompts", "profile ada", "profile bob", "generate ada", "generate bob", "kinship", "judge reference",
    "jury", "curriculum",
)  # fmt: skip


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The folder that each case gets a copy of."""
    from tests.test_stops import run

    folder = tmp_path_factory.mktemp("sweep")
    with inside(folder, repository):
        material.write()
        if installed("torch") and installed("transformers"):
            for place in ("models/tiny", "data/model"):
                write_model(Path(place))
        lock.accept(manager.load())
        for stage in STAGES:
            done = run(*stage.split())
            assert done.exit_code == 0, f"{stage}: {done.output}"
    return folder


@pytest.fixture
def place(pipeline: Path, tmp_path: Path, repository: Path) -> Iterator[Path]:
    """A copy of the pipeline to break, which is the working directory."""
    folder = tmp_path / "w"
    shutil.copytree(pipeline, folder)
    before = dict(os.environ)
    with inside(folder, repository):
        yield folder
        os.environ.clear()
        os.environ.update(before)
