"""Judge `reward-model`: a Hugging Face sequence classifier with one output, such as TRL's RewardTrainer
makes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from karma_plugins import models
from karma_plugins.contracts import Answer, Judge, Model, Options, Verdict, hookimpl
from karma_plugins.errors import ModelError
from karma_plugins.judging.quotation import without

NOT_FINITE = "the reward is not a number; try another dtype"


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

    from karma_plugins.models import loading, scoring, templates

    source = _model(options.model).source
    if not isinstance(source, models.Weights):
        raise ModelError(
            f"judge 'reward-model': '{options.model}' holds no weights. "
            "Name a folder of weights or a descriptor."
        )
    model, tokenizer = loading.loaded(source, head="reward", for_scores=True)
    templates.check_chat_template(tokenizer, source)
    control = templates.control_tokens(tokenizer)
    verdicts: dict[int, Verdict] = {}
    rows: dict[int, list[int]] = {}
    for i, answer in enumerate(answers):
        said = [*answer.messages, {"role": "assistant", "content": answer.text}]
        messages = [{**message, "content": without(message["content"], control)} for message in said]
        text = templates.render(tokenizer, source, messages, answered=True)
        if isinstance(text, templates.Refusal):
            verdicts[i] = Verdict(None, "failed", text.reason)
            continue
        tokens = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        if (reason := scoring.unfit(model, tokens, options.max_length)) is not None:
            verdicts[i] = Verdict(None, "failed", reason)
        else:
            rows[i] = tokens
    try:
        given = scoring.rewards(model, tokenizer, list(rows.values()), options.batch_size)
    except torch.OutOfMemoryError as error:
        raise ModelError("judge 'reward-model': memory ran out. Lower batch_size.") from error
    for i, reward in zip(rows, given, strict=True):
        verdicts[i] = _verdict(reward, options.scale)
    return [verdicts[i] for i in range(len(answers))]


def _verdict(reward: float, scale: float) -> Verdict:
    if not math.isfinite(reward):
        return Verdict(None, "failed", NOT_FINITE)
    odds = math.exp(-abs(reward) / scale)
    return Verdict((1.0 if reward >= 0 else odds) / (1.0 + odds))


def _model(path: str) -> Model:
    return models.load("judge", path, where="option 'model' of judge 'reward-model'")


def _reads(options: RewardModelOptions) -> list[Path]:
    return models.files(_model(options.model))


@hookimpl
def karma_register_judges() -> Sequence[Judge]:
    """Register judge `reward-model`."""
    return [
        Judge(
            name="reward-model",
            options=RewardModelOptions,
            score=score,
            reads=_reads,
            needs=("torch", "transformers"),
        )
    ]
