"""Loaded weights answer in batches of prompts of like length, for generators and for judges that ask a model.

Sampling noise is drawn per row from the request's own seed, one uniform number for each token, and turned
into tokens by the inverse of the cumulative distribution. What other rows share a batch, and what was done
before a restart, changes no answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from karma_plugins.contracts import Model, Options, Reply, Request
from karma_plugins.errors import ModelError
from karma_plugins.models import Weights, loading, padding, templates, with_system_prompt

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class TransformersOptions(Options):
    """How the model samples. Temperature 0 takes the likeliest token; top_k and top_p narrow the choice."""

    temperature: float = Field(1.0, ge=0.0, description="0: the likeliest token")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="least probability that the choice must cover")
    top_k: int | None = Field(None, ge=1, description="choose among so many likeliest tokens")
    repetition_penalty: float = Field(1.0, gt=0.0, description="above 1: tokens seen before become rarer")
    max_new_tokens: int = Field(256, ge=1, description="most tokens of an answer")
    stop: tuple[str, ...] = Field((), description="strings that end an answer, which does not hold them")
    batch_size: int = Field(64, ge=1, description="answers that are made at once")


@dataclass(frozen=True, slots=True)
class _Row:
    """A request ready for the model: its number, its tokens, and how many more the model has room for."""

    number: int
    tokens: list[int]
    room: int
    seed: int


def generate(model: Model, requests: Sequence[Request], options: TransformersOptions) -> Sequence[Reply]:
    """One reply for each request, in order.

    A prompt that is too long for the model, or that its chat template refuses, is a reply with an error.
    Raises ModelError where the model can't be loaded, has no chat template, or memory runs out.
    """
    import torch

    if not isinstance(model.source, Weights):
        raise ModelError(
            f"models.{model.name}: generator 'transformers' needs weights, found '{model.path}'. "
            "Name generator 'recorded' or 'endpoint' for this model."
        )
    weights, tokenizer = loading.loaded(model.source)
    templates.check_chat_template(tokenizer, model.source)
    if getattr(weights.config, "is_decoder", None) is False and not padding.is_causal(weights, tokenizer):
        raise ModelError(
            f"models.{model.name}: '{model.source.location}' is an encoder (is_decoder: false), which can't "
            "continue a text. Name a causal language model."
        )
    rows, replies = _encode(requests, model.source, weights, tokenizer, options)
    with torch.inference_mode():
        for batch in _batches(rows, weights, tokenizer, options.batch_size):
            try:
                answers = _answer(batch, weights, tokenizer, options)
            except torch.OutOfMemoryError as error:
                raise ModelError(
                    f"models.{model.name}: memory ran out for a batch of {len(batch)} answers. "
                    f"Lower models.{model.name}.sampling.batch_size."
                ) from error
            replies |= {row.number: answer for row, answer in zip(batch, answers, strict=True)}
    return [replies[i] for i in range(len(requests))]


def _encode(
    requests: Sequence[Request],
    source: Weights,
    weights: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    options: TransformersOptions,
) -> tuple[list[_Row], dict[int, Reply]]:
    """The rows that can be answered, shortest prompt first, and the failures of the others by number."""
    conversations = {request.prompt_id: request.messages for request in requests}
    texts: dict[str, str] = {}
    refused: dict[str, Reply] = {}
    for key, messages in conversations.items():
        text = templates.render(tokenizer, source, with_system_prompt(messages, source.system_prompt))
        if isinstance(text, templates.Refusal):
            refused[key] = Reply(None, error=text.reason)
        else:
            texts[key] = text
    encoded = tokenizer(list(texts.values()), add_special_tokens=False)["input_ids"] if texts else []
    tokens = dict(zip(texts, encoded, strict=True))
    longest, known = loading.positions(weights), padding.vocabulary(weights)
    for key, prompt in tokens.items():
        if (reason := _unfit(prompt, longest, known)) is not None:
            refused[key] = Reply(None, error=reason, prompt_tokens=len(prompt))
    rows = [
        _Row(i, tokens[request.prompt_id], _room(tokens[request.prompt_id], longest, options), request.seed)
        for i, request in enumerate(requests)
        if request.prompt_id not in refused
    ]
    failed = {i: refused[r.prompt_id] for i, r in enumerate(requests) if r.prompt_id in refused}
    return sorted(rows, key=lambda row: (len(row.tokens), row.number)), failed


def _room(prompt: Sequence[int], longest: int | None, options: TransformersOptions) -> int:
    most = options.max_new_tokens
    return most if longest is None else min(most, longest - len(prompt))


def _unfit(prompt: Sequence[int], longest: int | None, known: int) -> str | None:
    """Why a prompt can't be answered; null where it can."""
    if not prompt:
        return "the prompt has no token"
    if longest is not None and len(prompt) >= longest:
        return f"the prompt has {len(prompt)} tokens, the model takes {longest}"
    if max(prompt) >= known:
        return f"the prompt's token {max(prompt)} is beyond the {known} that the model has embeddings for"
    return None


def _batches(
    rows: Sequence[_Row], weights: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, size: int
) -> Iterator[list[_Row]]:
    """Consecutive rows with the same room, so that no row runs past the model's last position."""
    padded = len(rows) < 2 or padding.bears_padding(weights, tokenizer, "left")
    for _, group in groupby(rows, key=lambda row: row.room):
        same = list(group)
        for part in padding.in_batches([len(row.tokens) for row in same], size, padded=padded):
            yield same[part]


