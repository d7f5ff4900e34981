"""Objective `dpo`: direct preference optimisation (Rafailov et al. 2023) by TRL, with an SFT term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from karma_plugins.contracts import Fraction, Objective, Options, TrainingJob, hookimpl
from karma_plugins.errors import ParamsError
from karma_plugins.runtime import processes

if TYPE_CHECKING:
    from trl import DPOTrainer

LossType = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sigmoid_norm",
]  # fmt: skip
#: Losses that sort the pairs of a batch, so that they are no mean over pairs.
SORTING = ("aot", "aot_unpaired")
#: Losses that an f-divergence other than the reverse KL is defined for.
F_DIVERGENCE_LOSSES = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop")


class DpoOptions(Options):
    """Options of `dpo`.

    The loss is that of `loss_type` plus `sft_weight` times the mean negative log-likelihood of the chosen
    answers' tokens, over all tokens of a batch.
    """

    learning_rate: float | None = Field(
        None, gt=0, description="highest of each phase; null: train.learning_rate"
    )
    beta: float = Field(0.1, gt=0, description="how strongly the policy is held to its reference")
    loss_type: LossType = Field("sigmoid", description="TRL's variant of the loss")
    sft_weight: float = Field(1.0, ge=0, description="weight of the SFT term; 0 = plain preference loss")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share of flipped labels")
    use_weighting: bool = Field(
        False, description="weigh pairs by their likelihood under the policy (WPO; Zhou et al. 2024)"
    )
    f_divergence_type: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = Field(
        "reverse_kl", description="what holds the policy to its reference (f-DPO; Wang et al. 2023)"
    )
    f_alpha_divergence_coef: float = Field(0.5, gt=0, description="alpha of the alpha divergence")
    ld_alpha: Fraction | None = Field(
        None,
        description="weight of the tokens by which the longer answer exceeds the shorter (LD-DPO; Liu et al. "
        "2024); null: all weigh alike",
    )
    sync_ref_model: bool = Field(
        False,
        description="the reference follows the policy during training (TR-DPO; Gorbatovski et al. 2024)",
    )
    ref_model_mixup_alpha: Fraction = Field(0.6, description="share of the policy in the reference's update")
    ref_model_sync_steps: int = Field(512, ge=1, description="steps between updates of the reference")
    padding_free: bool = Field(False, description="batches without padding; TRL 1.16 has switched it off")

    @model_validator(mode="after")
    def _options_go_together(self) -> DpoOptions:
        if self.loss_type == "exo_pair" and not self.label_smoothing:
            raise ValueError("loss_type exo_pair needs label_smoothing above 0, such as 0.001")
        if self.use_weighting and self.loss_type in SORTING:
            raise ValueError(
                f"use_weighting is not defined for loss_type {self.loss_type}, which sorts pairs"
            )
        if self.f_divergence_type != "reverse_kl" and self.loss_type not in F_DIVERGENCE_LOSSES:
            raise ValueError(
                f"f_divergence_type {self.f_divergence_type} is defined for loss_type "
                f"{', '.join(F_DIVERGENCE_LOSSES)} alone"
            )
        if self.padding_free:
            raise ValueError(
                "padding_free has no effect in TRL 1.16, which has switched it off; leave it out"
            )
        return self


def train(job: TrainingJob, options: DpoOptions) -> None:
    """One phase of DPO against the job's reference."""
    from datasets import Dataset
    from trl import DPOConfig

    from karma_plugins.training.examples import encode, tokenizer_of
    from karma_plugins.training.policy import load_policy, load_reference, quiet
    from karma_plugins.training.trl_trainer import arguments, fit, in_whole_batches

    _check(job, options)
    with quiet():
        tokenizer, examples = tokenizer_of(job.start), encode(job)
        order = in_whole_batches(len(examples), job)
        # The reference says the same in every epoch: with more than one it pays to keep it. TRL keeps it in
        # a file that other processes do not find.
        keep = len(order) > len(examples) and processes.count() == 1 and not options.sync_ref_model
        trainer = _trainer()(
            model=load_policy(job),
            ref_model=load_reference(job),
            args=DPOConfig(
                **arguments(job, options.learning_rate),
                beta=options.beta,
                loss_type=[options.loss_type],
                label_smoothing=options.label_smoothing,
                use_weighting=options.use_weighting,
                f_divergence_type=options.f_divergence_type,
                f_alpha_divergence_coef=options.f_alpha_divergence_coef,
                ld_alpha=options.ld_alpha,
                sync_ref_model=options.sync_ref_model,
                ref_model_mixup_alpha=options.ref_model_mixup_alpha,
                ref_model_sync_steps=options.ref_model_sync_steps,
                max_length=None,  # the examples are cut
                precompute_ref_log_probs=keep,
            ),
            train_dataset=Dataset.from_list([_columns(asdict(example)) for example in examples]),
            processing_class=tokenizer,
        )
        trainer.sft_weight = options.sft_weight
        trainer.train_dataset = trainer.train_dataset.select(order)
        fit(trainer, job, tokenizer)


def _check(job: TrainingJob, options: DpoOptions) -> None:
    """Raise ParamsError for what can't be had with these settings."""
    if options.loss_type in SORTING and processes.count() > 1:
        raise ParamsError(
            f"train.objectives.dpo.loss_type: {options.loss_type} sorts the pairs of a batch, which "
            f"{processes.count()} processes do not share. Train it with one."
        )
    if options.sync_ref_model and job.settings.lora is not None:
        raise ParamsError(
            "train.objectives.dpo.sync_ref_model: an adapter has no reference of its own that could follow "
            "it. Train without train.lora, or leave it out."
        )


def _columns(example: dict[str, Any]) -> dict[str, list[int]]:
    return {f"{name}_ids": example[name] for name in ("prompt", "chosen", "rejected")}


def _trainer() -> type[DPOTrainer]:
    """TRL's trainer on examples that are tokens already, with the SFT term as a mean over all processes'
    tokens.
    """
    from trl import DPOTrainer

    from karma_plugins.training.trl_trainer import global_weight

    class Trainer(DPOTrainer):  # type: ignore[misc]
        sft_weight = 0.0

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
            if not self.sft_weight:
                return super()._compute_loss(model, inputs, return_outputs)
            spoken = []
            hook = self.model.register_forward_hook(
                lambda *args: spoken.append(args[-1].log_probs) if args[-1].log_probs.requires_grad else None
            )
            try:
                loss = super()._compute_loss(model, inputs, return_outputs)
            finally:
                hook.remove()
            chosen = inputs["completion_mask"][..., 1:].chunk(2, dim=0)[0].bool()
            likelihood = spoken[0][:, -chosen.shape[1] :].chunk(2, dim=0)[0][chosen]
            return loss - self.sft_weight * likelihood.mean() * global_weight(chosen.sum())

    return Trainer


@hookimpl
def karma_register_objectives() -> Sequence[Objective]:
    """The objective `dpo`."""
    return [Objective(name="dpo", options=DpoOptions, train=train, needs=("trl",))]
