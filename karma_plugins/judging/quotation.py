"""Quoting what is judged, so that it stays data: it can't end its quotation or pass as a role of the chat."""

from __future__ import annotations

import hashlib
import re

#: Tokens by which chat formats mark who speaks; a server that renders a template reads them wherever they
#: stand.
CONTROL = re.compile(
    r"<[|｜][^<>]{1,60}?[|｜]>"  # ChatML, Llama 3, Phi, DeepSeek
    r"|<\|[^<>|\s]{1,60}>|<[^<>|\s\u200b]{1,60}\|>"  # Gemma 4
    r"|</?s>|\[/?INST\]|<</?SYS>>"  # Llama 2, Mistral
    r"|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_(?:CALLS|RESULTS|CONTENT)|THINK|gMASK)\]"  # Mistral, GLM
    r"|</?(?:bos|eos|pad|unk|sop|eop|start_of_turn|end_of_turn|think|tool_call|tool_response)>"  # and others
    r"|<(?:BOS|EOS|PAD|UNK|CLS|SEP|MASK)_TOKEN>",  # Command
    re.IGNORECASE,
)
#: Invisible, and enough to make a control token plain text.
BREAK = "\u200b"


def disarmed(text: str) -> str:
    """The text with every control token broken by an invisible space, so that it is read as text."""
    return CONTROL.sub(lambda token: token[0][0] + BREAK + token[0][1:], text)


def case_number(*texts: str) -> str:
    """16 hex digits that belong to these texts, stand in none of them, and can't be foreseen by who writes
    one.

    They are a hash of all of them: a text that held its own case number would have another one.
    """
    for attempt in range(1000):
        parts = "\0".join((str(attempt), *texts)).encode("utf-8", "surrogatepass")
        number = hashlib.blake2b(parts, digest_size=8, person=b"karma judge").hexdigest()
        if not any(number in text.lower() for text in texts):
            return number
    raise ValueError("every case number stands in the texts")


def quoted(part: str, text: str, case: str) -> str:
    """A part of what is judged between lines that only its case number makes valid."""
    return f"BEGIN {part} {case}\n{disarmed(text)}\nEND {part} {case}"
