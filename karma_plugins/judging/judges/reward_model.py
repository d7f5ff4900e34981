"""Judge `reward-model`: a Hugging Face sequence classifier with one output, such as TRL's RewardTrainer
makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from karma_plugins import hookimpl, models
from karma_plugins.contracts import Answer, Judge, Model, Options, Verdict
from karma_plugins.errors import ModelError
from karma_plugins.judging.quotation import disarmed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class RewardModelOptions(Options):
    """Options of judge `reward-model`."""

    model: str = Field(description="folder of weights, or descriptor (.yaml) that names them")
    batch_size: int = Field(16, ge=1, description="answers scored at once")
    max_length: int | None = Field(
        None, ge=8, description="most tokens of conversation and answer; null: as many as the model takes"
    )
    scale: float = Field(1.0, gt=0.0, description="the score is sigmoid(reward / scale)")


def score(answers: Sequence[Answer], options: RewardModelOptions) -> list[Verdict]:
    """sigmoid(reward / scale) of each answer.

    By the Bradley-Terry model that reward models are trained with, this is the probability that it is
    preferred to an answer of reward 0.

    A conversation that is too long, or that the chat template refuses, is a failure: never cut, never
    guessed. Raises ModelError where the model is no reward model or can't be loaded.
    """
    import torch

    weights, tokenizer = _loaded(options.model)
    limit = options.max_length or getattr(weights.config, "max_position_embeddings", None)
    found: dict[int, Verdict] = {}
    rows: list[tuple[int, list[int]]] = []
    for i, answer in enumerate(answers):
        tokens = _tokens(answer, weights, tokenizer)
        if isinstance(tokens, Verdict):
            found[i] = tokens
        elif limit is not None and len(tokens) > limit:
            found[i] = Verdict(None, "failed", f"longer than the {limit} tokens that the reward model takes")
        else:
            rows.append((i, tokens))
    # By what they say, not by where they stand: the last digits of a reward depend on its batch.
    rows.sort(key=lambda row: (len(row[1]), row[1]))
    with torch.inference_mode():
        for start in range(0, len(rows), options.batch_size):
            batch = rows[start : start + options.batch_size]
            padded = tokenizer.pad({"input_ids": [tokens for _, tokens in batch]}, return_tensors="pt")
            try:
                logits = weights(**padded.to(weights.device)).logits[:, 0].double()
            except torch.OutOfMemoryError as error:
                raise ModelError(
                    f"judge 'reward-model': memory ran out for {len(batch)} answers. Lower batch_size."
                ) from error
            for (i, _), value in zip(batch, torch.sigmoid(logits / options.scale).tolist(), strict=True):
                found[i] = Verdict(value)
    return [found[i] for i in range(len(answers))]


def _tokens(
    answer: Answer, weights: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> list[int] | Verdict:
    from jinja2 import TemplateError

    said = [*answer.messages, {"role": "assistant", "content": disarmed(answer.text)}]
    try:
        text = tokenizer.apply_chat_template([dict(message) for message in said], tokenize=False)
    except TemplateError as error:
        return Verdict(None, "failed", f"the chat template refuses this conversation: {error}")
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@lru_cache(maxsize=1)
def _loaded(path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from karma_plugins.models import loading

    source = _model(path).source
    if not isinstance(source, models.Weights):
        raise ModelError(
            f"judge 'reward-model': '{path}' holds no weights. Name a folder of weights or a descriptor."
        )
    tokenizer = loading.load_tokenizer(source)
    loading.check_chat_template(tokenizer, source)
    weights = loading.load_model(source, head="reward")
    if weights.config.pad_token_id is None:
        weights.config.pad_token_id = tokenizer.pad_token_id
    return weights, tokenizer


def _model(path: str) -> Model:
    return models.load("judge", path, where="option 'model' of judge 'reward-model'")


def _reads(options: RewardModelOptions) -> list[Path]:
    return models.files(_model(options.model))


@hookimpl
def karma_register_judges() -> Sequence[Judge]:
    """Register judge `reward-model`."""
    return [Judge(name="reward-model", options=RewardModelOptions, score=score, reads=_reads)]
