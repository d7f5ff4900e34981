"""Objective `rloo`: REINFORCE leave-one-out (Ahmadian et al. 2024) by TRL, on a reward model from the pairs.

Each prompt is answered several times; an answer's advantage is its reward less the mean of the others'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from karma_plugins.contracts import Objective, Options, TrainingJob
from karma_plugins.errors import ParamsError
from karma_plugins.hookspecs import hookimpl
from karma_plugins.training.conversations import tokens
from karma_plugins.training.reward_model import RewardModel, RewardOptions, reward_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import RLOOTrainer


class RlooOptions(Options):
    """Options of `rloo`; a batch holds as many answers as one of `dpo`: two for each of `batch_size`."""

    learning_rate: float | None = Field(None, gt=0, description="null: train.learning_rate")
    reward: RewardOptions = RewardOptions()
    beta: float = Field(0.05, ge=0, description="weight of the divergence from the reference")
    generations: int = Field(4, ge=2, description="answers to a prompt")
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int | None = Field(None, ge=1, description="null: as many as the longest answer has")
    unended_penalty: float = Field(
        1.0, ge=0, description="taken off the reward of an answer that was cut off"
    )


def train(job: TrainingJob, options: RlooOptions) -> None:
    """One phase of RLOO against the job's reference, after its reward model."""
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    from karma_plugins.training.conversations import longest_answer, prompts
    from karma_plugins.training.policy import load_policy, load_reference, quiet, tokenizer_of
    from karma_plugins.training.trl_trainer import arguments, fit

    with quiet():
        reward = reward_model(job, options.reward)
        tokenizer, given = tokenizer_of(job), arguments(job, options.learning_rate)
        rows = 2 * given.pop("per_device_train_batch_size")
        if rows % options.generations:
            raise ParamsError(
                f"train.objectives.rloo.generations: {options.generations} must divide the {rows} answers of "
                "a batch, two for each of train.batch_size."
            )
        reference = load_reference(job) if options.beta else None
        trainer = RLOOTrainer(
            model=load_policy(job),
            reward_funcs=reward_function(reward, tokenizer, options.unended_penalty),
            args=RLOOConfig(
                **given,
                per_device_train_batch_size=rows,
                beta=0.0 if reference is not None else options.beta,
                num_generations=options.generations,
                temperature=options.temperature,
                max_completion_length=options.max_new_tokens or longest_answer(job, tokenizer),
                shuffle_dataset=False,
                disable_dropout=True,
            ),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts(job)]),
            processing_class=tokenizer,
        )
        if reference is not None:
            _hold(trainer, reference, options)
        fit(trainer, job, tokenizer)


def _hold(trainer: RLOOTrainer, reference: PreTrainedModel, options: RlooOptions) -> None:
    """Hold the policy to the job's own reference: TRL would load one by the policy's name."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(reference, temperature=options.temperature)
    trainer.ref_model = trainer.accelerator.prepare_model(reference, evaluation_mode=True)
    trainer.beta = options.beta


def reward_function(
    reward: RewardModel, tokenizer: PreTrainedTokenizerBase, penalty: float
) -> Callable[..., list[float]]:
    """The reward model as TRL calls it: prompts as messages and tokens of their answers in, rewards out."""

    def reward_of(prompts: Sequence[Any], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        asked = tokens(tokenizer, prompts, answered=False)
        whole = [[*prompt, *answer] for prompt, answer in zip(asked, completion_ids, strict=True)]
        return [
            float(value) - (0.0 if tokenizer.eos_token_id in answer else penalty)
            for value, answer in zip(reward.rewards(whole), completion_ids, strict=True)
        ]

    return reward_of


@hookimpl
def karma_register_objectives() -> Sequence[Objective]:
    """The objective `rloo`."""
    return [Objective(name="rloo", options=RlooOptions, train=train, needs=("trl",))]
