"""Conversations in the shapes that data sets have them, as messages of system, user and assistant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

Turns: TypeAlias = list[dict[str, str]]

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
#: What other data sets call the three.
ROLES = {
    "human": USER, "prompter": USER, "instruction": USER, "question": USER,
    "gpt": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT, "chatgpt": ASSISTANT, "answer": ASSISTANT,
}  # fmt: skip
#: Keys of a message, as TRL and as ShareGPT have it.
MESSAGE_KEYS = (("role", "content"), ("from", "value"))
DIALOGUE_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


def turns(value: Any) -> Turns | None:
    """Messages from a list of them or a single one; null where it is none.

    A system message without text says nothing and is left out; of content in parts the texts are joined.
    """
    messages: Turns = []
    for message in [value] if isinstance(value, Mapping) else value if isinstance(value, list) else [None]:
        if not isinstance(message, Mapping):
            return None
        keys = next((keys for keys in MESSAGE_KEYS if all(key in message for key in keys)), None)
        if keys is None:
            return None
        role, content = message[keys[0]], _content(message[keys[1]])
        if not isinstance(role, str) or content is None:
            return None
        role = ROLES.get(role.lower(), role.lower())
        if role != SYSTEM or content.strip():
            messages.append({"role": role, "content": content})
    return messages or None


def _content(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") == "text"]
    if not parts or len(texts) < len(parts) or not all(isinstance(text, str) for text in texts):
        return None
    return "\n".join(map(str, texts))


def asked(system: Any, prompt: str) -> Turns:
    """A single question, after a system message where there is one with text."""
    before = [{"role": SYSTEM, "content": system}] if isinstance(system, str) and system.strip() else []
    return [*before, {"role": USER, "content": prompt}]


def is_prompt(messages: Turns) -> bool:
    """Whether messages can be asked: known roles, no turn without text, the last one the user's."""
    return (
        bool(messages)
        and messages[-1]["role"] == USER
        and {m["role"] for m in messages} <= {SYSTEM, USER, ASSISTANT}
        and all(m["content"].strip() for m in messages)
    )


def opens_dialogue(text: Any) -> bool:
    """Whether a text begins as a dialogue does: with the human's turn."""
    return isinstance(text, str) and text.lstrip().startswith("Human:")


def dialogue(text: str) -> Turns | None:
    r"""The turns of a text with "\n\nHuman:" and "\n\nAssistant:"; null where the two do not take turns.

    It opens with 'Human:', 'Assistant:' has the last turn, which alone may be empty; blanks around turns go.
    """
    before, *parts = DIALOGUE_TURN.split(text.replace("\r\n", "\n"))
    if before.strip():
        return None
    names = {"Human": USER, "Assistant": ASSISTANT}
    messages = [
        {"role": names[name], "content": content.strip()}
        for name, content in zip(parts[::2], parts[1::2], strict=True)
    ]
    roles = [turn["role"] for turn in messages]
    if not roles or roles != [USER, ASSISTANT] * (len(roles) // 2):
        return None
    return messages if all(turn["content"] for turn in messages[:-1]) else None
