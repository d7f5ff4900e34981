"""A small repository of two plain stages that DVC runs, pushed to a remote and tracked in MLflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

DVC = [sys.executable, "-m", "dvc"]
COMMIT = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m"]

MAKE = """
    from pathlib import Path
    import polars as pl
    from karma_plugins import tracking
    from karma_plugins.staging import OURS

    with tracking.stage(
        "make", params={"rows": 3}, inputs=[Path("raw.txt")], outs=[Path("data/t.parquet")], settings=OURS
    ) as run:
        Path("data").mkdir(exist_ok=True)
        pl.DataFrame({"text": ["a", "b"], "n": [1, 2], "turns": [["x"], []]}).write_parquet("data/t.parquet")
        for step in range(1000):
            run.progress({"loss": 1.0 / (step + 1)}, step)
        run.metrics({"rows": 2})
"""
FIT = """
    from pathlib import Path
    from karma_plugins import tracking
    from karma_plugins.staging import OURS

    with tracking.stage("fit", settings=OURS, item="small", params={"kind": {"a": 1}},
                        inputs=[Path("data/t.parquet")],
                        outs=[Path("data/model"), Path("data/fit.json")]) as run:
        Path("data/model/deep").mkdir(parents=True)
        Path("data/model/weights").write_text("weights")
        Path("data/model/deep/config").write_text("config")
        Path("data/model/left.tmp").write_text("ignored")
        Path("data/fit.json").write_text('{"fit": {"loss": 0.25}}')
        run.metrics({"fit.loss": 0.25})
        run.model(Path("data/model"), trained_on=Path("data/t.parquet"), register="aligned-small")
"""
PIPELINE = """
    stages:
      make: {cmd: python make.py, deps: [raw.txt, make.py], outs: [data/t.parquet]}
      fit:
        foreach: [small]
        do:
          cmd: python fit.py
          deps: [data/t.parquet, fit.py]
          params: [train.objective]
          outs:
            - data/model: {type: model, meta: {trained_on: data/t.parquet}}
          metrics: [data/fit.json]
"""
PARAMS = "curriculum: {pairing: kin}\ntrain: {objective: dpo, rate: 1e-5}\n"


PLAIN = """
    stages:
      part:
        foreach: [one, two]
        do:
          cmd:
            - mkdir -p data/parts/${item} && cat src/*.txt > data/parts/${item}/text
            - echo > data/parts/${item}/left.tmp
          deps: [src]
          outs: ["data/parts/${item}"]
      gather:
        cmd:
          - cat data/parts/*/text > data/all.txt && cp raw.txt data/raw.txt
          - printf '{"loss":1e-5}' > data/fit.yaml && printf '[fit]\\nn = 2\\n' > data/more.toml
        deps: [raw.txt, data/parts, data/parts/one/text]
        outs: [data/all.txt, data/raw.txt]
        metrics: [data/fit.yaml, data/more.toml]
"""


def environment(**more: str) -> dict[str, str]:
    """The environment with tracking on and nothing of MLflow's but what is given."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    return {
        **env,
        "KARMA_TRACKING": "on",
        "KARMA_TRACKING_WAIT": "120",
        "DVC_NO_ANALYTICS": "1",
        **more,
    }


def run(command: list[str], cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=environment(**more), capture_output=True, text=True, check=True
    )


def make_repository(folder: Path, **files: str) -> Path:
    """A repository with a remote beside it, by default of two stages that track themselves; nothing ran."""
    folder.mkdir(parents=True)
    files = files or {"make.py": MAKE, "fit.py": FIT, "dvc.yaml": PIPELINE, "params.yaml": PARAMS}
    files |= {"raw.txt": "raw\n", ".gitignore": "/data\n/.karma\n/mlflow.db*\n/mlruns\n"}
    run(["git", "init", "-q", "-b", "main", "."], folder)
    run([*DVC, "init", "-q"], folder)
    run([*DVC, "remote", "add", "-q", "--default", "store", str(folder.parent / "remote")], folder)
    for name, text in {**files, ".dvcignore": "*.tmp\n"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    run(["git", "add", "-A"], folder)
    run([*COMMIT, "two stages"], folder)
    return folder


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository after `dvc repro` on a fresh database, pushed and committed; tests only read it."""
    root = make_repository(tmp_path_factory.mktemp("repro") / "two-stages")
    run([*DVC, "repro"], root, OPENAI_API_KEY="sk-very-secret")
    run([*DVC, "push", "-q"], root)
    run(["git", "add", "-A"], root)
    run([*COMMIT, "ran"], root)
    return root


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that knows nothing of us, run and pushed: a folder in git, gathered outs, a copy."""
    files = {"dvc.yaml": PLAIN, "src/a.txt": "a\n", "src/b.txt": "b\n"}
    root = make_repository(tmp_path_factory.mktemp("theirs") / "plain", **files)
    run([*DVC, "repro", "-q"], root)
    run([*DVC, "push", "-q"], root)
    run(["git", "add", "-A"], root)
    run([*COMMIT, "ran"], root)
    return root


@pytest.fixture
def copied(reproduced: Path, tmp_path: Path) -> Path:
    """A copy of the reproduced repository and its database, to change."""
    return Path(shutil.copytree(reproduced, tmp_path / reproduced.name, symlinks=True))


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database with nothing in it: making one takes seconds."""
    folder = tmp_path_factory.mktemp("database")
    program = "import sys; from mlflow import MlflowClient as C; C(sys.argv[1]).search_experiments()"
    run([sys.executable, "-c", program, f"sqlite:///{folder / 'mlflow.db'}"], folder)
    return folder / "mlflow.db"


@pytest.fixture
def cloned(reproduced: Path, database: Path, tmp_path: Path) -> Path:
    """A fresh clone without data, in a folder of another name; its database holds nothing."""
    run(["git", "clone", "-q", str(reproduced), str(tmp_path / "clone")], tmp_path)
    shutil.copyfile(database, tmp_path / "clone" / "mlflow.db")
    return tmp_path / "clone"


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracking as outside the tests, to the default store; however busy the machine is, it is waited for."""
    for name in [name for name in os.environ if name.startswith("MLFLOW")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KARMA_TRACKING", "on")
    monkeypatch.setenv("KARMA_TRACKING_WAIT", "120")


def client(root: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def runs(root: Path, role: str, mlflow: Any = None) -> dict[str, Any]:
    """Runs of a role by their names, of the experiment that the repository has unnamed."""
    from karma_plugins.tracking.store import default_name

    mlflow = mlflow or client(root)
    experiment = mlflow.get_experiment_by_name(default_name(root))
    found = mlflow.search_runs([experiment.experiment_id], f"tags.`karma.role` = '{role}'")
    assert len(found) == len({entry.info.run_name for entry in found}), "a run is there twice"
    return {entry.info.run_name: entry for entry in found}


def locked(root: Path) -> dict[str, str]:
    """Every hash in dvc.lock, by path."""
    stages = YAML(typ="safe").load((root / "dvc.lock").read_text())["stages"].values()
    return {entry["path"]: entry["md5"] for stage in stages for entry in [*stage["deps"], *stage["outs"]]}
