"""How much longer `training.train` takes than TRL's trainer called bare, on the same pairs in one run.

usage: python -m benchmarks.training [--model FOLDER] [--pairs 512] [--epochs 2] [--rounds 3]

Both load the model, tokenise, train and save; ours also keeps checkpoints, reports every tenth step, and can
be killed at any moment. Without --model, a tiny Llama with random weights is trained.
The aim is a median ratio of at most 1.05.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from karma_plugins import models, training
from karma_plugins.params import TrainSection
from karma_plugins.training.policy import quiet
from tests.tiny import write_model
from tests.training.preferences import objective
from tests.training.preferences import pairs as make_pairs

Array = NDArray[np.float64]
SETTINGS = {"batch_size": 16, "learning_rate": 1e-4, "checkpoint_steps": 50}


def now() -> Array:
    """Wall and processor seconds; the second is the fairer where others use the machine too."""
    return np.array([time.perf_counter(), time.process_time()])


def ours(model: Path, folder: Path, pairs: pl.DataFrame, epochs: int) -> Array:
    """Seconds of `training.train`."""
    begun = now()
    training.train(
        pairs,
        models.load("base", model),
        objective("dpo"),
        TrainSection(base=str(model), epochs=epochs, **SETTINGS),
        output=folder / "model",
        checkpoints=folder / "kept",
        report=lambda metrics, step: None,
    )
    return now() - begun


def bare(model: Path, folder: Path, pairs: pl.DataFrame, epochs: int) -> Array:
    """Seconds of the same with TRL alone."""
    from datasets import Dataset

    begun = now()
    with quiet():
        trainer = DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(model),
            args=DPOConfig(
                output_dir=str(folder),
                num_train_epochs=epochs,
                per_device_train_batch_size=SETTINGS["batch_size"],
                learning_rate=SETTINGS["learning_rate"],
                loss_type=["sigmoid", "sft"],
                gradient_checkpointing=False,
                precompute_ref_log_probs=epochs > 1,
                bf16=torch.cuda.is_available(),
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                max_length=None,
            ),
            train_dataset=Dataset.from_list(pairs.select("prompt", "chosen", "rejected").to_dicts()),
            processing_class=AutoTokenizer.from_pretrained(model),
        )
        trainer.train()
        trainer.save_model(str(folder / "model"))
    return now() - begun


def main() -> None:
    """Time both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    pairs = make_pairs(asked.pairs)
    times: dict[str, list[Array]] = {"bare": [], "ours": []}
    with tempfile.TemporaryDirectory() as place:
        model = asked.model or write_model(Path(place) / "base")
        for kind, run in (("bare", bare), ("ours", ours)):  # imports and first calls are paid here
            run(model, Path(place) / f"{kind}-warm", make_pairs(32), 1)
        for number in range(asked.rounds):
            for kind, run in (("bare", bare), ("ours", ours)):
                times[kind].append(run(model, Path(place) / f"{kind}-{number}", pairs, asked.epochs))
                wall, processor = times[kind][-1]
                print(f"{kind}: {wall:.2f} s, of the processor {processor:.2f} s", flush=True)
    wall, processor = np.median(times["ours"], axis=0) / np.median(times["bare"], axis=0)
    print(f"ours / bare TRL: wall {wall:.3f}, processor {processor:.3f} (median of {asked.rounds}; aim 1.05)")


if __name__ == "__main__":
    main()
