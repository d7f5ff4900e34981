"""Names as MLflow allows them, no two of which become one, and the values that it takes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

#: How long a name, a tag's and a param's value may be.
NAME, TAG, PARAM = 250, 5000, 6000
#: Characters that MLflow refuses in names, in words.
WORDS: Final = {
    "@": "at", "#": "hash", "%": "percent", "+": "plus", "*": "star", "=": "equals", "&": "and", ",": "comma",
    "(": "open", ")": "close", "[": "from", "]": "to", "<": "less", ">": "more", "|": "or", "!": "not",
    "?": "what", "'": "quote", '"': "quotes", "~": "tilde", "$": "dollar", "^": "hat", ";": "semicolon",
    "\\": "backslash", "{": "brace", "}": "unbrace", "`": "tick",
}  # fmt: skip
REFUSED: Final = re.compile(r"[^\w\-./: ]")
#: Before a name as MLflow has it, in the tag that holds the original.
ORIGINAL: Final = "karma.name."
#: What looks like a word for a character: a colon before it is written as one.
WORD: Final = re.compile(r":(?=[a-z0-9]+:)")


def allowed(name: str) -> str:
    """A name as MLflow allows it for params, metrics and tags; two names never become one.

    Characters that it refuses become words between colons (`recall@5` is `recall:at:5`), so do empty parts of
    a path and parts of dots alone; what is too long ends with a digest of the whole. The tag of an original
    has its name as the param or metric has it.
    """
    if name.startswith(ORIGINAL):
        return ORIGINAL + _allowed(name.removeprefix(ORIGINAL), NAME - len(ORIGINAL))
    return _allowed(name, NAME)


def _allowed(name: str, longest: int) -> str:
    text = WORD.sub(":colon:", name)
    text = REFUSED.sub(lambda match: f":{WORDS.get(match[0]) or f'u{ord(match[0]):x}'}:", text)
    parts = text.split("/")
    text = "/".join({"": ":empty:", ".": ":dot:", "..": ":dots:"}.get(part, part) for part in parts)
    if text.startswith(".."):
        text = f":dots:{text[2:]}"
    if len(text) <= longest:
        return text
    return f"{text[: longest - 18]}:{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}:"


def changed(names: Mapping[str, object]) -> dict[str, str]:
    """Tags that hold the original of every name that MLflow does not allow as it is; named like it."""
    return {f"{ORIGINAL}{name}": name for name in names if allowed(name) != name}


def tag(value: str) -> str:
    """A tag's value, cut with its length said where it is too long."""
    return _cut(value, TAG)


def param(value: str) -> str:
    """A param's value, cut where it is too long, with its length and digest: the whole is an artifact."""
    return _cut(value, PARAM)


def _cut(value: str, limit: int) -> str:
    if len(value) <= limit:
        return value
    digest = hashlib.md5(value.encode(), usedforsecurity=False).hexdigest()
    end = f"… [{len(value)} characters, md5 {digest}]"
    return value[: limit - len(end)] + end


def plain(name: str) -> str:
    """A name without what MLflow refuses in names of models: path separators, dots, colons, quotes."""
    return re.sub(r"[^\w\- ]+", "-", name).strip("-") or "model"


def registered(name: str) -> str:
    """A name as the model registry takes it: without slashes and colons."""
    return re.sub(r"[/:'\"]+", "-", name).strip() or "model"
