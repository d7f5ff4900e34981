"""PPO's estimator and loss (Schulman et al. 2017) by torchrl, on answers of different lengths.

Shapes are (rows, T), T answer positions; `answered` is true on tokens of answers, and nothing else counts.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from karma_plugins.errors import require
from karma_plugins.runtime import processes

if TYPE_CHECKING:
    import torch


def check_installed() -> None:
    """Raise NotInstalledError where torchrl is not installed."""
    require("Objective 'ppo'", "torchrl")


def token_rewards(
    scores: torch.Tensor, divergence: torch.Tensor, answered: torch.Tensor, weight: float
) -> torch.Tensor:
    """An answer's score on its last token, less `weight` times each token's divergence from the reference."""
    import torch

    last = answered & ~torch.nn.functional.pad(answered[:, 1:], (0, 1))
    return (last * scores[:, None] - weight * divergence) * answered


def advantages(
    rewards: torch.Tensor, values: torch.Tensor, answered: torch.Tensor, *, gamma: float, decay: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimates (Schulman et al. 2016) and the returns that values are fitted to.

    An episode is an answer: it ends, with no value after it, at its last token.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchrl greets with warnings about optional packages
        from torchrl.objectives.value.functional import generalized_advantage_estimate

    values = values * answered
    following = torch.nn.functional.pad((values * answered)[:, 1:], (0, 1))
    done = answered & ~torch.nn.functional.pad(answered[:, 1:], (0, 1)) | ~answered
    estimated, returns = generalized_advantage_estimate(
        gamma, decay, values[..., None], following[..., None], rewards[..., None], done[..., None]
    )
    return estimated[..., 0] * answered, returns[..., 0] * answered


def standardised(values: torch.Tensor, answered: torch.Tensor) -> torch.Tensor:
    """Values with mean 0 and variance 1 over the tokens that count, of all processes together."""
    import torch

    count = _over_processes(answered.sum().float()).clamp(min=1)
    mean = _over_processes(values[answered].sum()) / count
    variance = _over_processes(((values[answered] - mean) ** 2).sum()) / count
    return torch.where(answered, (values - mean) / (variance.sqrt() + 1e-8), 0.0)


def _over_processes(value: torch.Tensor) -> torch.Tensor:
    """The sum of a value over all processes."""
    import torch

    if processes.count() > 1:
        torch.distributed.all_reduce(value)
    return value


def losses(
    logits: torch.Tensor,
    values: torch.Tensor,
    tokens: torch.Tensor,
    before: torch.Tensor,
    advantage: torch.Tensor,
    returns: torch.Tensor,
    answered: torch.Tensor,
    *,
    clip: float,
) -> dict[str, torch.Tensor]:
    """Means over answer tokens: `policy` (clipped), `value` (half the squared error), `entropy`, `clipped`.

    `before` are the tokens' log-probabilities when they were drawn, `returns` what the values are fitted to.
    """
    import torch
    from tensordict import TensorDict

    parts = _loss(clip)(
        TensorDict(
            {
                "logits": logits,
                "state_value": values[..., None],
                "action": tokens,
                "action_log_prob": before,
                "advantage": advantage[..., None],
                "value_target": returns[..., None],
            },
            batch_size=tokens.shape,
        )
    )
    count = answered.sum().clamp(min=1)

    def mean(per_token: torch.Tensor) -> torch.Tensor:
        return torch.where(answered, per_token.reshape(answered.shape), 0.0).sum() / count

    drawn = logits.detach().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    clipped = ((drawn - before).exp() - 1).abs() > clip
    return {
        "policy": mean(parts["loss_objective"]),
        "value": mean(parts["loss_critic"]) / 2,
        "entropy": -mean(parts["loss_entropy"]),
        "clipped": mean(clipped.float()),
    }


@lru_cache(maxsize=4)
def _loss(clip: float) -> Any:
    """torchrl's loss over logits and values that are there: models, adapters and processes stay ours."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensordict.nn import (
            ProbabilisticTensorDictModule,
            ProbabilisticTensorDictSequential,
            TensorDictModule,
        )
        from torchrl.objectives import ClipPPOLoss

        actor = ProbabilisticTensorDictSequential(
            TensorDictModule(torch.nn.Identity(), in_keys=["logits"], out_keys=["logits"]),
            ProbabilisticTensorDictModule(
                in_keys=["logits"], out_keys=["action"], distribution_class=torch.distributions.Categorical
            ),
        )
        critic = TensorDictModule(torch.nn.Identity(), in_keys=["state_value"], out_keys=["state_value"])
        return ClipPPOLoss(
            actor,
            critic,
            clip_epsilon=clip,
            entropy_coeff=1.0,
            critic_coeff=1.0,
            loss_critic_type="l2",
            normalize_advantage=False,
            reduction="none",
        )
