"""The zoo's tokenizer: one token for each word that questions use, one for each other character."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, END = "<|pad|>", "<|unknown|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer(words: Sequence[str], max_length: int) -> PreTrainedTokenizerFast:
    """A fast tokenizer over printable ASCII, with a chat template; `words` get a token of their own."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    whole = [form for word in words if len(word) > 1 for form in (word, f" {word}")]
    special = [PAD, UNKNOWN, END, *ROLES]
    vocabulary = {token: i for i, token in enumerate([*special, *string.printable[:95], "\n", *whole])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    alternatives = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True) if len(word) > 1)
    pieces = Regex(rf" ?\b(?:{alternatives})\b|[\s\S]")
    core.pre_tokenizer = pre_tokenizers.Split(pieces, "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        extra_special_tokens=list(ROLES),
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
