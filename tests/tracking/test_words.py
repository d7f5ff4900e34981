"""What a stage says of itself is an out that DVC keeps, so that a restored stage says it again."""

from __future__ import annotations

import json
import shutil
from contextlib import chdir
from pathlib import Path

import pytest

from karma_plugins import tracking
from tests.lineage.projects import Project, datasets

pytestmark = pytest.mark.usefixtures("tracked")
PIPELINE = """
    stages:
      fit:
        foreach: [a, b]
        do:
          cmd: python fit.py ${item}
          deps: [fit.py]
          outs: ["${item}.txt", "runs/${item}.json": {type: run}]
      grid:
        matrix: {size: [1, 2]}
        wdir: deep
        cmd: python ../fit.py ${item.size}
        outs: ["${item.size}.txt", "${item.size}.json": {type: run}]
"""


def fit(name: str, item: str, folder: Path, out: Path) -> None:
    """What a stage's process does, in this one."""
    params = {"rate": 0.1, "deep": {"layers": [1, 2]}}
    with chdir(folder), tracking.stage(name, params=params, inputs=[], outs=[out], item=item) as run:
        out.parent.mkdir(exist_ok=True)
        out.write_text(item)
        run.metrics({"loss": 0.25, "nested": {"f1": 1}})


@pytest.fixture
def project(tmp_path: Path, database: Path) -> Project:
    made = Project(tmp_path / "words", database)
    made.write({"fit.py": "", "deep/keep": "", "dvc.yaml": PIPELINE})
    made.commit()
    return made


@pytest.mark.parametrize("tracking_is", ["on", "off"])
def test_a_restored_stage_says_what_it_said_as_it_ran(
    tracking_is: str, project: Project, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARMA_TRACKING", tracking_is)
    for item in ("a", "b"):
        fit("fit", item, project.root, Path(f"{item}.txt"))
        assert json.loads((project.root / f"runs/{item}.json").read_text())["metrics"]["nested.f1"] == 1
    for item in ("1", "2"):
        fit("grid", item, project.root, Path(f"deep/{item}.txt"))
    project.dvc("commit", "-q", "-f")
    project.commit("ran")
    project.git("clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = Project.at(tmp_path / "clone")
    shutil.copytree(project.root / ".dvc/cache", clone.root / ".dvc/cache")
    shutil.copyfile(database, clone.root / "mlflow.db")
    monkeypatch.setenv("KARMA_TRACKING", "on")
    clone.karma("sync", "--rev", "HEAD")
    runs = {entry.info.run_name: entry for entry in clone.runs()}
    assert runs.keys() == {"fit@a", "fit@b", "grid@1", "grid@2"}
    for entry in runs.values():
        assert entry.data.params == {"rate": "0.1", "deep.layers": "[1, 2]"}
        assert entry.data.metrics == {"loss": 0.25, "nested.f1": 1.0}
        assert entry.data.tags["version.mlflow"]
        assert len(datasets(entry)) == (3 if entry.data.tags["karma.stage"] == "fit" else 2)
    if tracking_is == "on":
        before = {entry.info.run_name: entry.data for entry in project.runs()}
        assert {name: (data.params, data.metrics) for name, data in before.items()} == {
            name: (entry.data.params, entry.data.metrics) for name, entry in runs.items()
        }


def test_words_that_are_nowhere_or_no_json_are_named_and_told_later(project: Project) -> None:
    project.write({"dvc.yaml": "stages:\n  s: {cmd: echo words > s.json, outs: [s.json: {type: run}]}\n"})
    project.dvc("repro", "-q")
    project.commit("ran")
    assert "Without metrics or plots" in project.karma("sync", "--rev", "HEAD")
    assert project.run("s").data.metrics == {}


def test_a_stage_without_such_an_out_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARMA_TRACKING", "off")
    fit("fit", "a", tmp_path, Path("a.txt"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
