"""Answers that are good or bad by themselves, as KTO is trained on: `{prompt, completion, label}`.

`label` is true or false; prompt and completion are texts or messages. `karma export trl --layout unpaired`
writes such rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from karma_plugins.contracts import Importer, Options, hookimpl
from karma_plugins.importers import preference_pairs
from karma_plugins.importers.conversations import Turns, asked, is_prompt, turns
from karma_plugins.importers.preference_pairs import COMPETENCY
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.importers.values import text
from karma_plugins.texts import records

JUDGE = "label"
CANDIDATE = "completion"
RULES = (
    f"every prompt is of competency '{COMPETENCY}'",
    f"the label is judge '{JUDGE}': score 1 for true, 0 for false; any other label is a failed judgement",
    f"all completions are samples of one candidate '{CANDIDATE}': nobody says which models gave them",
)


def read(sources: Sequence[Path], options: Options) -> RecordedFolder:
    """Labelled answers of one or more files. Raises TableError for what can't be read, counts the rest."""
    folder = RecordedFolder("unpaired", RULES)
    for _, record in records.read(sources, counts=folder.counts):
        messages, answer = _messages(record.get("prompt")), _answer(record.get("completion"))
        if messages is None:
            folder.counts["records_without_usable_prompt"] += 1
        elif answer is None:
            folder.counts["records_without_completion"] += 1
        else:
            prompt = folder.add_prompt(messages, COMPETENCY)
            key = preference_pairs.add_answer(folder, prompt, answer, None, CANDIDATE)
            label = record.get("label")
            if isinstance(label, bool):
                folder.add_judgement(prompt, key, JUDGE, float(label))
            else:
                reason = f"label {str(label)[:40]!r} is neither true nor false"
                folder.add_judgement(prompt, key, JUDGE, None, "failed", reason)
    where = ", ".join(map(str, sources))
    return preference_pairs.finished(folder, where, "a prompt, a completion and a label")


def _messages(prompt: Any) -> Turns | None:
    messages = asked(None, prompt) if isinstance(prompt, str) else turns(prompt)
    return messages if messages is not None and is_prompt(messages) else None


def _answer(completion: Any) -> str | None:
    if isinstance(completion, str):
        return text(completion)
    messages = turns(completion)
    return text(messages[0]["content"]) if messages is not None and len(messages) == 1 else None


def recognises(record: Mapping[str, Any]) -> bool:
    """A completion with a label of its own."""
    return {"prompt", "completion", "label"} <= set(record) and isinstance(record["label"], bool)


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register importer `unpaired`."""
    summary = "Answers labelled good or bad one by one, as for KTO."
    return [Importer(name="unpaired", summary=summary, read=read, recognises=recognises)]
