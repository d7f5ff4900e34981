"""How far a model has moved from another: the divergence of what it says, for the reference's update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from karma_plugins.contracts import TrainingSettings
from karma_plugins.models import Weights, with_system_prompt

if TYPE_CHECKING:
    from karma_plugins.contracts import Messages

#: Prompts that are asked at most, at once, and the tokens of an answer that are looked at.
PROMPTS, BATCH, TOKENS = 256, 64, 64


def divergence(policy: Weights, reference: Weights, pairs: pl.DataFrame, seed: int) -> float:
    """Mean KL divergence of the policy's next token from the reference's, in nats a token.

    Over the tokens of an answer that the policy samples to each prompt of table `pairs` (the first 256, each
    once). The sampling noise of an answer comes from the seed and its place.
    """
    import torch

    from karma_plugins.models.loading import end_tokens, load_model
    from karma_plugins.training import examples, rollout
    from karma_plugins.training.policy import quiet

    with quiet():
        tokenizer = examples.tokenizer_of(policy)
        model, other = load_model(policy, for_training=True), load_model(reference, for_training=True)
        opened = examples.prompt_tokens(tokenizer, policy, _prompts(pairs, policy))
        most = examples.limit(policy, TrainingSettings())
        length = TOKENS if most is None else min(TOKENS, most - max(map(len, opened)))
        total, count = 0.0, 0
        for start in range(0, len(opened), BATCH):
            batch = opened[start : start + BATCH]
            uniform = rollout.noise([(seed, start + row) for row in range(len(batch))], length)
            drawn = rollout.sample(
                model.eval(), batch, uniform, temperature=1.0,
                ends=end_tokens(model, tokenizer), pad=int(tokenizer.pad_token_id),
            )  # fmt: skip
            with torch.no_grad():
                mine, theirs = (
                    rollout.answer_logits(m.eval(), drawn, 1.0).log_softmax(-1) for m in (model, other)
                )
            apart = (mine.exp() * (mine - theirs)).sum(-1)[drawn.answered]
            total, count = total + float(apart.double().sum()), count + int(drawn.answered.sum())
    return total / count


def _prompts(pairs: pl.DataFrame, policy: Weights) -> Sequence[Messages]:
    first = pairs.unique("prompt_id", keep="first", maintain_order=True)["prompt"].head(PROMPTS)
    return [with_system_prompt(prompt, policy.system_prompt) for prompt in first.to_list()]
