"""One training by several processes; run under `torchrun` by tests/training/test_training.py.

usage: torchrun --standalone --nproc_per_node 2 train_together.py FOLDER OBJECTIVE (FOLDER/base a model)
"""

from __future__ import annotations

import sys
from pathlib import Path

from karma_plugins import models, training
from karma_plugins.params import TrainSection
from karma_plugins.runtime import processes
from tests.training.preferences import objective, pairs

if __name__ == "__main__":
    folder, name = Path(sys.argv[1]), sys.argv[2]
    told: list[int] = []
    result = training.train(
        pairs(24, phases=2),
        models.load("base", folder / "base"),
        objective(name, **({"sft_weight": 0.0} if name == "dpo" else {})),
        TrainSection(base="base", batch_size=4, checkpoint_steps=2, learning_rate=1e-3),
        output=folder / "model",
        checkpoints=folder / "kept",
        report=lambda metrics, step: told.append(step),
    )
    state = processes.state()
    assert state.num_processes == processes.count() == 2, "not two processes"
    assert bool(told) == state.is_main_process == processes.is_first(), "the first process alone reports"
    state.wait_for_everyone()
    state.destroy_process_group()
