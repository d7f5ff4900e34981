"""Judge `likelihood`: how likely a fixed language model finds an answer; 2D-Curri-DPO's prompt complexity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from karma_plugins import hookimpl, models
from karma_plugins.contracts import Answer, Judge, Model, Options, Verdict
from karma_plugins.errors import ModelError
from karma_plugins.judging.quotation import disarmed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LikelihoodOptions(Options):
    """Options of judge `likelihood`."""

    model: str = Field(description="folder of weights, or descriptor (.yaml) that names them")
    batch_size: int = Field(16, ge=1, description="answers scored at once")


def score(answers: Sequence[Answer], options: LikelihoodOptions) -> list[Verdict]:
    """1 / perplexity of each answer under the model, given its prompt: the geometric mean of its tokens'
    probabilities, the end token included.

    An answer that is longer than the model takes is a failure, never cut. Raises ModelError where the model
    can't be loaded or has no chat template.
    """
    import torch

    from karma_plugins.models import loading

    source = _model(options.model).source
    if not isinstance(source, models.Weights):
        raise ModelError(
            f"judge 'likelihood': '{options.model}' holds no weights. "
            "Name a folder of weights or a descriptor."
        )
    model, tokenizer = loading.loaded(source)
    loading.check_chat_template(tokenizer, source)
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    found: dict[int, Verdict] = {}
    rows: list[tuple[int, list[int], int]] = []
    for i, answer in enumerate(answers):
        tokens = _tokens(answer, tokenizer, limit)
        if isinstance(tokens, Verdict):
            found[i] = tokens
        else:
            rows.append((i, *tokens))
    # By what they say, not by where they stand: the last digits of a score depend on its batch.
    rows.sort(key=lambda row: (len(row[1]), row[1]))
    with torch.inference_mode():
        for start in range(0, len(rows), options.batch_size):
            batch = rows[start : start + options.batch_size]
            padded = tokenizer.pad({"input_ids": [tokens for _, tokens, _ in batch]}, return_tensors="pt")
            padded = padded.to(model.device)
            positions = (padded["attention_mask"].cumsum(1) - 1).clamp(min=0)
            logits = model(**padded, position_ids=positions, use_cache=False).logits[:, :-1].float()
            said_next = logits.log_softmax(-1).gather(-1, padded["input_ids"][:, 1:, None])[..., 0].double()
            for (i, whole, asked), values in zip(batch, said_next, strict=True):
                found[i] = Verdict(float(values[asked - len(whole) :].mean().exp()))
    return [found[i] for i in range(len(answers))]


def _tokens(
    answer: Answer, tokenizer: PreTrainedTokenizerBase, limit: int | None
) -> tuple[list[int], int] | Verdict:
    """The tokens of prompt and answer, and how many are the prompt's."""
    from jinja2 import TemplateError

    said = [dict(message) for message in answer.messages]
    replied = [*said, {"role": "assistant", "content": disarmed(answer.text)}]
    try:
        asked = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(replied, tokenize=False)
    except TemplateError as error:
        return Verdict(None, "failed", f"the chat template refuses this conversation: {error}")
    before, after = tokenizer([asked, whole], add_special_tokens=False)["input_ids"]
    if limit is not None and len(after) > limit:
        return Verdict(None, "failed", f"longer than the {limit} tokens that the model takes")
    if len(after) <= len(before):
        return Verdict(None, "failed", "the chat template gives the answer no token")
    return list(after), len(before)


def _model(path: str) -> Model:
    return models.load("judge", path, where="option 'model' of judge 'likelihood'")


def _reads(options: LikelihoodOptions) -> list[Path]:
    return models.files(_model(options.model))


@hookimpl
def karma_register_judges() -> Sequence[Judge]:
    """Register judge `likelihood`."""
    return [Judge(name="likelihood", options=LikelihoodOptions, score=score, reads=_reads)]
