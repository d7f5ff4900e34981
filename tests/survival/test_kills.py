"""kill -9, SIGTERM and Ctrl-C at random moments of each stage: the outs are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from karma_plugins import models, training
from karma_plugins.params import TrainSection
from tests.tiny import write_model
from tests.training.preferences import objective, pairs

HERE = Path(__file__).resolve().parent
slow = pytest.mark.skipif("KARMA_SLOW_TESTS" not in os.environ, reason="minutes: set KARMA_SLOW_TESTS=1")
#: Kills for each stage, or fewer where a machine has little time (KARMA_KILLS).
MOMENTS = int(os.environ.get("KARMA_KILLS", "20"))


def real(base: Path, folder: Path, name: str) -> dict[str, bytes]:
    """The bytes of a model trained with a built-in objective."""
    folder.mkdir(exist_ok=True)
    options: dict[str, Any] = {"max_new_tokens": 4} if name == "rloo" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        training.train(
            pairs(16, phases=1), models.load("base", base), objective(name, **options),
            TrainSection(base="base", batch_size=4, epochs=1.5, checkpoint_steps=2, learning_rate=1e-3),
            output=folder / "model", checkpoints=folder / ".karma" / "train",
        )  # fmt: skip
    return {path.name: path.read_bytes() for path in (folder / "model").iterdir()}


@slow
@pytest.mark.parametrize("stage", ["generate", "judge", "jury", "train", "evaluate"])
def test_kills_of_a_stage_change_no_byte(stage: str, tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "other")):
        write_model(tmp_path / name, seed=seed)
    ended = subprocess.run(
        [sys.executable, "-m", "tests.survival.kill_stages", stage, str(tmp_path), str(MOMENTS), "7"],
        cwd=HERE.parent.parent, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    came = json.loads(ended.stdout)
    assert not came["faults"], came["faults"]
    assert came["same"]
    assert came["hits"] == MOMENTS, came
    assert not came["damaged"]
    said = f"{stage}: {came['hits']} kills ({came['ends']}) of work of {came['seconds']:.1f} s"
    sys.stdout.write(f"\n{said}: the same {came['files']} files\n")


@slow
@pytest.mark.parametrize("first", [True, False])
def test_kills_of_sync_leave_mlflow_whole(
    first: bool, reproduced: Path, cloned: Path, tmp_path: Path
) -> None:
    """The first sync makes the database, a later one finds it; after the kills one sync completes all."""
    from tests.lineage.two_stages import DVC, run, runs

    run([*DVC, "pull", "-q"], cloned)
    if first:
        (cloned / "mlflow.db").unlink()
    ended = subprocess.run(
        [sys.executable, "-m", "tests.survival.kill_sync", str(cloned), str(MOMENTS)],
        cwd=HERE.parent.parent, capture_output=True, text=True, check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")} | {"KARMA_TRACKING": "on"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    came = json.loads(ended.stdout)
    assert came["hits"] == MOMENTS, came
    assert not came["faults"], came["faults"]
    children = runs(cloned, "stage")
    assert set(children) == {"make", "fit@small"}
    assert {child.info.status for child in children.values()} == {"FINISHED"}
    assert children["fit@small"].data.metrics == {"fit.loss": 0.25}
    assert not list(cloned.glob("*.partial*"))
    said = f"{'first' if first else 'later'} sync: {came['hits']} kills ({came['ends']})"
    sys.stdout.write(f"\n{said}: MLflow complete after one more\n")
