"""Objective `ppo`: proximal policy optimisation (Schulman et al. 2017) on a reward model from the pairs.

TRL has dropped PPO, so the clipped loss and the advantage estimator are torchrl's, and the loop, the rollouts
and the masks are ours. The critic starts as the reward model and says a value at every token of an answer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from karma_plugins.contracts import Objective, Options, TrainingJob
from karma_plugins.hookspecs import hookimpl
from karma_plugins.runtime import processes
from karma_plugins.training import checkpoints
from karma_plugins.training.reward_model import RewardModel, RewardOptions

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedModel

    from karma_plugins.training.rollout import Rollout

LOG_STEPS = 10
STATE = "state.pt"


class PpoOptions(Options):
    """Options of `ppo`; a batch holds as many answers as one of `dpo`: two for each of `batch_size`."""

    learning_rate: float | None = Field(None, gt=0, description="null: train.learning_rate")
    reward: RewardOptions = RewardOptions()
    beta: float = Field(0.05, ge=0, description="weight of the divergence from the reference")
    clip: float = Field(0.2, gt=0, lt=1, description="how far a token's probability ratio counts")
    updates: int = Field(2, ge=1, description="optimiser steps on one batch of answers")
    gamma: float = Field(1.0, gt=0, le=1, description="discount")
    decay: float = Field(0.95, ge=0, le=1, description="lambda of the advantage estimates")
    value_weight: float = Field(0.5, ge=0, description="weight of the critic's loss")
    entropy_weight: float = Field(0.0, ge=0, description="weight of the policy's entropy")
    critic_learning_rate: float | None = Field(None, gt=0, description="null: that of the policy")
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int | None = Field(None, ge=1, description="null: as many as the longest answer has")
    unended_penalty: float = Field(
        1.0, ge=0, description="taken off the reward of an answer that was cut off"
    )


@dataclass(frozen=True, slots=True)
class _Batch:
    """Answers with what was known when they were drawn; all but `rollout` have shape (rows, T)."""

    rollout: Rollout
    before: torch.Tensor
    advantage: torch.Tensor
    returns: torch.Tensor


def train(job: TrainingJob, options: PpoOptions) -> None:
    """One phase of PPO against the job's reference, after its reward model."""
    from karma_plugins.training import ppo_loss
    from karma_plugins.training.policy import quiet, save
    from karma_plugins.training.reward_model import reward_model

    ppo_loss.check_installed()
    with quiet():
        learner = _Learner(job, options, reward_model(job, options.reward))
        learner.resume()
        while learner.step < job.steps:
            learner.improve()
        if learner.accelerator.is_main_process:
            save(learner.bare_policy, learner.tokenizer, job.output)
        learner.accelerator.wait_for_everyone()


