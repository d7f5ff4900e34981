"""What a chat server sent back: an answer, or what kind of failure. A status of 200 proves nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from karma_plugins.errors import RequestError

Failure: TypeAlias = Literal[
    "rate limit", "server error", "timeout", "cut connection", "not JSON", "HTML", "wrong schema",
    "empty content", "refusal", "other model", "refused request",
]  # fmt: skip
#: Failures that asking again may heal: they come from the way, not from the question.
HEALING: frozenset[Failure] = frozenset(
    {"rate limit", "server error", "timeout", "cut connection", "not JSON", "HTML"}
)
#: What hosts append to the name that was asked for: `@revision`, or the date of a snapshot.
SUFFIX = re.compile(r"@[\w./-]+|-\d{4}-?\d{2}-?\d{2}")
#: Statuses after which going on is pointless, and what to do.
HOPELESS: Mapping[int, str] = {
    401: "Check the key in the variable that api_key_env names",
    402: "Add credit, or name another endpoint",
    403: "Check what the key in the variable that api_key_env names may do",
    404: "Check the descriptor's endpoint (it usually ends in /v1) and model",
    405: "Check the descriptor's endpoint (it usually ends in /v1)",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request: a text, or a failure and one line on it. `kept`: from an earlier run."""

    text: str | None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    failure: Failure | None = None
    error: str | None = None
    kept: bool = field(default=False, compare=False)


def failed(failure: Failure, details: str) -> Reply:
    """A failure with its line."""
    return Reply(None, failure=failure, error=f"{failure}: {' '.join(details.split())[:300]}")


def read_reply(
    status: int, content_type: str, body: bytes, model: str, served_as: str | None = None
) -> Reply:
    """Judge a response to a request for `model`.

    `served_as` is the name by which this server calls the model. Raises RequestError where the status or an
    exhausted quota makes going on pointless.
    """
    if status in HOPELESS:
        raise RequestError(f"the server answers {status} ({_message(body)}). {HOPELESS[status]}.")
    if status == 429:
        if b"insufficient_quota" in body:
            raise RequestError(f"the quota is used up ({_message(body)}). Finished answers are kept.")
        return failed("rate limit", f"status 429 ({_message(body)})")
    if status == 408:
        return failed("timeout", f"status 408 ({_message(body)})")
    if status >= 500 or status == 425:
        return failed("server error", f"status {status} ({_message(body)})")
    if status != 200:
        return failed("refused request", f"status {status} ({_message(body)})")
    text = body.decode("utf-8", "replace")
    if "html" in content_type or text.lstrip()[:1] == "<":
        return failed("HTML", _message(body))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        return failed("not JSON", f"{error}, {len(body)} bytes")
    return _read_document(document, model, served_as)


def _read_document(document: Any, model: str, served_as: str | None) -> Reply:
    try:
        choice = document["choices"][0]
        message, named = choice["message"], document["model"]
        content, refusal, reason = message.get("content"), message.get("refusal"), choice.get("finish_reason")
        usage = document.get("usage") or {}
        reply = Reply(content, reason, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        return failed("wrong schema", f"{type(error).__name__} {error} where choices[0].message should be")
    for name, value in (("content", content), ("refusal", refusal), ("finish_reason", reason)):
        if value is not None and not isinstance(value, str):
            return failed("wrong schema", f"{name} is {type(value).__name__}, not text")
    if not isinstance(named, str) or not _same(named, served_as or model):
        return failed("other model", f"asked for '{model}', '{named}' answered")
    if refusal or reason == "content_filter":
        return failed("refusal", refusal or "the server's content filter")
    if content is None or not content.strip():
        return failed("empty content", f"finish_reason {reason}")
    try:
        content.encode()
    except UnicodeEncodeError:
        return failed("wrong schema", "content holds half a character")
    return reply


def after(reply: Reply, tries: int) -> Reply:
    """A failure that says how often it was tried."""
    return replace(reply, error=f"{reply.error}, tried {tries} times") if tries > 1 else reply


def _same(named: str, asked: str) -> bool:
    return named == asked or (named.startswith(asked) and SUFFIX.fullmatch(named[len(asked) :]) is not None)


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name)
    return value if type(value) is int and 0 <= value < 2**31 else None


def _message(body: bytes) -> str:
    """What an error body says, in a few words."""
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
        error = document.get("error", document) if isinstance(document, dict) else document
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, RecursionError):
        text = re.sub(r"<[^>]*>", " ", text)
    return " ".join(text.split())[:160] or "no text"
