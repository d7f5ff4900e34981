"""Answers sampled from the policy in training, and what models say of their tokens.

Prompts are padded on the left, answers on the right; `width` counts prompt positions, T answer positions. An
answer ends with its end token, which counts; what follows is padding.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from karma_plugins.training import examples

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel

    from karma_plugins.contracts import TrainingJob


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

    def answers(self) -> list[list[int]]:
        """Each row's answer without padding, with its end token if it ended."""
        return [row[keep].tolist() for row, keep in zip(self.tokens, self.answered, strict=True)]

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
    on which others share its batch (but for the last bits of its logits). Nothing that the model's own
    generation configuration says has an effect.
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
        max_new_tokens=length,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=list(ends) or None,
        use_cache=True,
    )
    with torch.no_grad(), _own_configuration(model, config):
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


@contextmanager
def _own_configuration(model: Any, config: GenerationConfig) -> Iterator[None]:
    """Let a model answer by this configuration alone: `generate` fills gaps in it from the model's own.

    Nor does training mode act, in which dropout would blur what is drawn.
    """
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    its_own, training, cached = bare.generation_config, model.training, bare.config.use_cache
    checkpointing = getattr(bare, "is_gradient_checkpointing", False)
    bare.generation_config = copy.deepcopy(config)
    if checkpointing:
        bare.gradient_checkpointing_disable()
    model.eval()
    try:
        yield
    finally:
        bare.generation_config, bare.config.use_cache = its_own, cached
        model.train(training)
        if checkpointing:
            bare.gradient_checkpointing_enable()


def room(job: TrainingJob, prompts: Sequence[Sequence[int]], most: int | None) -> int:
    """Tokens that an answer may have: `most`, or as many as the longest in the pairs, but no more than fit
    behind the job's longest prompt.
    """
    length = most or examples.longest_answer(job)
    whole = examples.limit(job.start, job.settings)
    return length if whole is None else min(length, whole - max(len(prompt) for prompt in prompts))


def place_by_mask(model: Any) -> None:
    """Have a model count positions by the attention mask wherever it is not told them.

    Behind padding on the left a model with a table of positions would otherwise read another text.
    """
    if model is None:
        return
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not takes_positions(bare):
        return

    def place(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.dim() == 2 and kwargs.get("position_ids") is None:
            ids = kwargs.get("input_ids", args[0] if args else None)
            if ids is not None and ids.shape == mask.shape:
                kwargs = kwargs | {"position_ids": positions(mask)}
        return args, kwargs

    bare.register_forward_pre_hook(place, with_kwargs=True)


def takes_positions(model: Any) -> bool:
    """Whether a model can be told positions; those that can't (ALiBi, recurrent) need none."""
    return "position_ids" in inspect.signature(type(model).forward).parameters


def placed(model: Any, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """The keyword that tells a model its tokens' positions, if it can be told; also under wrappers."""
    bare = getattr(model, "module", model)
    bare = bare.get_base_model() if hasattr(bare, "get_base_model") else bare
    return {"position_ids": positions(mask)} if takes_positions(bare) else {}


def positions(mask: torch.Tensor) -> torch.Tensor:
    """The position of every token in its own row, whatever the padding before it."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def answer_logits(model: Any, rollout: Rollout, temperature: float) -> torch.Tensor:
    """The logits that each answer token was drawn from, shape (rows, T, vocabulary)."""
    logits = model(
        input_ids=rollout.ids, attention_mask=rollout.mask, use_cache=False, **placed(model, rollout.mask)
    ).logits
    return logits[:, rollout.width - 1 : -1].float() / temperature


def log_probabilities(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The log-probability of each token, shape (rows, T)."""
    return logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
