"""Known answers: one text, or several of which each is right, as question sets with aliases have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

#: The key under which table `prompts` keeps several right answers, as `{"any_of": ["Rome", "Roma"]}`.
ANY_OF = "any_of"
#: Where question sets keep an answer with its aliases: TriviaQA, and SQuAD with Natural Questions.
ALIASES, TEXTS = ("value", "aliases"), "text"


def stored(value: Any) -> str | None:
    """A known answer as table `prompts` keeps it: a text as it is, several as JSON; null for none.

    Several are a list of texts or numbers, TriviaQA's `{value, aliases}` or SQuAD's `{text: [...]}`; repeated
    ones count once. Any other value is kept as JSON, which no answer will match.
    """
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return value or None
    several = _several(value)
    if several is None:
        structured = isinstance(value, (dict, list, tuple))
        return json.dumps(value, ensure_ascii=False, sort_keys=True) if structured else str(value)
    if len(several) < 2:
        return next(iter(several), None)
    return json.dumps({ANY_OF: several}, ensure_ascii=False)


def accepted(reference: str) -> list[str]:
    """The answers that a known answer, as table `prompts` keeps it, accepts: one or more."""
    if reference.startswith("{") and ANY_OF in reference:
        try:
            several = json.loads(reference)
        except (ValueError, RecursionError):
            return [reference]
        if isinstance(several, dict) and set(several) == {ANY_OF} and (texts := _texts(several[ANY_OF])):
            return texts
    return [reference]


def _several(value: Any) -> list[str] | None:
    if isinstance(value, Mapping):
        if all(key in value for key in ALIASES):
            return _texts([value[ALIASES[0]], *(value[ALIASES[1]] or [])])
        return _texts(value[TEXTS]) if isinstance(value.get(TEXTS), list) else None
    return _texts(value) if isinstance(value, Sequence) else None


def _texts(values: Any) -> list[str] | None:
    """Distinct texts in order, without blank ones; null where some value is neither a text nor a number."""
    if not isinstance(values, list):
        return None
    if not all((isinstance(v, (str, int, float)) and not isinstance(v, bool)) or v is None for v in values):
        return None
    texts = [v if isinstance(v, str) else str(v) for v in values if v is not None]
    return list(dict.fromkeys(text for text in texts if text.strip()))
