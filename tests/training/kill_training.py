"""Kills a training again and again, then lets it end; run by test_training.py in a process of its own.

usage: kill_training.py FOLDER OBJECTIVE MOMENT... with FOLDER/base a model; a moment is `report:<step>`,
`checkpoint:<n>` (n-th checkpoint written but not yet marked complete) or `export`; none: a calm run.

Every attempt is a fork of a process that has imported all and done nothing, and dies of a real SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import peft  # noqa: F401 (imported once, before the forks)
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401
from trl import DPOTrainer, RewardTrainer, RLOOTrainer  # noqa: F401

from karma_plugins import models, training
from karma_plugins.params import TrainSection
from karma_plugins.training import checkpoints
from tests.training.preferences import objective, pairs


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(folder: Path, name: str, moment: str) -> None:
    kind, _, number = moment.partition(":")
    complete, seen = checkpoints.complete, []

    def report(metrics: Any, step: int) -> None:
        if kind == "report" and step == int(number):
            die()

    def dying_complete(checkpoint: Path) -> None:
        seen.append(checkpoint)
        if kind == "checkpoint" and len(seen) == int(number):
            die()
        complete(checkpoint)

    checkpoints.complete = dying_complete
    if kind == "export":
        training._export = lambda *_: die()
    torch.set_num_threads(1)
    training.train(
        pairs(24, phases=2),
        models.load("base", folder / "base"),
        objective(name),
        TrainSection(base="base", batch_size=4, epochs=2, checkpoint_steps=2, learning_rate=1e-3),
        output=folder / "out",
        checkpoints=folder / "kept",
        report=report,
    )


def forked(folder: Path, name: str, moment: str) -> int:
    child = os.fork()
    if child == 0:
        attempt(folder, name, moment)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    place, objective_name, *moments = sys.argv[1:]
    for at in moments:
        assert forked(Path(place), objective_name, at) == -signal.SIGKILL, at
    assert forked(Path(place), objective_name, "never") == 0
