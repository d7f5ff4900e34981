"""What a chat server sent back: an answer, or what kind of failure. A status of 200 proves nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from karma_plugins.contracts import Reply
from karma_plugins.errors import RequestError
from karma_plugins.requesting.secrets import Mask

Failure: TypeAlias = Literal[
    "rate limit", "server error", "timeout", "cut connection", "not JSON", "HTML", "wrong schema",
    "empty content", "refusal", "other model", "refused request", "too large",
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
    407: "Check the proxy that HTTPS_PROXY names",
}
#: Statuses that an error stands for which comes as words, as some gateways send it with status 200.
SPOKEN: Mapping[str, int] = {
    "authentication_error": 401, "invalid_api_key": 401, "insufficient_quota": 402, "billing_error": 402,
    "permission_error": 403, "not_found_error": 404, "model_not_found": 404, "timeout": 408,
    "rate_limit_exceeded": 429, "rate_limit_error": 429, "rate_limit": 429, "overloaded_error": 503,
    "server_error": 500, "internal_server_error": 500, "api_error": 500, "service_unavailable": 503,
}  # fmt: skip
#: Words by which servers say that it is this prompt's content that they refuse, whatever the status.
MODERATED = re.compile(
    r"content[ _-]?(policy|filter|management|moderation)|moderation|responsible[ _]?ai|safety (system|filter)"
    r"|flagged[ _](input|as|by|for)|flagged_input|unsafe content|harmful",
    re.IGNORECASE,
)
#: Parameters that some servers know by another name: the descriptor can fit the request to them.
UNFITTING = re.compile(
    r"(unsupported|unknown|unrecognized|unexpected|not supported|extra)"
    r".{0,80}(parameter|argument|field|key|value|input)"
    r"|max_completion_tokens",
    re.IGNORECASE | re.DOTALL,
)
NO_MASK = Mask("")
#: What a terminal acts on: control characters, and marks that turn the direction of text.
ACTING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class ServerReply(Reply):
    """A server's reply, with the kind of its failure, where it failed. `kept`: from an earlier run."""

    failure: Failure | None = None
    kept: bool = field(default=False, compare=False)


def failed(failure: Failure, details: str) -> ServerReply:
    """A failure with its line, which holds nothing that a terminal would act on."""
    return ServerReply(None, failure=failure, error=f"{failure}: {one_line(details)[:300]}")


def one_line(text: str) -> str:
    """A server's words as one line without control characters or direction marks."""
    return " ".join(ACTING.sub(" ", text).split())


def read_reply(
    status: int,
    content_type: str,
    body: bytes,
    model: str,
    served_as: str | None = None,
    mask: Mask = NO_MASK,
) -> ServerReply:
    """Judge a response to a request for `model`.

    `served_as` is the name by which this server calls the model, `mask` takes our key out of texts. Raises
    RequestError where the status, or an error that came under status 200, makes going on pointless.
    """
    # All is masked before anything is cut short: of a key that is cut, the rest would not be known again.
    text = body.decode("utf-8", "replace")
    if status != 200:
        return _refused(status, _message(text, mask), mask(text))
    if "html" in content_type or text.lstrip()[:1] == "<":
        return failed("HTML", _message(text, mask))
    try:
        document = mask.all_of(json.loads(text))
    except (ValueError, RecursionError) as error:
        return failed("not JSON", f"{error}, {len(body)} bytes")
    return _spoken_error(document) or _read_document(document, model, served_as)


def _refused(status: int, message: str, text: str) -> ServerReply:
    """What a status other than 200 comes to; `text` is the whole body."""
    if status == 451 or (400 <= status < 500 and status != 401 and MODERATED.search(text)):
        return failed("refusal", f"status {status} ({message})")
    if status in HOPELESS:
        raise RequestError(f"the server answers {status} ({message}). {HOPELESS[status]}.")
    if status == 429:
        if "insufficient_quota" in text:
            raise RequestError(f"the quota is used up ({message}). Finished answers are kept.")
        return failed("rate limit", f"status 429 ({message})")
    if status == 408:
        return failed("timeout", f"status 408 ({message})")
    if status >= 500 or status == 425:
        return failed("server error", f"status {status} ({message})")
    cure = (
        "; 'request' in the descriptor fits what is sent" if status == 400 and UNFITTING.search(text) else ""
    )
    return failed("refused request", f"status {status} ({message}){cure}")


def _spoken_error(document: Any) -> ServerReply | None:
    """The failure that a body of status 200 speaks of, at its top or in its first choice; null for none."""
    if not isinstance(document, dict):
        return None
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = document.get("error") or choice.get("error")
    if not error:
        if choice.get("finish_reason") == "error":
            return failed("server error", "finish_reason error")
        return None
    text = json.dumps(error, ensure_ascii=False)
    return _refused(_status_of(error), one_line(_words(error))[:160], text)


def _status_of(error: Any) -> int:
    """The status that an error object stands for; of one that says none, 400 where it moderates, else 500."""
    if isinstance(error, dict):
        for name in ("code", "status", "type"):
            value = error.get(name)
            if isinstance(value, int | str) and str(value).isdecimal() and 400 <= int(str(value)[:4]) < 600:
                return int(value)
            if isinstance(value, str) and value.lower() in SPOKEN:
                return SPOKEN[value.lower()]
    return 400 if MODERATED.search(json.dumps(error)) else 500


def _words(error: Any) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)


def _read_document(document: Any, model: str, served_as: str | None) -> ServerReply:
    try:
        choice = document["choices"][0]
        message, named = choice["message"], document["model"]
        content, refusal, reason = message.get("content"), message.get("refusal"), choice.get("finish_reason")
        usage = document.get("usage") or {}
        content = _joined(content)
        reply = ServerReply(
            content, reason, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        )
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


def _joined(content: Any) -> Any:
    """Content as text, also where a server sends it in parts of type text; anything else as it is."""
    if (
        isinstance(content, list)
        and content
        and all(
            isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
            for part in content
        )
    ):
        return "".join(part["text"] for part in content)
    return content


def after(reply: ServerReply, tries: int) -> ServerReply:
    """A failure that says how often it was tried."""
    return replace(reply, error=f"{reply.error}, tried {tries} times") if tries > 1 else reply


def _same(named: str, wanted: str) -> bool:
    return named == wanted or (
        named.startswith(wanted) and SUFFIX.fullmatch(named[len(wanted) :]) is not None
    )


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name)
    return value if type(value) is int and 0 <= value < 2**31 else None


def _message(text: str, mask: Mask) -> str:
    """What an error body says, in a few words."""
    try:
        document = mask.all_of(json.loads(text))
        text = _words((document.get("error") or document) if isinstance(document, dict) else document)
    except (ValueError, RecursionError):
        text = re.sub(r"<[^>]*>", " ", mask(text))  # what looks like a tag may be a part of the key
    return one_line(text)[:160] or "no text"