class _Learner:
    """Policy, critic, reference and optimiser of one phase, and how many optimiser steps they have taken."""

    def __init__(self, job: TrainingJob, options: PpoOptions, reward: RewardModel) -> None:
        import torch
        from accelerate import Accelerator

        from karma_plugins.models.loading import load_model
        from karma_plugins.training.conversations import longest_answer, prompts, tokens
        from karma_plugins.training.policy import load_policy, tokenizer_of
        from karma_plugins.training.trl_trainer import per_process, uses_bf16

        self.job, self.options, self.reward, self.step = job, options, reward, 0
        self.rows = 2 * per_process(job.settings)
        self.accelerator: Accelerator = Accelerator(
            mixed_precision="bf16" if uses_bf16(job.settings) else "no", cpu=processes.on_cpu()
        )
        self.tokenizer = tokenizer_of(job)
        self.prompts = tokens(self.tokenizer, prompts(job), answered=False)
        self.length = options.max_new_tokens or longest_answer(job, self.tokenizer)
        self.bare_policy = load_policy(job).eval()
        self.bare_critic = critic(reward, job)
        self.reference = (
            load_model(job.reference, for_training=True).eval().requires_grad_(requires_grad=False)
        )
        rate = options.learning_rate or job.settings.learning_rate
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
        batches, told = self._experience()
        for _ in range(min(self.options.updates, self.job.steps - self.step)):
            metrics = told | self._update(batches)
            self.step += 1
            if self.step % LOG_STEPS == 0 or self.step == self.job.steps:
                self._report(metrics)
        every = self.job.settings.checkpoint_steps
        if self.step < self.job.steps and self.step % every < self.options.updates:
            self._keep()

    def _experience(self) -> tuple[list[_Batch], dict[str, torch.Tensor]]:
        """Answers of the policy as it stands, in batches for gradient accumulation, and what was rewarded."""
        from karma_plugins.models.loading import end_tokens
        from karma_plugins.training import rollout

        accumulated = self.job.settings.gradient_accumulation
        rollouts = self.step // self.options.updates
        share = self.rows * accumulated
        first = share * (rollouts * processes.count() + self.accelerator.process_index)
        numbers = range(first, first + share)
        uniform = rollout.noise([(self.job.settings.seed, self.job.phase, n) for n in numbers], self.length)
        drawn = rollout.sample(
            self.bare_policy,
            [self.prompts[n % len(self.prompts)] for n in numbers],
            uniform,
            temperature=self.options.temperature,
            ends=end_tokens(self.bare_policy, self.tokenizer),
            pad=int(self.tokenizer.pad_token_id),
        )
        parts = [drawn.rows(start, start + self.rows) for start in range(0, share, self.rows)]
        found = [self._assessed(part) for part in parts]
        told = {name: sum(metrics[name] for _, metrics in found) / accumulated for name in found[0][1]}
        return [batch for batch, _ in found], told

    def _assessed(self, drawn: Rollout) -> tuple[_Batch, dict[str, torch.Tensor]]:
        import torch

        from karma_plugins.training import ppo_loss, rollout

        options, answered = self.options, drawn.answered
        with torch.no_grad(), self.accelerator.autocast():
            before, held = (
                rollout.log_probabilities(
                    rollout.answer_logits(model, drawn, options.temperature), drawn.tokens
                )
                for model in (self.bare_policy, self.reference)
            )
            values = self.bare_critic(drawn)
        scores = self.reward.rewards(drawn.sequences()) - options.unended_penalty * (~drawn.ended).float()
        divergence = (before - held) * answered
        rewards = ppo_loss.token_rewards(scores, divergence, answered, options.beta)
        advantage, returns = ppo_loss.advantages(
            rewards, values, answered, gamma=options.gamma, decay=options.decay
        )
        batch = _Batch(drawn, before, ppo_loss.standardised(advantage, answered), returns)
        return batch, {
            "reward": scores.mean(),
            "kl": divergence.sum(1).mean(),
            "answers/tokens": answered.sum(1).float().mean(),
            "answers/ended": drawn.ended.float().mean(),
        }

    def _update(self, batches: Sequence[_Batch]) -> dict[str, torch.Tensor]:
        """One optimiser step on all batches."""
        from karma_plugins.training import ppo_loss, rollout

        options = self.options
        metrics: dict[str, Any] = {}
        for batch in batches:
            drawn = batch.rollout
            with self.accelerator.autocast():
                logits = rollout.answer_logits(self.policy, drawn, options.temperature)
                values = self.critic(drawn)
            found = ppo_loss.losses(
                logits, values, drawn.tokens, batch.before, batch.advantage, batch.returns, drawn.answered,
                clip=options.clip,
            )  # fmt: skip
            loss = (
                found["policy"]
                + options.value_weight * found["value"]
                - options.entropy_weight * found["entropy"]
            )
            self.accelerator.backward(loss / len(batches))
            for name, value in {"loss": loss, **found}.items():
                metrics[name] = metrics.get(name, 0.0) + value.detach() / len(batches)
        for group in self.optimizer.param_groups:  # apart, lest a bad critic scales the policy's step down
            self.accelerator.clip_grad_norm_(group["params"], 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
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


def critic(reward: RewardModel, job: TrainingJob) -> torch.nn.Module:
    """A module that gives the value of every answer token of a rollout: the reward model's body and head."""
    import torch

    from karma_plugins.training.policy import lora_config
    from karma_plugins.training.rollout import positions

    network: PreTrainedModel = copy.deepcopy(reward.network).requires_grad_(requires_grad=True)
    if job.settings.lora is not None:
        from peft import get_peft_model
        from transformers import set_seed

        set_seed(job.settings.seed)
        network = get_peft_model(network, lora_config(job.settings.lora, "SEQ_CLS")).get_base_model()

    class Critic(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, drawn: Rollout) -> torch.Tensor:
            body = getattr(self.network, self.network.base_model_prefix)
            states = body(
                input_ids=drawn.ids,
                attention_mask=drawn.mask,
                position_ids=positions(drawn.mask),
                use_cache=False,
            ).last_hidden_state[:, drawn.width - 1 : -1]
            return (self.network.score(states)[..., 0].float() - reward.mean) / reward.deviation

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
