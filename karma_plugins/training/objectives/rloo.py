"""Objective `rloo`: REINFORCE leave-one-out (Ahmadian et al. 2024) by TRL.

Each prompt is answered several times; an answer's advantage is its reward less the mean of the others'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, Field

from karma_plugins.contracts import Objective, Options, TrainingJob, hookimpl
from karma_plugins.errors import ParamsError
from karma_plugins.runtime import processes
from karma_plugins.training.rewards import Reward, RewardOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from trl import RLOOTrainer


class RlooOptions(Options):
    """Options of `rloo`; a batch holds as many answers as one of `dpo`: two for each of `batch_size`."""

    learning_rate: float | None = Field(
        None, gt=0, description="highest of each phase; null: train.learning_rate"
    )
    max_steps: int | None = Field(
        None, ge=1, description="in all phases together; null: as section train says"
    )
    reward: RewardOptions = Field(RewardOptions(), description="who rewards the answers")
    beta: float = Field(0.05, ge=0, description="weight of the divergence from the reference")
    generations: int = Field(
        4,
        validation_alias=AliasChoices("generations", "num_generations"),
        ge=2,
        description="answers to a prompt",
    )
    temperature: float = Field(1.0, gt=0, description="of the answers that are drawn")
    max_new_tokens: int | None = Field(
        None, ge=1, description="most tokens of an answer; null: as the pairs' longest"
    )
    unended_penalty: float = Field(
        1.0,
        validation_alias=AliasChoices("unended_penalty", "missing_eos_penalty"),
        ge=0,
        description="taken off the reward of an answer that was cut off",
    )


def train(job: TrainingJob, options: RlooOptions) -> None:
    """One phase of RLOO against the job's reference, after its reward model if it has one."""
    from datasets import Dataset
    from trl import RLOOConfig

    from karma_plugins.models.loading import end_tokens
    from karma_plugins.training import rollout
    from karma_plugins.training.examples import tokenizer_of
    from karma_plugins.training.policy import load_policy, load_reference, quiet
    from karma_plugins.training.rewards import reward
    from karma_plugins.training.trl_trainer import arguments, fit, in_whole_batches

    answers = 2 * job.settings.batch_size * job.settings.gradient_accumulation
    if answers % options.generations:
        raise ParamsError(
            f"train.objectives.rloo.generations: {options.generations} must divide the {answers} answers of "
            "a step, two for each of train.batch_size."
        )
    with quiet():
        policy, tokenizer = load_policy(job, samples=True), tokenizer_of(job.start)
        ends = end_tokens(policy, tokenizer)
        rewarded = reward(job, options.reward, tokenizer, ends, penalty=options.unended_penalty)
        given = arguments(job, options.learning_rate)
        rows = 2 * given.pop("per_device_train_batch_size")
        length = rollout.room(job, rewarded.prompts, options.max_new_tokens)
        reference = load_reference(job) if options.beta else None
        for model in (policy, reference):
            rollout.place_by_mask(model)
        trainer = _trainer(rewarded, ends, length)(
            model=policy,
            reward_funcs=reward_function(rewarded),
            args=RLOOConfig(
                **given,
                per_device_train_batch_size=rows,
                beta=0.0 if reference is not None else options.beta,
                num_generations=options.generations,
                temperature=options.temperature,
                max_completion_length=length,
                shuffle_dataset=False,
                disable_dropout=True,
            ),
            train_dataset=Dataset.from_list(
                [{"prompt": q.messages, "number": n} for n, q in enumerate(rewarded.asked)]
            ),
            processing_class=tokenizer,
        )
        order = in_whole_batches(len(rewarded.asked), job, places=job.steps * answers // options.generations)
        trainer.train_dataset = trainer.train_dataset.select(order)
        if reference is not None:
            _hold(trainer, reference, options)
        fit(trainer, job, tokenizer)


def _hold(trainer: RLOOTrainer, reference: PreTrainedModel, options: RlooOptions) -> None:
    """Hold the policy to the job's own reference: TRL would load one by the policy's name."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(reference, temperature=options.temperature)
    trainer.ref_model = trainer.accelerator.prepare_model(reference, evaluation_mode=True)
    trainer.beta = options.beta


def reward_function(rewarded: Reward) -> Any:
    """The reward as TRL calls it: tokens of answers and numbers of their prompts in, rewards out.

    An answer without a reward is null, which TRL leaves out of its group: it moves nothing.
    """

    def reward(
        completion_ids: Sequence[Sequence[int]], number: Sequence[int], log_metric: Any, **_: Any
    ) -> list[float | None]:
        values = rewarded(number, completion_ids)
        log_metric("answers/unrewarded", sum(value is None for value in values) / len(values))
        return values

    return reward


def _trainer(rewarded: Reward, ends: Sequence[int], length: int) -> type[RLOOTrainer]:
    """TRL's trainer with answers drawn by noise of their own row, by our own settings alone."""
    from trl import RLOOTrainer

    from karma_plugins.training import rollout
    from karma_plugins.training.examples import prompt_tokens
    from karma_plugins.training.trl_trainer import refuse_sharding

    job, tokenizer = rewarded.job, rewarded.tokenizer

    class Trainer(RLOOTrainer):  # type: ignore[misc]
        def train(self, *args: Any, **kwargs: Any) -> Any:
            refuse_sharding(self.accelerator, "rloo")
            return super().train(*args, **kwargs)

        def _tokenize_prompts(self, prompts: Any) -> tuple[list[list[int]], None, dict[str, Any]]:
            return prompt_tokens(tokenizer, job.start, prompts), None, {}

        def _generate_single_turn(self, prompt_ids: Any, *_: Any) -> list[list[int]]:
            here = len(prompt_ids)
            first = here * (self.state.global_step * processes.count() + self.accelerator.process_index)
            numbers = range(first, first + here)
            drawn = rollout.sample(
                self.accelerator.unwrap_model(self.model),
                prompt_ids,
                rollout.noise([(job.settings.seed, job.phase, n) for n in numbers], length),
                temperature=self.temperature,
                ends=ends,
                pad=int(tokenizer.pad_token_id),
            )
            return drawn.answers()

    return Trainer


@hookimpl
def karma_register_objectives() -> Sequence[Objective]:
    """The objective `rloo`."""
    return [Objective(name="rloo", options=RlooOptions, train=train, needs=("trl",))]
