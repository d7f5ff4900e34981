"""Answers sampled from the policy in training, and what models say of their tokens.

Prompts are padded on the left, answers on the right; `width` counts prompt positions, T answer positions. An
answer ends with its end token, which counts; what follows is padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Rollout:
    """Sampled answers: `ids` and `mask` (rows, width + T), `answered` (rows, T), true on answer tokens."""

    ids: torch.Tensor
    mask: torch.Tensor
    answered: torch.Tensor
    ended: torch.Tensor
    width: int

    def rows(self, start: int, stop: int) -> Rollout:
        """Some of the rows."""
        part = slice(start, stop)
        return Rollout(self.ids[part], self.mask[part], self.answered[part], self.ended[part], self.width)

    @property
    def tokens(self) -> torch.Tensor:
        """The answers' tokens, shape (rows, T)."""
        return self.ids[:, self.width :]

    def sequences(self) -> list[list[int]]:
        """Each row's prompt and answer without padding."""
        return [row[keep].tolist() for row, keep in zip(self.ids, self.mask.bool(), strict=True)]


def noise(seeds: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """A uniform number in [0,1) for each row and answer position, from the row's own seed (rows, length).

    24 bits, so that the largest is below 1 in float32 and a token of probability 0 is never drawn.
    """
    drawn = [np.random.default_rng(seed).integers(0, 1 << 24, length) for seed in seeds]
    return np.stack(drawn).astype(np.float32) / np.float32(1 << 24)


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    uniform: np.ndarray,
    *,
    temperature: float,
    ends: Sequence[int],
    pad: int,
) -> Rollout:
    """One answer to each prompt (tokens), of at most as many tokens as `uniform` has columns.

    A token is drawn by the inverse of the cumulative distribution at its row's number, so that no row depends
    on which others share its batch (but for the last bits of its logits).
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    rows, length = uniform.shape
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((rows, width), pad)
    mask = torch.zeros((rows, width), dtype=torch.int64)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    draws = torch.from_numpy(uniform).to(model.device)

    def draw(given: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        cumulative = (scores.float() / temperature).softmax(-1).cumsum(-1)
        at = draws[:, given.shape[1] - width, None] * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, at, right=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, float("-inf")).scatter_(1, chosen, 0.0)

    config = GenerationConfig(
        max_new_tokens=length, do_sample=False, pad_token_id=pad, eos_token_id=list(ends), use_cache=True
    )
    with torch.no_grad():
        whole = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([draw]),
        )
    answers = whole[:, width:]
    is_end = torch.isin(answers, torch.tensor(list(ends), device=answers.device))
    answered = is_end.int().cumsum(1) - is_end.int() == 0
    return Rollout(whole, torch.cat([mask, answered.long()], 1), answered, is_end.any(1), width)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """The position of every token in its own row, whatever the padding before it."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def answer_logits(model: Any, rollout: Rollout, temperature: float) -> torch.Tensor:
    """The logits that each answer token was drawn from, shape (rows, T, vocabulary)."""
    logits = model(
        input_ids=rollout.ids,
        attention_mask=rollout.mask,
        position_ids=positions(rollout.mask),
        use_cache=False,
    ).logits
    return logits[:, rollout.width - 1 : -1].float() / temperature


def log_probabilities(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The log-probability of each token, shape (rows, T)."""
    return logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
