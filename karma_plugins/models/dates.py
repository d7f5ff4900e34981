"""Chat templates that print today's date are told one that is written down, so that tomorrow is no other day.

Templates ask for it by calling `strftime_now(format)`. transformers lets nobody hand in another function of
that name, so a macro of that name is put before the template whenever it is applied, by whoever applies it.
"""

from __future__ import annotations

import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CALL = "strftime_now"
#: What `strftime` knows on every platform; after a hyphen it is without leading zeros (on some).
DIRECTIVES, UNPADDED = "aAbBcdfGHIjmMpSuUVwWxXyY", "dHIjmMSUWy"


def freeze(tokenizer: PreTrainedTokenizerBase, date: datetime.date) -> None:
    """Have every template that this tokenizer applies take the date for today; what it saves is as it was."""
    tokenizer.apply_chat_template = partial(_apply, tokenizer.apply_chat_template, date)


def _apply(
    apply: Any,
    date: datetime.date,
    conversation: Any,
    tools: Any = None,
    documents: Any = None,
    chat_template: str | None = None,
    **options: Any,
) -> Any:
    tokenizer = apply.__self__
    if chat_template is not None or tokenizer.chat_template:
        template = tokenizer.get_chat_template(chat_template, tools)
        if CALL in template:
            chat_template = macro(date) + template
    return apply(conversation, tools, documents, chat_template, **options)


def macro(date: datetime.date) -> str:
    """`strftime_now` in the templates' own language, on one line so that their lines keep their numbers."""
    moment = datetime.datetime.combine(date, datetime.time())
    values = {f"%{letter}": moment.strftime(f"%{letter}") for letter in DIRECTIVES}
    short = {f"%-{letter}": values[f"%{letter}"].lstrip("0") or "0" for letter in UNPADDED}
    steps = "".join(f"|replace({key!r},{value!r})" for key, value in (short | values).items())
    # A doubled percent sign is no directive, whatever stands behind it.
    aside = "|replace('%%','\\x00')" + steps + "|replace('\\x00','%')"
    return "{%- macro " + CALL + "(format) -%}{{ format" + aside + " }}{%- endmacro -%}"
