"""What loaded weights say of texts that are there already: rewards, and the probability of each token.

A row's numbers are those of plain transformers on that row alone. Rows are padded on the right, which no
causal model sees, and are scored one at a time where weights are held in 16 bits: there the rounding of a
batch reaches the third digit of a score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from karma_plugins.models.loading import positions
from karma_plugins.models.padding import bears_padding, filler, in_batches, pooling, side_by_side, vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def unfit(model: PreTrainedModel, tokens: Sequence[int], longest: int | None = None) -> str | None:
    """Why a row can't be scored; null where it can. `longest` is a bound of the user's own."""
    most = min(bound for bound in (positions(model), longest, len(tokens)) if bound is not None)
    if not tokens:
        return "it has no token"
    if len(tokens) > most:
        return f"longer than the {most} tokens that the model takes"
    if max(tokens) >= vocabulary(model):
        return f"token {max(tokens)} is beyond the {vocabulary(model)} that the model has embeddings for"
    return None


def rewards(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]], batch_size: int
) -> list[float]:
    """The one number that a sequence classifier gives each row of tokens."""
    import torch

    given = [0.0] * len(rows)
    with torch.inference_mode():
        for numbers in _batches(model, tokenizer, rows, batch_size):
            batch = [rows[i] for i in numbers]
            with pooling(model, batch) as pad:
                ids, mask = side_by_side(batch, "right", pad, model.device)
                logits = model(input_ids=ids, attention_mask=mask).logits[:, 0].double().tolist()
            for i, value in zip(numbers, logits, strict=True):
                given[i] = value
    return given


def log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sequence[int]],
    starts: Sequence[int],
    batch_size: int,
) -> list[NDArray[np.float64]]:
    """The log-probability of each token of a row from its start (at least 1) on, given all before it."""
    import torch

    given: list[NDArray[np.float64]] = [np.empty(0)] * len(rows)
    pad = filler(model, tokenizer)
    with torch.inference_mode():
        for numbers in _batches(model, tokenizer, rows, batch_size):
            ids, mask = side_by_side([rows[i] for i in numbers], "right", pad, model.device)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            each = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].double().cpu().numpy()
            for i, values in zip(numbers, each, strict=True):
                given[i] = values[starts[i] - 1 : len(rows[i]) - 1]
    return given


def _batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sequence[int]],
    size: int,
) -> Iterator[list[int]]:
    """The numbers of rows that are scored at once: by what they say, not by where they stand."""
    import torch

    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), rows[i]))
    if model.dtype in (torch.float16, torch.bfloat16):
        yield from ([i] for i in order)
        return
    padded = bears_padding(model, tokenizer, "right")
    for part in in_batches([len(rows[i]) for i in order], size, padded=padded):
        yield order[part]
