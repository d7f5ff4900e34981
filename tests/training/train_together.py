"""One training by any number of processes; run by tests/training/test_processes.py.

usage: torchrun --standalone --nproc_per_node 2 train_together.py FOLDER OBJECTIVE PLACE [DEATH]
(FOLDER/base a model; the aligned one and its losses go to FOLDER/PLACE; with DEATH both processes die of a
SIGKILL once the checkpoint of that step is complete)
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from karma_plugins import models, training
from karma_plugins.contracts import Answer, Panel, Verdict
from karma_plugins.params import TrainSection
from karma_plugins.runtime import processes
from karma_plugins.training import checkpoints
from tests.training.preferences import objective, pairs

#: Two phases of unlike many pairs, of which batches do not divide evenly; several epochs, as params ship.
PAIRS, PHASES = 22, 2
SETTINGS = TrainSection(
    base="base", batch_size=4, epochs=3, checkpoint_steps=4, learning_rate=1e-3, gradient_accumulation=1
)
#: As params.yaml ships them, or so that the terms that are no plain mean over pairs weigh.
OPTIONS: dict[str, dict[str, Any]] = {
    "dpo": {"sft_weight": 3.0},
    "orpo": {"beta": 0.5},
    "orpo-prompt": {"beta": 0.5, "prompt_loss": True},
    "kto": {"undesirable_weight": 0.3},
    "rloo": {"beta": 0.1, "reward": {"judges": {"letters": {}}}, "max_new_tokens": 6},
    "ppo": {"beta": 0.1, "reward": {"judges": {"letters": {}}}, "max_new_tokens": 6},
    "rloo-model": {"beta": 0.1, "max_new_tokens": 6},
}


def score(answers: Any) -> list[Verdict]:
    """A judge that fails on answers of an odd prompt, and likes the letter a in others."""
    return [_verdict(answer) for answer in answers]


def _verdict(answer: Answer) -> Verdict:
    if answer.prompt_id in ("p3", "p7"):
        return Verdict(None, "failed", "an odd prompt")
    return Verdict(min(1.0, answer.text.count("a") / 3))


def train(folder: Path, name: str, place: str, death: int | None = None) -> None:
    """Train, and leave the model and the losses of every logged step."""
    complete = checkpoints.complete

    def dying(checkpoint: Path) -> None:
        complete(checkpoint)
        if checkpoints.step(checkpoint) == death:
            os.killpg(os.getpgid(0), signal.SIGKILL)

    checkpoints.complete = dying
    told: list[tuple[int, float]] = []
    training.train(
        pairs(PAIRS, phases=PHASES),
        models.load("base", folder / "base"),
        objective(name.partition("-")[0], **OPTIONS[name]),
        SETTINGS,
        output=folder / place / "model",
        checkpoints=folder / place / "kept",
        report=lambda metrics, step: told.append((step, metrics["loss"])) if "loss" in metrics else None,
        judges=Panel(score, "letters") if "judges" in OPTIONS[name].get("reward", {}) else None,
    )
    if processes.is_first():
        (folder / place / "losses.json").write_text(json.dumps(told))
    elif told:
        raise SystemExit("another process than the first reports")


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else None)
    if processes.count() > 1:
        state = processes.state()
        if not state.num_processes == processes.count() == 2:
            raise SystemExit("not two processes")
        state.wait_for_everyone()
        state.destroy_process_group()
