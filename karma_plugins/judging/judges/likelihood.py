"""Judge `likelihood`: how likely a fixed language model finds an answer; 2D-Curri-DPO's prompt complexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from karma_plugins import models
from karma_plugins.contracts import Answer, Judge, Model, Options, Verdict, Weights, hookimpl
from karma_plugins.errors import ModelError
from karma_plugins.judging.quotation import without

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOT_FINITE = "the model's scores are not numbers; try another dtype"


class LikelihoodOptions(Options):
    """Options of judge `likelihood`."""

    model: str = Field(description="folder of weights, or descriptor (.yaml) that names them")
    batch_size: int = Field(16, ge=1, description="answers scored at once")


def score(answers: Sequence[Answer], options: LikelihoodOptions) -> list[Verdict]:
    """1 / perplexity of each answer under the model, given its prompt: the geometric mean of its tokens'
    probabilities, the end token included.

    An answer that is longer than the model takes is a failure, never cut. Raises ModelError where the model
    can't be loaded has no chat template, or is not causal.
    """
    from karma_plugins.models import loading, padding, scoring, templates

    source = _model(options.model).source
    if not isinstance(source, models.Weights):
        raise ModelError(
            f"judge 'likelihood': '{options.model}' holds no weights. "
            "Name a folder of weights or a descriptor."
        )
    model, tokenizer = loading.loaded(source, for_scores=True)
    templates.check_chat_template(tokenizer, source)
    if not padding.is_causal(model, tokenizer):
        raise ModelError(
            f"judge 'likelihood': '{options.model}' is no causal language model: what it says of a token "
            "depends on those after it. Name one that is."
        )
    verdicts: dict[int, Verdict] = {}
    rows: dict[int, tuple[list[int], int]] = {}
    for i, answer in enumerate(answers):
        tokens = _tokens(answer, tokenizer, source)
        reason = tokens if isinstance(tokens, str) else scoring.unfit(model, tokens[0])
        if reason is not None:
            verdicts[i] = Verdict(None, "failed", reason)
        elif not isinstance(tokens, str):
            rows[i] = tokens
    log_probs = scoring.log_probabilities(
        model, tokenizer, [row for row, _ in rows.values()], [start for _, start in rows.values()],
        options.batch_size,
    )  # fmt: skip
    for i, each in zip(rows, log_probs, strict=True):
        value = float(np.exp(each.mean()))
        verdicts[i] = Verdict(value) if math.isfinite(value) else Verdict(None, "failed", NOT_FINITE)
    return [verdicts[i] for i in range(len(answers))]


def _tokens(
    answer: Answer, tokenizer: PreTrainedTokenizerBase, source: Weights
) -> tuple[list[int], int] | str:
    """The tokens of prompt and answer, and how many are the prompt's; or why there are none."""
    from karma_plugins.models import templates

    control = templates.control_tokens(tokenizer)
    messages = [{**m, "content": without(m["content"], control)} for m in answer.messages]
    replied = [*messages, {"role": "assistant", "content": without(answer.text, control)}]
    before = templates.render(tokenizer, source, messages)
    whole = templates.render(tokenizer, source, replied, answered=True)
    for text in (before, whole):
        if isinstance(text, templates.Refusal):
            return text.reason
    start, tokens = tokenizer([before, whole], add_special_tokens=False)["input_ids"]
    # Where the prompt's own end is not kept before an answer, the answer begins where the two part.
    same = next(
        (i for i, pair in enumerate(zip(start, tokens, strict=False)) if pair[0] != pair[1]), len(start)
    )
    if same >= len(tokens):
        return "the chat template gives the answer no token"
    return list(tokens), max(same, 1)


def _model(path: str) -> Model:
    return models.load("judge", path, where="option 'model' of judge 'likelihood'")


def _reads(options: LikelihoodOptions) -> list[Path]:
    return models.files(_model(options.model))


@hookimpl
def karma_register_judges() -> Sequence[Judge]:
    """Register judge `likelihood`."""
    return [
        Judge(
            name="likelihood",
            options=LikelihoodOptions,
            score=score,
            reads=_reads,
            needs=("torch", "transformers"),
        )
    ]
