"""Objective `kto`: Kahneman-Tversky optimisation (Ethayarajh et al. 2024) by TRL, answer by answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from karma_plugins.contracts import Objective, Options, TrainingJob
from karma_plugins.hookspecs import hookimpl


class KtoOptions(Options):
    """Options of `kto`; every pair gives one desirable and one undesirable answer."""

    learning_rate: float | None = Field(None, gt=0, description="null: train.learning_rate")
    beta: float = Field(0.1, gt=0, description="how strongly the policy is held to its reference")
    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"
    desirable_weight: float = Field(1.0, ge=0, description="weight of the loss on chosen answers")
    undesirable_weight: float = Field(1.0, ge=0, description="weight of the loss on rejected answers")


def train(job: TrainingJob, options: KtoOptions) -> None:
    """One phase of KTO against the job's reference."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    from karma_plugins.training.conversations import pairs
    from karma_plugins.training.policy import load_policy, load_reference, quiet, tokenizer_of
    from karma_plugins.training.trl_trainer import arguments, fit

    with quiet():
        tokenizer, given = tokenizer_of(job), arguments(job, options.learning_rate)
        rows = 2 * given.pop("per_device_train_batch_size")
        trainer = KTOTrainer(
            model=load_policy(job),
            ref_model=load_reference(job),
            args=KTOConfig(
                **given,
                per_device_train_batch_size=rows,
                beta=options.beta,
                loss_type=options.loss_type,
                desirable_weight=options.desirable_weight,
                undesirable_weight=options.undesirable_weight,
                max_length=job.settings.max_length,
            ),
            train_dataset=Dataset.from_list(answers(pairs(job), rows // 2)),
            processing_class=tokenizer,
        )
        fit(trainer, job, tokenizer)


def answers(pairs: Sequence[Mapping[str, Any]], batch: int) -> list[dict[str, Any]]:
    """Each pair as two answers with a label; of `batch` pairs the chosen come first, then the rejected.

    TRL measures how far the policy has moved by giving every prompt of a batch the answer of the row before,
    which must be an answer to another prompt.
    """
    return [
        {"prompt": pair["prompt"], "completion": pair[answer], "label": answer == "chosen"}
        for start in range(0, len(pairs), batch)
        for answer in ("chosen", "rejected")
        for pair in pairs[start : start + batch]
    ]


@hookimpl
def karma_register_objectives() -> Sequence[Objective]:
    """The objective `kto`."""
    return [Objective(name="kto", options=KtoOptions, train=train, needs=("trl",))]
