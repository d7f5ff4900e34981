"""The ids of prompts and responses: hashes of what they say, the same wherever they are met."""

from __future__ import annotations

import hashlib
import json

from karma_plugins.contracts import Messages


def prompt_id(messages: Messages) -> str:
    """The id of a prompt: 16 hex digits of a hash of its messages, the same wherever it is met."""
    canonical = json.dumps(
        [[m["role"], m["content"]] for m in messages], ensure_ascii=False, separators=(",", ":")
    )
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def response_id(prompt_id: str, model: str, sample: int, text: str | None) -> str:
    """The id of an answer: 16 hex digits of a hash of whose answer it is and what it says."""
    parts = f"{prompt_id}\0{model}\0{sample}\0{'' if text is None else text}"
    return hashlib.blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
