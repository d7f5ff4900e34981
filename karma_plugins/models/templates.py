"""The one place where a conversation becomes the text that a model reads: whole, or with a reason why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from karma_plugins.contracts import Weights
from karma_plugins.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What stands in a message's place to see whether a template reads it at all.
MARK = "qzx"
#: An added token that marks something, rather than being a word.
MARKED = re.compile(r"[<\[].*[\]>]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a chat template gives no text for a conversation."""

    reason: str


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """The texts that a tokenizer reads as one token wherever they stand: special ones, and marks in brackets,
    such as those of thinking, which chat templates look for.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    marks = {token.content for token in added if token.special or MARKED.fullmatch(token.content)}
    return frozenset(tokenizer.all_special_tokens) | marks


def check_chat_template(tokenizer: PreTrainedTokenizerBase, weights: Weights) -> None:
    """Raise ModelError where there is no chat template: a made-up one asks in a form the model never saw."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"{weights.location}: its tokenizer has no chat template. Name a file in a descriptor: "
            "`chat_template: path/to/template.jinja`."
        )


def render(
    tokenizer: PreTrainedTokenizerBase,
    weights: Weights,
    messages: Sequence[Mapping[str, str]],
    *,
    answered: bool = False,
) -> str | Refusal:
    """The text of a conversation, up to where the answer begins, or with `answered` to its end.

    Where a template takes content as parts, it is given parts. A refusal says what the template refuses, or
    which message it leaves out (what an assistant said before the last turn may be left out, as thinking is).
    Raises ModelError where the template is no template.
    """
    whole = [dict(message) for message in messages]
    texts = []
    for form in (whole, [{**message, "content": _parts(message["content"])} for message in whole]):
        text = _applied(tokenizer, weights, form, answered=answered)
        if isinstance(text, Refusal):
            texts.append(text)
            continue
        lost = _lost(text, whole, answered=answered)
        if lost is None:
            return text
        if form is whole and _is_read(
            partial(_applied, tokenizer, weights, answered=answered), text, whole, lost
        ):
            return text
        role = whole[lost]["role"]
        texts.append(Refusal(f"the chat template leaves out the {role} message"))
    return texts[0]


def _applied(
    tokenizer: PreTrainedTokenizerBase, weights: Weights, messages: Sequence[Any], *, answered: bool
) -> str | Refusal:
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not answered)
    except TemplateSyntaxError as error:
        raise ModelError(
            f"{weights.location}: its chat template is broken, line {error.lineno}: {error.message}. "
            "Correct the file that 'chat_template' names."
        ) from error
    except TemplateError as error:
        return Refusal(f"the chat template refuses this conversation: {' '.join(str(error).split())}")
    # What a template's own arithmetic may raise.
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).split())
        return Refusal(f"the chat template fails on this conversation: {type(error).__name__}: {reason}")
    return text if text else Refusal("the chat template renders nothing")


def _parts(content: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}]


def _lost(text: str, messages: Sequence[Mapping[str, str]], *, answered: bool) -> int | None:
    """The first message whose words are not in the text, if any; of the assistant's the last alone counts."""
    last = len(messages) - 1
    for i, message in enumerate(messages):
        counts = message["role"] != "assistant" or (answered and i == last)
        if counts and message["content"].strip() not in text:
            return i
    return None


def _is_read(
    apply: Callable[[Sequence[Any]], str | Refusal],
    text: str,
    messages: Sequence[Mapping[str, str]],
    number: int,
) -> bool:
    """Whether a message that is not in the text as it stands (escaped, shortened) still decides the text."""
    marked, emptied = (
        apply([{**m, "content": content} if i == number else m for i, m in enumerate(messages)])
        for content in (MARK, "")
    )
    return isinstance(marked, str) and MARK in marked and text not in (marked, emptied)
