"""Objective `ppo`: proximal policy optimisation (Schulman et al. 2017).

TRL has dropped PPO, so the clipped loss and the advantage estimator are torchrl's, and the loop, the rollouts
and the masks are ours. The critic says a value at every token of an answer; it starts as the reward model, or
where judges reward as the base with a value of 0.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, Field

from karma_plugins.contracts import Objective, Options, TrainingJob, hookimpl
from karma_plugins.runtime import processes
from karma_plugins.training import checkpoints
from karma_plugins.training.rewards import Reward, RewardOptions

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel

    from karma_plugins.training.rollout import Rollout

LOG_STEPS = 10
STATE = "state.pt"


class PpoOptions(Options):
    """Options of `ppo`; a batch holds as many answers as one of `dpo`: two for each of `batch_size`."""

    learning_rate: float | None = Field(
        None, gt=0, description="highest of each phase; null: train.learning_rate"
    )
    max_steps: int | None = Field(
        None, ge=1, description="in all phases together; null: as section train says"
    )
    reward: RewardOptions = Field(RewardOptions(), description="who rewards the answers")
    beta: float = Field(
        0.05,
        validation_alias=AliasChoices("beta", "kl_coef"),
        ge=0,
        description="weight of the divergence from the reference",
    )
    clip: float = Field(
        0.2,
        validation_alias=AliasChoices("clip", "cliprange"),
        gt=0,
        lt=1,
        description="how far a token's probability ratio counts",
    )
    updates: int = Field(
        2,
        validation_alias=AliasChoices("updates", "num_ppo_epochs"),
        ge=1,
        description="optimiser steps on one batch of answers",
    )
    gamma: float = Field(1.0, gt=0, le=1, description="discount")
    decay: float = Field(
        0.95,
        validation_alias=AliasChoices("decay", "lam"),
        ge=0,
        le=1,
        description="lambda of the advantage estimates",
    )
    value_weight: float = Field(
        0.5,
        validation_alias=AliasChoices("value_weight", "vf_coef"),
        ge=0,
        description="weight of the critic's loss",
    )
    entropy_weight: float = Field(0.0, ge=0, description="weight of the policy's entropy")
    critic_learning_rate: float | None = Field(None, gt=0, description="null: that of the policy")
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


@dataclass(frozen=True, slots=True)
class _Batch:
    """Answers with what was known when they were drawn; all but `rollout` have shape (rows, T)."""

    rollout: Rollout
    answered: torch.Tensor
    before: torch.Tensor
    advantage: torch.Tensor
    returns: torch.Tensor


def train(job: TrainingJob, options: PpoOptions) -> None:
    """One phase of PPO against the job's reference, after its reward model if it has one."""
    from karma_plugins.training import finite, ppo_loss
    from karma_plugins.training.policy import quiet, save

    ppo_loss.check_installed()
    with quiet():
        learner = _Learner(job, options)
        learner.resume()
        while learner.step < job.steps:
            learner.improve()
        finite.check_model(job, learner.bare_policy, learner.reward.prompts[0], learner.rate)
        if learner.accelerator.is_main_process:
            save(learner.bare_policy, learner.tokenizer, job.output)
        learner.accelerator.wait_for_everyone()


