"""OpenAssistant (Köpf et al. 2023, arXiv 2304.07327): trees of messages, the replies to one message ranked.

trees      {message_tree_id, prompt: {message_id, text, role, replies: [{…, rank, replies: […]}]}}
messages   {message_id, parent_id, text, role, rank, labels}, in any order

A message is the `prompter`'s or the `assistant`'s; rank 0 is the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from karma_plugins.contracts import Importer, Options, hookimpl
from karma_plugins.errors import TableError
from karma_plugins.importers import preference_pairs
from karma_plugins.importers.conversations import ROLES, Turns, is_prompt
from karma_plugins.importers.preference_pairs import COMPETENCY
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.importers.values import number, share, text
from karma_plugins.texts import records

RANK, QUALITY = "rank", "quality"
CANDIDATE = "volunteer"
RULES = (
    f"every prompt is of competency '{COMPETENCY}': the way from a tree's root to a message of the prompter",
    f"of any two ranked replies judge '{RANK}' prefers the one of lower rank with probability 1; equal ranks "
    f"are a tie; the label 'quality', in [0,1], is judge '{QUALITY}'",
    f"people wrote the replies, so they are all samples of one candidate '{CANDIDATE}', but for "
    f"those that name "
    "a model",
    "messages that are deleted, without text, or whose parent is missing are dropped with all below them",
)


@dataclass(slots=True)
class Message:
    """A message with the ids of its replies."""

    role: str
    text: str
    parent: str | None
    rank: float | None
    quality: Any
    model: str | None
    deleted: bool
    replies: list[str] = field(default_factory=list)


def read(sources: Sequence[Path], options: Options) -> RecordedFolder:
    """Trees or messages of one or more files. Raises TableError for what can't be read, counts the rest."""
    folder = RecordedFolder("open-assistant", RULES)
    messages: dict[str, Message] = {}
    for where, record in records.read(sources, counts=folder.counts):
        for identity, message in _messages(record, folder, where):
            messages.setdefault(identity, message)
    for identity, message in messages.items():
        if message.parent in messages:
            messages[message.parent].replies.append(identity)
        elif message.parent is not None:
            folder.counts["messages_without_parent"] += 1
    folder.counts["messages_in_a_circle"] = _circling(messages)
    roots = [identity for identity, message in messages.items() if message.parent is None]
    for turns, replies in _questions(roots, messages):
        _add(folder, turns, replies)
    return preference_pairs.finished(folder, ", ".join(map(str, sources)), "a message with replies")


def _circling(messages: Mapping[str, Message]) -> int:
    """How many messages no root leads to: each is, in the end, its own parent."""
    waiting = [i for i, message in messages.items() if message.parent not in messages]
    reached = 0
    while waiting:
        reached += 1
        waiting += messages[waiting.pop()].replies
    return len(messages) - reached


def _messages(record: Mapping[str, Any], folder: RecordedFolder, where: str) -> Iterator[tuple[str, Message]]:
    """A record's messages: its own, or those of its tree."""
    root = record.get("prompt")
    waiting: list[tuple[Any, str | None]] = [(root if isinstance(root, Mapping) else record, None)]
    if not isinstance(root, Mapping):
        waiting = [(record, text(record.get("parent_id")))]
    while waiting:
        message, parent = waiting.pop()
        if not isinstance(message, Mapping) or text(message.get("message_id")) is None:
            folder.counts["messages_without_id"] += 1
            continue
        identity = str(message["message_id"])
        if identity == parent:
            raise TableError(f"{where}: message '{identity}' is its own parent. Mend or remove it.")
        yield (
            identity,
            Message(
                role=ROLES.get(str(message.get("role")), str(message.get("role"))),
                text=message["text"] if isinstance(message.get("text"), str) else "",
                parent=parent,
                rank=number(message.get("rank")),
                quality=_quality(message.get("labels")),
                model=text(message.get("model_name")),
                deleted=bool(message.get("deleted")),
            ),
        )
        replies = message.get("replies")
        waiting += [(reply, identity) for reply in reversed(replies if isinstance(replies, list) else [])]


def _quality(labels: Any) -> Any:
    """The label 'quality': of a mapping by name, or of lists of names and values side by side."""
    if not isinstance(labels, Mapping):
        return None
    if isinstance(labels.get("name"), list) and isinstance(labels.get("value"), list):
        return dict(zip(labels["name"], labels["value"], strict=False)).get(QUALITY)
    quality = labels.get(QUALITY)
    return quality.get("value") if isinstance(quality, Mapping) else quality


def _questions(roots: list[str], messages: Mapping[str, Message]) -> Iterator[tuple[Turns, list[Message]]]:
    """Each conversation that ends with a prompter's message, and the usable replies to it."""
    waiting: list[tuple[str, Turns]] = [(root, []) for root in reversed(roots)]
    while waiting:
        identity, before = waiting.pop()
        message = messages[identity]
        if message.deleted or not message.text.strip():
            continue
        turns = [*before, {"role": message.role, "content": message.text}]
        replies = [messages[reply] for reply in message.replies]
        usable = [r for r in replies if r.role == "assistant" and not r.deleted and r.text.strip()]
        if usable and is_prompt(turns):
            yield turns, usable
        waiting += [(reply, turns) for reply in reversed(message.replies)]


def _add(folder: RecordedFolder, turns: Turns, replies: list[Message]) -> None:
    prompt = folder.add_prompt(turns, COMPETENCY)
    placed = []
    for reply in replies:
        answer = preference_pairs.add_answer(folder, prompt, reply.text, reply.model, CANDIDATE)
        if reply.rank is not None:
            placed.append((reply.rank, answer))
        else:
            folder.counts["replies_without_rank"] += 1
        score = share(reply.quality, 0.0, 1.0)
        if score is not None:
            folder.add_judgement(prompt, answer, QUALITY, score)
    for (first, a), (second, b) in combinations(placed, 2):
        if a == b:
            folder.counts["pairs_of_one_answer"] += 1
        elif first == second:
            folder.add_comparison(prompt, a, b, RANK, 0.5, "tie")
        else:
            folder.add_comparison(prompt, a, b, RANK, float(first < second), "ok")


def recognises(record: Mapping[str, Any]) -> bool:
    """A tree, or a message that knows its tree."""
    return "message_tree_id" in record and (
        "message_id" in record or isinstance(record.get("prompt"), Mapping)
    )


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register importer `open-assistant`."""
    summary = "OpenAssistant: trees of messages with ranked replies."
    return [Importer(name="open-assistant", summary=summary, read=read, recognises=recognises)]
