"""JSON that nobody vouches for: parsed, or refused in one line that says where and why."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from karma_plugins.errors import TableError

#: Levels of lists and objects in each other; OpenAssistant's deepest trees have about 60.
DEEPEST = 500
#: Digits of a whole number; the greatest float has 309.
MOST_DIGITS = 308
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
HALF_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
BRACKETS = re.compile(r"[\[\]{}]")
BROKEN = "texts_with_broken_characters"


class UnfitError(ValueError):
    """Well-formed JSON that no table of ours can hold."""


def parse(text: str | bytes, where: str, cure: str = "Mend or remove it.") -> Any:
    """The value of a JSON text; `where` and `cure` are for the message.

    Raises TableError for what is no JSON, no UTF-8, nested more than 500 deep, or has a whole number of more
    than 308 digits.
    """
    try:
        content = text if isinstance(text, str) else text.decode("utf-8-sig")
        refuse_depth(content)
        return DECODER.decode(content)
    except RecursionError:
        raise TableError(f"{where}: {TOO_DEEP}. {cure}") from None
    except UnfitError as error:
        raise TableError(f"{where}: {error}. {cure}") from None
    except ValueError as error:  # also bytes that are no UTF-8
        raise TableError(f"{where}: not JSON ({error}). {cure}") from error


TOO_DEEP = f"lists or objects are nested more than {DEEPEST} deep, which is no data"


def refuse_depth(text: str, start: int = 0, end: int | None = None) -> None:
    """Raise UnfitError where a part nests brackets too deep, whatever the interpreter's own limit is."""
    if text.count("[", start, end) + text.count("{", start, end) <= DEEPEST:
        return
    depth = 0
    for bracket in BRACKETS.finditer(STRINGS.sub("", text[start:end])):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > DEEPEST:
            raise UnfitError(TOO_DEEP)


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS + digits.startswith("-"):
        raise UnfitError(f"a whole number of {len(digits.lstrip('-'))} digits, which nothing here can hold")
    return int(digits)


DECODER = json.JSONDecoder(parse_int=_whole)


def holds_half(text: str, start: int, end: int) -> bool:
    """Whether a part of a JSON text may stand for half a character: only an escape can."""
    return text.find("\\u", start, end) >= 0 and HALF_ESCAPE.search(text, start, end) is not None


def whole(text: str) -> bool:
    """Whether a text holds no half character; encoding is ten times as fast as looking for one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def mended(text: str) -> str:
    """The text with half characters replaced."""
    return text if whole(text) else LONE_SURROGATE.sub("\ufffd", text)


def readable(value: Any, counts: Counter[str]) -> Any:
    """The value with half characters (lone surrogates) in its texts replaced, which `counts` counts.

    No UTF-8 file can hold half a character; JSON writes them as `\\ud83d`.
    """
    if isinstance(value, str):
        if whole(value):
            return value
        counts[BROKEN] += 1
        return mended(value)
    if isinstance(value, list):
        return [readable(inner, counts) for inner in value]
    if isinstance(value, dict):
        return {readable(key, counts): readable(inner, counts) for key, inner in value.items()}
    return value