class _Learner:
    """Policy, critic, reference and optimiser of one phase, and how many optimiser steps they have taken."""

    def __init__(self, job: TrainingJob, options: PpoOptions) -> None:
        import torch
        from accelerate import Accelerator

        from karma_plugins.models.loading import end_tokens, load_model
        from karma_plugins.training import rollout
        from karma_plugins.training.examples import tokenizer_of
        from karma_plugins.training.policy import load_policy
        from karma_plugins.training.rewards import reward
        from karma_plugins.training.trl_trainer import per_process, refuse_sharding, uses_bf16

        self.job, self.options, self.step = job, options, 0
        self.rows = 2 * per_process(job.settings)
        self.accelerator: Accelerator = Accelerator(
            mixed_precision="bf16" if uses_bf16(job.settings) else "no", cpu=processes.on_cpu()
        )
        refuse_sharding(self.accelerator, "ppo")
        self.tokenizer = tokenizer_of(job.start)
        self.bare_policy = load_policy(job, samples=True).eval()
        self.ends = end_tokens(self.bare_policy, self.tokenizer)
        self.reward = reward(job, options.reward, self.tokenizer, self.ends, penalty=options.unended_penalty)
        self.length = rollout.room(job, self.reward.prompts, options.max_new_tokens)
        self.bare_critic = critic(self.reward, job)
        self.reference = (
            load_model(job.reference, for_training=True).eval().requires_grad_(requires_grad=False)
        )
        rate = self.rate = options.learning_rate or job.settings.learning_rate
        optimizer = torch.optim.AdamW(
            [
                {"params": _trainable(self.bare_policy), "lr": rate},
                {"params": _trainable(self.bare_critic), "lr": options.critic_learning_rate or rate},
            ],
            weight_decay=0.0,
        )
        self.policy, self.critic, self.optimizer = self.accelerator.prepare(
            self.bare_policy, self.bare_critic, optimizer
        )
        self.schedule = _schedule(job, optimizer)

    def improve(self) -> None:
        """Sample answers, then take some optimiser steps on them."""
        batches, figures = self._experience()
        for _ in range(min(self.options.updates, self.job.steps - self.step)):
            metrics = figures | self._update(batches)
            self.step += 1
            if self.step % LOG_STEPS == 0 or self.step == self.job.steps:
                self._report(metrics)
        every = self.job.settings.checkpoint_steps
        if self.step < self.job.steps and self.step % every < self.options.updates:
            self._keep()

    def _experience(self) -> tuple[list[_Batch], dict[str, torch.Tensor]]:
        """Answers of the policy as it stands, in batches for gradient accumulation, and what was rewarded."""
        from karma_plugins.training import rollout

        numbers = self._numbers()
        prompts = [n % len(self.reward.prompts) for n in numbers]
        drawn = rollout.sample(
            self.bare_policy,
            [self.reward.prompts[prompt] for prompt in prompts],
            rollout.noise([(self.job.settings.seed, self.job.phase, n) for n in numbers], self.length),
            temperature=self.options.temperature,
            ends=self.ends,
            pad=int(self.tokenizer.pad_token_id),
        )
        rewards = self.reward(prompts, drawn.answers())
        parts = [slice(start, start + self.rows) for start in range(0, len(numbers), self.rows)]
        assessed = [self._assessed(drawn.rows(part.start, part.stop), rewards[part]) for part in parts]
        metrics = {
            name: sum(figures[name] for _, figures in assessed) / len(parts) for name in assessed[0][1]
        }
        return [batch for batch, _ in assessed], metrics

    def _numbers(self) -> list[int]:
        """Which answers of the whole training this process draws next: its share of each batch of all."""
        batch = self.rows * processes.count()
        accumulated = self.job.settings.gradient_accumulation
        first = self.step // self.options.updates * accumulated * batch
        own = self.accelerator.process_index * self.rows
        starts = [first + part * batch + own for part in range(accumulated)]
        return [start + row for start in starts for row in range(self.rows)]

    def _assessed(
        self, drawn: Rollout, rewards: Sequence[float | None]
    ) -> tuple[_Batch, dict[str, torch.Tensor]]:
        import torch

        from karma_plugins.training import ppo_loss, rollout
        from karma_plugins.training.trl_trainer import global_weight

        options, device = self.options, drawn.ids.device
        rewarded = torch.tensor([value is not None for value in rewards], device=device)
        scores = torch.tensor([value or 0.0 for value in rewards], device=device)
        answered = drawn.answered & rewarded[:, None]  # what nobody rewarded moves nothing
        with torch.no_grad(), self.accelerator.autocast():
            before, held = (
                rollout.log_probabilities(
                    rollout.answer_logits(model, drawn, options.temperature), drawn.tokens
                )
                for model in (self.bare_policy, self.reference)
            )
            values = self.bare_critic(drawn)
        divergence = (before - held) * answered
        gains = ppo_loss.token_rewards(scores, divergence, answered, options.beta)
        advantage, returns = ppo_loss.advantages(
            gains, values, answered, gamma=options.gamma, decay=options.decay
        )
        batch = _Batch(drawn, answered, before, ppo_loss.standardised(advantage, answered), returns)
        weight = global_weight(rewarded.sum())
        return batch, {
            "reward": scores.sum() / rewarded.sum().clamp(min=1) * weight,
            "kl": divergence.sum(1).sum() / rewarded.sum().clamp(min=1) * weight,
            "answers/tokens": drawn.answered.sum(1).float().mean(),
            "answers/ended": drawn.ended.float().mean(),
            "answers/unrewarded": 1 - rewarded.float().mean(),
        }

    def _update(self, batches: Sequence[_Batch]) -> dict[str, torch.Tensor]:
        """One optimiser step on all batches."""
        from karma_plugins.training import finite, ppo_loss, rollout
        from karma_plugins.training.trl_trainer import global_weight

        options = self.options
        metrics: dict[str, Any] = {}
        for batch in batches:
            drawn = batch.rollout
            with self.accelerator.autocast():
                logits = rollout.answer_logits(self.policy, drawn, options.temperature)
                values = self.critic(drawn)
            parts = ppo_loss.losses(
                logits, values, drawn.tokens, batch.before, batch.advantage, batch.returns, batch.answered,
                clip=options.clip,
            )  # fmt: skip
            weight = global_weight(batch.answered.sum())
            parts = {name: part * weight for name, part in parts.items()}
            loss = (
                parts["policy"]
                + options.value_weight * parts["value"]
                - options.entropy_weight * parts["entropy"]
            )
            self.accelerator.backward(loss / len(batches))
            for name, value in {"loss": loss, **parts}.items():
                metrics[name] = metrics.get(name, 0.0) + value.detach() / len(batches)
        models = (self.bare_policy, self.bare_critic)
        gradients = [gradient for model in models for gradient in finite.gradients(model)]
        finite.check(self.job, self.step + 1, {"loss": [metrics["loss"]], "gradient": gradients}, self.rate)
        for group in self.optimizer.param_groups:  # apart, lest a bad critic scales the policy's step down
            self.accelerator.clip_grad_norm_(group["params"], 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        weights = [weight for model in models for weight in _trainable(model)]
        finite.check(self.job, self.step + 1, {"weights": weights}, self.rate)
        return metrics

    def _report(self, metrics: Mapping[str, torch.Tensor]) -> None:
        means = {name: self.accelerator.reduce(value, "mean").item() for name, value in metrics.items()}
        if self.accelerator.is_main_process:
            self.job.report(means, self.step)

    def _keep(self) -> None:
        import torch

        if self.accelerator.is_main_process:
            place = checkpoints.folder(self.job.checkpoints, self.step)
            place.mkdir()
            torch.save({name: part.state_dict() for name, part in self._parts()}, place / STATE)
            checkpoints.complete(place)
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Go on from the last complete checkpoint, if there is one."""
        import torch

        last = checkpoints.latest(self.job.checkpoints)
        if last is not None:
            kept = torch.load(last / STATE, weights_only=True, map_location=self.accelerator.device)
            for name, part in self._parts():
                part.load_state_dict(kept[name])
            self.step = checkpoints.step(last)

    def _parts(self) -> Iterator[tuple[str, Any]]:
        yield "policy", self.bare_policy
        yield "critic", self.bare_critic
        yield "optimizer", self.optimizer
        yield "schedule", self.schedule


def critic(reward: Reward, job: TrainingJob) -> torch.nn.Module:
    """A module that gives the value of every answer token of a rollout.

    It starts as the reward model's body and head, or where judges reward as the base's body under a head
    that says 0.
    """
    import torch

    from karma_plugins.training.policy import fresh_adapter
    from karma_plugins.training.reward_model import with_head
    from karma_plugins.training.rollout import placed

    if reward.model is not None:
        network: PreTrainedModel = copy.deepcopy(reward.model.network)
        mean, deviation = reward.model.mean, reward.model.deviation
    else:
        network, mean, deviation = with_head(job, reward.tokenizer), 0.0, 1.0
        torch.nn.init.zeros_(network.score.weight)
    network.requires_grad_(requires_grad=True)
    if job.settings.lora is not None:
        network = fresh_adapter(network, job.settings.lora, "SEQ_CLS", job.settings.seed).get_base_model()

    class Critic(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, drawn: Rollout) -> torch.Tensor:
            body = getattr(self.network, self.network.base_model_prefix)
            states = body(
                input_ids=drawn.ids, attention_mask=drawn.mask, use_cache=False, **placed(body, drawn.mask)
            ).last_hidden_state[:, drawn.width - 1 : -1]
            return (self.network.score(states)[..., 0].float() - mean) / deviation

    return Critic().eval()


def _trainable(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _schedule(job: TrainingJob, optimizer: torch.optim.Optimizer) -> Any:
    from transformers import get_scheduler

    from karma_plugins.training.trl_trainer import schedule_name

    warmup = round(job.settings.warmup * job.steps)
    return get_scheduler(schedule_name(job.settings), optimizer, warmup, job.steps)


@hookimpl
def karma_register_objectives() -> Sequence[Objective]:
    """The objective `ppo`."""
    return [Objective(name="ppo", options=PpoOptions, train=train, needs=("torchrl", "trl"))]
