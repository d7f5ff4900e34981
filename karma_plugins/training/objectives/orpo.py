"""Objective `orpo`: odds ratio preference optimisation (Hong et al. 2024) by TRL, without a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import Field

from karma_plugins.contracts import Objective, Options, TrainingJob, hookimpl

if TYPE_CHECKING:
    from trl.experimental.orpo import ORPOTrainer


class OrpoOptions(Options):
    """Options of `orpo`.

    The loss is the negative log-likelihood of the chosen answer (mean over its tokens, then over the batch)
    minus `beta` times the log-sigmoid of the log odds ratio of chosen to rejected, odds being those of the
    geometric mean of the answer's token probabilities. TRL alone takes the likelihood of prompt and answer, a
    mean over all tokens of the batch: `prompt_loss`.
    """

    learning_rate: float | None = Field(
        None, gt=0, description="highest of each phase; null: train.learning_rate"
    )
    beta: float = Field(0.1, gt=0, description="weight of the odds ratio term (the paper's lambda)")
    prompt_loss: bool = Field(False, description="learn the prompts too")


def train(job: TrainingJob, options: OrpoOptions) -> None:
    """One phase of ORPO."""
    from datasets import Dataset

    from karma_plugins.training.examples import encode, tokenizer_of
    from karma_plugins.training.policy import load_policy, quiet
    from karma_plugins.training.trl_trainer import arguments, fit, in_whole_batches

    with quiet():
        from trl.experimental.orpo import ORPOConfig

        tokenizer, examples = tokenizer_of(job.start), encode(job)
        lengths = [len(e.prompt) + max(len(e.chosen), len(e.rejected)) for e in examples]
        trainer = _trainer(options.prompt_loss)(
            model=load_policy(job),
            args=ORPOConfig(
                **arguments(job, options.learning_rate),
                beta=options.beta,
                max_length=max(
                    lengths
                ),  # the examples are cut; TRL would cut at 512 where it is told nothing
            ),
            train_dataset=Dataset.from_list([asdict(example) for example in examples]),
            processing_class=tokenizer,
        )
        trainer.train_dataset = trainer.train_dataset.select(in_whole_batches(len(examples), job))
        fit(trainer, job, tokenizer)


def _trainer(prompt_loss: bool) -> type[ORPOTrainer]:
    """TRL's trainer on examples that are tokens already; a likelihood means the same with many processes."""
    from trl.experimental.orpo import ORPOTrainer

    from karma_plugins.training.trl_trainer import global_weight

    class Trainer(ORPOTrainer):  # type: ignore[misc]
        def tokenize_row(self, feature: Mapping[str, Any], model: Any = None) -> dict[str, list[int]]:
            prompt = feature["prompt"]
            row = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
            for name in ("chosen", "rejected"):
                answer = feature[name]
                row |= {
                    f"{name}_input_ids": prompt + answer,
                    f"{name}_attention_mask": [1] * (len(prompt) + len(answer)),
                    f"{name}_labels": [-100] * len(prompt) + answer,
                }
            return row

        def concatenated_forward(self, model: Any, batch: Any) -> tuple[Any, ...]:
            chosen, rejected, *rest = super().concatenated_forward(model, batch)
            if prompt_loss:
                rest[2] = rest[2] * global_weight(batch["chosen_attention_mask"][:, 1:].sum())
            else:
                rest[2] = -chosen.mean()
            return (chosen, rejected, *rest)

    return Trainer


@hookimpl
def karma_register_objectives() -> Sequence[Objective]:
    """The objective `orpo`."""
    return [Objective(name="orpo", options=OrpoOptions, train=train, needs=("trl",))]
