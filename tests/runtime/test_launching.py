"""A stage starts itself in the processes that `train.accelerate` names, and ends as they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from karma_plugins.errors import ParamsError
from karma_plugins.runtime import launching

TWO = {"use_cpu": True, "num_processes": 2}
#: A module that notes each process, and fails in the second where it is told to.
MODULE = """
import os, sys
from pathlib import Path
from karma_plugins.runtime import launching
from karma_plugins.runtime.processes import is_first
rank = os.environ.get("RANK", "0")
Path(f"process-{rank}").write_text(" ".join(sys.argv[1:]) + f" {os.environ.get('WORLD_SIZE', '1')}")
assert launching.is_launched()
if "fail" in sys.argv:
    print(f"Error: {rank} fails", file=sys.stderr)
    sys.exit(1)
"""
#: What staging does: launch and end.
LAUNCH = """
import json, sys
from karma_plugins.runtime import launching
launching.launch(json.loads(sys.argv[1]), "work", sys.argv[2:], where="params.yaml, train.accelerate")
print("ended")
"""


def launch(folder: Path, configuration: object, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "work.py").write_text(MODULE)
    (folder / "launch.py").write_text(LAUNCH)
    return subprocess.run(
        [sys.executable, "launch.py", json.dumps(configuration), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{Path.cwd()}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_as_many_processes_as_are_named_do_the_work(tmp_path: Path):
    """The same arguments in each; a file says the same as what it holds."""
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump({"distributed_type": "NO", **TWO}))
    for configuration in (TWO, str(file)):
        done = launch(tmp_path, configuration, "--pairs", "data/pairs")
        assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
        notes = {path.name: path.read_text() for path in tmp_path.glob("process-*")}
        assert notes == {f"process-{rank}": "--pairs data/pairs 2" for rank in range(2)}
        for path in tmp_path.glob("process-*"):
            path.unlink()


def test_a_process_that_fails_has_said_why(tmp_path: Path):
    """The status is its own, and no launcher's report is added."""
    done = launch(tmp_path, {"use_cpu": True, "num_processes": 1}, "fail")
    assert done.returncode == 1
    assert "ended" not in done.stdout
    assert [line for line in done.stderr.splitlines() if "Error" in line] == ["Error: 0 fails"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ("none.yaml", "'none.yaml' is not there. Write it with `accelerate config`"),
        ({"num_procs": 2}, "accelerate does not take this (.*num_procs"),
        ({"num_processes": 2, "distributed_type": "many"}, "accelerate does not take this"),
        ({"compute_environment": "AMAZON_SAGEMAKER"}, "train.accelerate: "),
    ],
)
def test_a_wrong_configuration_is_one_line(configuration, message: str):
    with pytest.raises(ParamsError) as raised:
        launching.read(configuration, where="params.yaml, train.accelerate")
    head, _, rest = message.partition("(.*")
    assert head in str(raised.value)
    assert rest in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_configuration_for_gpus_is_read_as_accelerate_writes_it():
    written = {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "FSDP", "num_processes": 8,
        "mixed_precision": "bf16", "fsdp_config": {"fsdp_version": 2, "fsdp_reshard_after_forward": True},
    }  # fmt: skip
    config = launching.read(written, where="train.accelerate")
    assert (config.distributed_type.value, config.num_processes) == ("FSDP", 8)


def test_what_was_launched_launches_nothing(monkeypatch: pytest.MonkeyPatch):
    for name in (launching.LAUNCHED, "RANK"):
        monkeypatch.delenv(launching.LAUNCHED, raising=False)
        monkeypatch.delenv("RANK", raising=False)
        assert not launching.is_launched()
        monkeypatch.setenv(name, "0")
        assert launching.is_launched()
