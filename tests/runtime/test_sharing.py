"""Stages that share their work: two processes side by side, one killed, and the same stage under Ray.

Real processes on a tiny model; run with KARMA_SLOW_TESTS=1.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from karma_plugins.errors import installed
from tests.recorded_pipeline import inside
from tests.tiny import write_model

pytestmark = pytest.mark.skipif(
    "KARMA_SLOW_TESTS" not in os.environ, reason="real processes, minutes: set KARMA_SLOW_TESTS=1"
)
PROMPTS = 48
SETTINGS: dict[str, Any] = {
    "prompts": {"path": "prompts.jsonl"},
    "models": {
        "tiny": {
            "path": "models/tiny", "generator": "transformers",
            "sampling": {"temperature": 1.0, "max_new_tokens": 60, "batch_size": 4},
        }
    },
    "generate": {"samples": 2, "shard": 4},
    "judge": {"judges": {"likelihood": {"plugin": "likelihood", "model": "models/tiny", "shard": 4}}},
}  # fmt: skip
#: A stage that notes which pieces this process wrote. Its first it keeps once as many have computed theirs as
#: are told: loading a model takes longer than all the pieces of so small a one.
COUNTED = """
import sys, time
from importlib import import_module
from pathlib import Path
from karma_plugins.runtime import shards
label, together, module, *arguments = sys.argv[1:]
keep = shards._keep
def noted(path, key, rows):
    Path(label + ".ready").touch()
    while len(list(Path().glob("*.ready"))) < int(together):
        time.sleep(0.01)
    keep(path, key, rows)
    with open(label, "a") as log:
        log.write(key + chr(10))
shards._keep = noted
import_module(module).main(arguments)
"""


@pytest.fixture
def pipeline(tmp_path: Path, repository: Path) -> Iterator[Path]:
    """A tiny model and what it is asked."""
    rows = [
        {"prompt": f"What is {i} + {i}?", "competency": "sums", "reference": str(2 * i), "split": "train"}
        for i in range(PROMPTS)
    ]
    with inside(tmp_path, repository):
        Path("prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
        write_model(Path("models/tiny"))
        Path("params.yaml").write_text(yaml.safe_dump(SETTINGS))
        run("-m", "karma_plugins", "lock")
        run("-m", "stages.prompts")
        yield tmp_path


def run(*arguments: str, **variables: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], env=environment(variables), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def begun(label: str, *stage: str, together: int = 1, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COUNTED, label, str(together), *stage], env=environment(variables), text=True
    )


def environment(variables: dict[str, str]) -> dict[str, str]:
    here = os.pathsep.join([str(Path.cwd()), *sys.path])
    return os.environ | {"PYTHONPATH": here, "OMP_NUM_THREADS": "1", "KARMA_TRACKING": "off"} | variables


def digest(path: Path) -> str:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files)).hexdigest()


def written(label: str) -> list[str]:
    return Path(label).read_text().split() if Path(label).exists() else []


def cleared(stage: str) -> None:
    for file in Path(".karma/shards", stage).glob("*"):
        file.unlink()
    for label in ("a", "b", "c"):
        Path(label).unlink(missing_ok=True)
        Path(f"{label}.ready").unlink(missing_ok=True)


STAGES = {
    "generate": (["stages.generate", "tiny"], "tiny.parquet", "data/responses"),
    "judge": (["stages.judge", "likelihood"], "likelihood", "data/verdicts"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_share_the_work_and_one_killed_changes_no_byte(stage: str, pipeline: Path) -> None:
    command, out, usual = STAGES[stage]
    if stage == "judge":
        run("-m", "stages.generate", "tiny")
    run("-m", *command)
    serial = digest(Path(usual, out))
    cleared(stage)
    both = [begun(label, *command, "--out", f"out-{label}", together=2) for label in "ab"]
    assert [process.wait(300) for process in both] == [0, 0]
    shares = [written(label) for label in "ab"]
    total = len(shares[0]) + len(shares[1])
    assert len({*shares[0], *shares[1]}) == total == 2 * PROMPTS // 4
    assert 0.3 * total <= len(shares[0]) <= 0.7 * total, f"{len(shares[0])} of {total}"
    assert {digest(Path(f"out-{label}", out)) for label in "ab"} == {serial}
    cleared(stage)
    first = begun("a", *command, "--out", "out-a")
    await_pieces("a", 3)
    second = begun("b", *command, "--out", "out-b")
    await_pieces("b", 1)
    first.kill()
    first.wait()
    assert second.wait(300) == 0
    assert digest(Path("out-b", out)) == serial
    assert not list(Path(".karma/shards", stage).glob("*.lock"))


def await_pieces(label: str, count: int) -> None:
    until = time.monotonic() + 120
    while len(written(label)) < count:
        assert time.monotonic() < until, f"{label} wrote no {count} pieces in two minutes"
        time.sleep(0.02)


@pytest.mark.parametrize("stage", STAGES)
def test_other_runners_give_the_same_bytes(stage: str, pipeline: Path) -> None:
    command, out, usual = STAGES[stage]
    if stage == "judge":
        run("-m", "stages.generate", "tiny")
    run("-m", *command)
    serial = digest(Path(usual, out))
    settings = {"runner": "local", "runners": {"local": {"processes": 2}}}
    Path("params.yaml").write_text(yaml.safe_dump(SETTINGS | {"runner": settings}))
    for runner in ("local", "ray"):
        if runner == "ray" and not installed("ray"):
            pytest.skip("ray is not installed")
        cleared(stage)
        process = begun("c", *command, "--out", f"out-{runner}", KARMA_RUNNER=runner)
        assert process.wait(300) == 0
        assert len(written("c")) == len(set(written("c"))) == 2 * PROMPTS // 4
        assert digest(Path(f"out-{runner}", out)) == serial
