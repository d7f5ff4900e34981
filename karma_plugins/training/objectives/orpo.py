"""Objective `orpo`: odds ratio preference optimisation (Hong et al. 2024) by TRL, without a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from karma_plugins.contracts import Objective, Options, TrainingJob
from karma_plugins.hookspecs import hookimpl


class OrpoOptions(Options):
    """Options of `orpo`.

    The loss is the negative log-likelihood of the chosen answer (mean over its tokens, then over the batch)
    minus `beta` times the log-sigmoid of the log odds ratio of chosen to rejected, odds being those of the
    geometric mean of the answer's token probabilities. TRL alone takes the likelihood of prompt and answer, a
    mean over all tokens of the batch: `prompt_loss`.
    """

    learning_rate: float | None = Field(None, gt=0, description="null: train.learning_rate")
    beta: float = Field(0.1, gt=0, description="weight of the odds ratio term (the paper's lambda)")
    prompt_loss: bool = Field(False, description="learn the prompts too")


def train(job: TrainingJob, options: OrpoOptions) -> None:
    """One phase of ORPO."""
    from datasets import Dataset

    from karma_plugins.training.conversations import pairs
    from karma_plugins.training.policy import load_policy, longest, quiet, tokenizer_of
    from karma_plugins.training.trl_trainer import arguments, fit

    with quiet():
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        tokenizer, policy = tokenizer_of(job), load_policy(job)

        class AnswerOnly(ORPOTrainer):  # type: ignore[misc]
            def concatenated_forward(self, model: Any, batch: Any) -> tuple[Any, ...]:
                chosen, rejected, *rest = super().concatenated_forward(model, batch)
                rest[2] = -chosen.mean()
                return (chosen, rejected, *rest)

        trainer = (ORPOTrainer if options.prompt_loss else AnswerOnly)(
            model=policy,
            args=ORPOConfig(
                **arguments(job, options.learning_rate),
                beta=options.beta,
                max_length=longest(policy, job.settings),  # TRL would cut at 512 where it is told nothing
            ),
            train_dataset=Dataset.from_list(pairs(job)),
            processing_class=tokenizer,
        )
        fit(trainer, job, tokenizer)


@hookimpl
def karma_register_objectives() -> Sequence[Objective]:
    """The objective `orpo`."""
    return [Objective(name="orpo", options=OrpoOptions, train=train, needs=("trl",))]