def _answer(
    batch: Sequence[_Row],
    weights: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    options: TransformersOptions,
) -> list[Reply]:
    from transformers import GenerationConfig, LogitsProcessorList

    pad = padding.filler(weights, tokenizer)
    prompts, mask = padding.side_by_side([row.tokens for row in batch], "left", pad, weights.device)
    width = prompts.shape[1]
    draw = _Draw(batch, prompts, mask, options)
    ends = loading.end_tokens(weights, tokenizer)
    config = GenerationConfig(
        max_new_tokens=batch[0].room,
        do_sample=False,  # _Draw has its say alone, and `loading` has left the model's own settings out
        pad_token_id=pad,
        eos_token_id=ends or None,
        stop_strings=list(options.stop) or None,
    )
    output = weights.generate(
        input_ids=prompts,
        attention_mask=mask,
        generation_config=config,
        logits_processor=LogitsProcessorList([draw]),
        tokenizer=tokenizer if options.stop else None,
    )
    return _replies(
        batch, output[:, width:].cpu().numpy(), draw.broken.tolist(), ends, pad, tokenizer, options
    )


class _Draw:
    """Turns each row's own uniform number into its next token: every other score becomes minus infinity."""

    def __init__(
        self, batch: Sequence[_Row], prompts: torch.Tensor, mask: torch.Tensor, options: TransformersOptions
    ) -> None:
        import torch

        self.prompts, self.mask, self.options = prompts, mask, options
        self.broken = torch.zeros(len(batch), dtype=torch.bool, device=prompts.device)
        if options.temperature > 0:
            # 24 bits: the largest is below 1 in float32, so that a token of probability 0 is never met.
            drawn = [np.random.default_rng(row.seed).integers(0, 1 << 24, row.room) for row in batch]
            uniform = np.stack(drawn, axis=1).astype(np.float32) / np.float32(1 << 24)
            self.uniform = torch.from_numpy(uniform).to(prompts.device)[:, :, None]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        step = input_ids.shape[1] - self.prompts.shape[1]
        if self.options.repetition_penalty != 1:
            scores = self._penalised(input_ids, scores, step)
        if self.options.temperature == 0:
            self.broken |= scores[:, 0].isnan()
            return scores
        values, tokens = self._candidates(scores.float() / self.options.temperature)
        cumulative = values.softmax(-1).cumsum(-1)
        covered = cumulative[:, -1:]
        self.broken |= covered[:, 0].isnan()
        if self.options.top_p < 1:
            last = (cumulative < self.options.top_p).sum(-1, keepdim=True).clamp(max=values.shape[1] - 1)
            covered = cumulative.gather(1, last)
        chosen = torch.searchsorted(cumulative, self.uniform[step] * covered, right=True)
        chosen = chosen.clamp(max=values.shape[1] - 1)
        if tokens is not None:
            chosen = tokens.gather(1, chosen)
        return torch.full_like(scores, float("-inf")).scatter_(1, chosen, 0.0)

    def _penalised(self, input_ids: torch.Tensor, scores: torch.Tensor, step: int) -> torch.Tensor:
        """Not left to transformers, which penalises padding too, and with it some models' end token."""
        import torch

        if step == 0:
            self.seen = torch.zeros(scores.shape, dtype=torch.int64, device=scores.device)
            self.seen.scatter_add_(1, self.prompts, self.mask)
        else:
            self.seen.scatter_(1, input_ids[:, -1:], 1)
        penalty = self.options.repetition_penalty
        return torch.where(self.seen > 0, torch.where(scores < 0, scores * penalty, scores / penalty), scores)

    def _candidates(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The scores to choose among, the highest first where some are cut off, and whose they are."""
        if self.options.top_k is not None:
            values, tokens = scores.topk(min(self.options.top_k, scores.shape[1]), dim=-1)
            return values, tokens
        if self.options.top_p < 1:
            values, tokens = scores.sort(dim=-1, descending=True, stable=True)
            return values, tokens
        return scores, None


def _replies(
    batch: Sequence[_Row],
    output: np.ndarray,
    broken: Sequence[bool],
    ends: Sequence[int],
    pad: int,
    tokenizer: PreTrainedTokenizerBase,
    options: TransformersOptions,
) -> list[Reply]:
    ended = np.isin(output, ends)
    counts = np.where(ended.any(1), ended.argmax(1), output.shape[1]).tolist()
    texts = tokenizer.batch_decode(
        [row[:count] for row, count in zip(output, counts, strict=True)], skip_special_tokens=True
    )
    replies = []
    for i, row in enumerate(batch):
        text, count, reason = texts[i], counts[i], "stop" if ended[i].any() else "length"
        stops = [at for at in (text.find(stop) for stop in options.stop) if at >= 0]
        if stops:
            text, reason = text[: min(stops)], "stop"
            count = _without_padding(output[i, :count], pad)
        if broken[i]:
            replies.append(Reply(None, error="the model's scores are not numbers; try another dtype"))
        else:
            replies.append(Reply(text, reason, len(row.tokens), count))
    return replies


def _without_padding(tokens: np.ndarray, pad: int) -> int:
    """How many tokens a row has that ended at a stop string while others in its batch went on."""
    kept = np.flatnonzero(tokens != pad)
    return int(kept[-1]) + 1 if kept.size else 0
