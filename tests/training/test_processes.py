"""Several processes train one process's model, up to rounding; sharded weights are saved whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from karma_plugins.errors import ParamsError
from karma_plugins.runtime import processes
from tests.tiny import write_model
from tests.training.train_together import OPTIONS, train

HERE = Path(__file__).resolve().parent
#: One objective always runs, the others where slow tests do.
FAST = ("dpo",)
slow = pytest.mark.skipif(not os.environ.get("KARMA_SLOW_TESTS"), reason="slow: set KARMA_SLOW_TESTS=1")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("processes") / "base")


def torchrun(script: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A script of this folder in two processes on this machine."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ended = subprocess.run(
        [*launch, HERE / script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": f"{HERE.parent.parent}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # a process that kills its group is to kill its kind alone
    )
    assert ended.returncode == 0 or not check, ended.stderr[-3000:]
    return ended


def losses(folder: Path) -> dict[int, float]:
    return dict(json.loads((folder / "losses.json").read_text()))


def distance(folder: Path, other: Path) -> float:
    """Between the weights of two models, as vectors."""
    mine, theirs = (load_file(place / "model.safetensors") for place in (folder, other))
    assert mine.keys() == theirs.keys()
    return float(sum(((mine[key] - theirs[key]) ** 2).sum() for key in mine)) ** 0.5


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=slow) for name in OPTIONS]
)
def test_two_processes_train_as_one_does(base, tmp_path, name):
    """The loss of every logged step, and the weights, odd batches, several epochs and phases included."""
    if name == "ppo":
        pytest.importorskip("torchrl")
    (tmp_path / "base").symlink_to(base)
    torchrun("train_together.py", tmp_path, name, "together")
    train(tmp_path, name, "alone")
    together, alone = losses(tmp_path / "together"), losses(tmp_path / "alone")
    assert together.keys() == alone.keys()
    assert together == pytest.approx(alone, abs=1e-4)
    moved = distance(tmp_path / "alone" / "model", base)
    assert distance(tmp_path / "together" / "model", tmp_path / "alone" / "model") < 1e-3 * moved


@slow
def test_two_processes_that_are_killed_end_with_the_same_bytes(base, tmp_path):
    (tmp_path / "base").symlink_to(base)
    torchrun("train_together.py", tmp_path, "dpo", "calm")
    ended = torchrun("train_together.py", tmp_path, "dpo", "killed", 4, check=False)
    assert ended.returncode != 0
    assert not (tmp_path / "killed" / "model").exists()
    torchrun("train_together.py", tmp_path, "dpo", "killed")
    calm, killed = (tmp_path / name / "model" / "model.safetensors" for name in ("calm", "killed"))
    assert calm.read_bytes() == killed.read_bytes()


def test_sharded_weights_are_saved_whole_by_all_processes(base, tmp_path):
    """By torch's own FSDP2, as accelerate has none without a GPU: the file of the unsharded run."""
    (tmp_path / "base").symlink_to(base)
    torchrun("train_sharded.py", tmp_path)
    whole, sharded = (tmp_path / name for name in ("whole", "sharded"))
    assert load_file(sharded / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()
    assert {p.name for p in sharded.iterdir()} == {p.name for p in whole.iterdir()}
    moved = distance(whole, base)
    assert moved > 0
    assert distance(sharded, whole) < 1e-3 * moved


def test_a_launch_that_starts_one_process_in_place_of_two_is_one_line(monkeypatch):
    """As `accelerate launch --cpu --num_processes 2` does."""
    for name, value in {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ParamsError, match="starts one process, however many it is told"):
        processes.check_launch()
    monkeypatch.setenv("WORLD_SIZE", "1")
    processes.check_launch()
