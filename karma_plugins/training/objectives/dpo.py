"""Objective `dpo`: direct preference optimisation (Rafailov et al. 2023) by TRL, with an SFT term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from karma_plugins.contracts import Objective, Options, TrainingJob
from karma_plugins.hookspecs import hookimpl

LossType = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sigmoid_norm",
]  # fmt: skip


class DpoOptions(Options):
    """Options of `dpo`.

    The loss is that of `loss_type` plus `sft_weight` times the mean negative log-likelihood of chosen.
    """

    learning_rate: float | None = Field(None, gt=0, description="null: train.learning_rate")
    beta: float = Field(0.1, gt=0, description="how strongly the policy is held to its reference")
    loss_type: LossType = Field("sigmoid", description="TRL's variant of the loss")
    sft_weight: float = Field(1.0, ge=0, description="weight of the SFT term; 0 = plain preference loss")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share of flipped labels")

    @model_validator(mode="after")
    def _exo_needs_smoothing(self) -> DpoOptions:
        if self.loss_type == "exo_pair" and not self.label_smoothing:
            raise ValueError("loss_type exo_pair needs label_smoothing above 0, such as 0.001")
        return self


def train(job: TrainingJob, options: DpoOptions) -> None:
    """One phase of DPO against the job's reference."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from karma_plugins.training.conversations import pairs
    from karma_plugins.training.policy import load_policy, load_reference, quiet, tokenizer_of
    from karma_plugins.training.trl_trainer import arguments, fit

    batches = -(-job.pairs.height // job.settings.batch_size)
    with quiet():
        tokenizer = tokenizer_of(job)
        config = DPOConfig(
            **arguments(job, options.learning_rate),
            beta=options.beta,
            loss_type=[options.loss_type, "sft"] if options.sft_weight else [options.loss_type],
            loss_weights=[1.0, options.sft_weight] if options.sft_weight else [1.0],
            label_smoothing=options.label_smoothing,
            max_length=job.settings.max_length,
            # The reference says the same in every epoch: with more than one it pays to keep it.
            precompute_ref_log_probs=job.steps * job.settings.gradient_accumulation > batches,
        )
        trainer = DPOTrainer(
            model=load_policy(job),
            ref_model=load_reference(job),
            args=config,
            train_dataset=Dataset.from_list(pairs(job)),
            processing_class=tokenizer,
        )
        fit(trainer, job, tokenizer)


@hookimpl
def karma_register_objectives() -> Sequence[Objective]:
    """The objective `dpo`."""
    return [Objective(name="dpo", options=DpoOptions, train=train, needs=("trl",))]
