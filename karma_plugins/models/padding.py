"""Rows of unequal length side by side: padding that changes no row's scores, or none at all.

Most families are indifferent to padding that the attention mask hides; some are not, on one side or on both.
Which kind a loaded model is of is tried out once, on a few tokens, rather than known by its name; so is
whether it is causal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Side: TypeAlias = Literal["left", "right"]
#: Lengths of the rows that are tried side by side, and how many tokens are then generated.
SHORT, LONG, STEPS = 5, 12, 3
#: How far apart two logits may be, in standard deviations of a row's logits: rounding, but no other position.
ROUNDING, ROUNDING_16_BITS = 1e-3, 0.1

_tried: WeakKeyDictionary[PreTrainedModel, dict[str, bool]] = WeakKeyDictionary()


def bears_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, side: Side) -> bool:
    """Whether a row's scores are the same beside a longer one, padded on this side, as alone.

    On the left that is asked of `generate`, as answers are made, on the right of one forward pass, as answers
    are scored.
    """
    known = _tried.setdefault(model, {})
    if side not in known:
        known[side] = _try(model, side, tokenizer)
    return known[side]


def is_causal(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether what one forward pass says of a token depends on those before it alone."""
    import torch

    known = _tried.setdefault(model, {})
    if "causal" not in known:
        short, long = _rows(model, tokenizer)
        with torch.inference_mode():
            ids = torch.tensor([short + long], device=model.device)
            whole, part = (model(input_ids=i).logits[0, :SHORT].float() for i in (ids, ids[:, :SHORT]))
        known["causal"] = float((whole - part).abs().max()) <= _bound(model, part)
    return known["causal"]


def in_batches(lengths: Sequence[int], size: int, *, padded: bool) -> Iterator[slice]:
    """Consecutive rows that are computed at once, at most `size`; of one length unless they may be padded."""
    start = 0
    for _, group in groupby(lengths, key=lambda length: None if padded else length):
        stop = start + sum(1 for _ in group)
        for first in range(start, stop, size):
            yield slice(first, min(first + size, stop))
        start = stop


def side_by_side(
    rows: Sequence[Sequence[int]], side: Side, filler: int, device: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask (rows, longest row), padded on a side."""
    import torch

    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), filler, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, place], mask[i, place] = row, 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def vocabulary(model: PreTrainedModel) -> int:
    """How many tokens the model has an embedding for."""
    return int(model.get_input_embeddings().weight.shape[0])


def filler(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that pads: the model's own, else the tokenizer's, if the model has an embedding for it."""
    for token in (model.config.get_text_config().pad_token_id, tokenizer.pad_token_id):
        if isinstance(token, int) and 0 <= token < vocabulary(model):
            return token
    return 0


@contextmanager
def pooling(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Iterator[int]:
    """The token to pad a classifier's rows with, so that it pools at the very token that it would alone.

    Causal classifiers pool at the last token that is not their padding token, whatever the mask says. Where
    they have one, more of it on the right changes nothing. Where they have none, alone they pool at the last
    token, and so a token that stands in no row of the batch is their padding for as long as it is scored.
    """
    config = model.config.get_text_config()
    own, size = config.pad_token_id, vocabulary(model)
    if isinstance(own, int) and 0 <= own < size:
        yield own
        return
    present = {token for row in rows for token in row}
    config.pad_token_id = next((token for token in range(size) if token not in present), 0)
    try:
        yield config.pad_token_id
    finally:
        config.pad_token_id = own


def _try(model: PreTrainedModel, side: Side, tokenizer: PreTrainedTokenizerBase) -> bool:
    import torch

    outputs = _generated if side == "left" else _scored
    short, long = _rows(model, tokenizer)
    pad = filler(model, tokenizer)
    with torch.inference_mode():
        try:
            alone, tokens = outputs(model, [short], pad)
            beside, others = outputs(model, [short, long], pad)
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
            return False  # it can't be padded; where it can't be asked at all, that is said when it is asked
    bound = _bound(model, alone)
    for step in range(alone.shape[0]):
        if float((alone[step] - beside[step]).abs().max()) > bound:
            return False
        if tokens[step] != others[step]:
            break  # a tie within rounding: from here on the two say different things
    return True


def _bound(model: PreTrainedModel, logits: torch.Tensor) -> float:
    """How far apart rounding alone may bring two of such logits."""
    import torch

    spread = float(logits.std()) if logits.numel() > 1 else max(float(logits.abs().max()), 0.1)
    return (ROUNDING_16_BITS if model.dtype in (torch.float16, torch.bfloat16) else ROUNDING) * spread


def _rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    special = {*tokenizer.all_special_ids, filler(model, tokenizer)}
    plain = [token for token in range(min(vocabulary(model), 1024)) if token not in special] or [0]
    drawn = np.random.default_rng(0).choice(plain, SHORT + LONG).tolist()
    return drawn[:SHORT], drawn[SHORT:]


def _generated(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], pad: int
) -> tuple[torch.Tensor, list[int]]:
    """The first row's logits (steps, vocabulary) and tokens, as `generate` makes them."""
    import torch
    from transformers import GenerationConfig

    ids, mask = side_by_side(rows, "left", pad, model.device)
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        generation_config=GenerationConfig(
            max_new_tokens=STEPS, do_sample=False, pad_token_id=pad, eos_token_id=None,
            output_logits=True, return_dict_in_generate=True,
        ),
    )  # fmt: skip
    return torch.stack([step[0] for step in output.logits]).float(), output.sequences[0, -STEPS:].tolist()


def _scored(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], pad: int
) -> tuple[torch.Tensor, list[int]]:
    """The first row's logits (tokens, vocabulary) and its tokens, or a classifier's (1, labels)."""
    if model.can_generate():
        ids, mask = side_by_side(rows, "right", pad, model.device)
        return model(input_ids=ids, attention_mask=mask).logits[0, : len(rows[0])].float(), list(rows[0])
    with pooling(model, rows) as own:
        ids, mask = side_by_side(rows, "right", own, model.device)
        return model(input_ids=ids, attention_mask=mask).logits[:1].float(), [0]
