"""Chatbot Arena (LMSYS, arXiv 2306.05685): two models answer, a person says which was better.

    {model_a, model_b, winner, conversation_a: messages, conversation_b: messages, judge}
    {model_a, model_b, prompt, response_a, response_b, winner_model_a, winner_model_b, winner_tie}

`winner` is model_a, model_b, tie or tie (bothbad). In the second layout texts are lists of turns, as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from karma_plugins.contracts import Importer, Options, hookimpl
from karma_plugins.errors import TableError
from karma_plugins.importers import preference_pairs
from karma_plugins.importers.conversations import Turns, is_prompt, turns
from karma_plugins.importers.preference_pairs import COMPETENCY
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.importers.values import text
from karma_plugins.texts import json_text, records

JUDGE = "human"
WINNERS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}
RULES = (
    f"every prompt is of competency '{COMPETENCY}'; who won is judge '{JUDGE}'; a tie, also of "
    f"two bad answers, "
    "is a tie",
    "of conversations with several turns the last answers are compared, and only where all "
    "before them is the "
    "same on both sides; the others are dropped and counted",
    "a model that met itself has two samples; equal answers are dropped and counted",
)


def read(sources: Sequence[Path], options: Options) -> RecordedFolder:
    """Battles of one or more files. Raises TableError for what can't be read, counts the rest."""
    folder = RecordedFolder("arena", RULES)
    for where, record in records.read(sources, counts=folder.counts):
        names = text(record.get("model_a")), text(record.get("model_b"))
        sides = _conversation(record, "a", where), _conversation(record, "b", where)
        if names[0] is None or names[1] is None or sides[0] is None or sides[1] is None:
            folder.counts["records_without_pair"] += 1
        elif sides[0][:-1] != sides[1][:-1]:
            folder.counts["pairs_with_different_prompts"] += 1
        elif sides[0][-1] == sides[1][-1]:
            folder.counts["pairs_with_identical_answers"] += 1
        else:
            prompt = folder.add_prompt(sides[0][:-1], COMPETENCY)
            a, b = (
                folder.add_sample(prompt, folder.add_model(str(name)), side[-1]["content"])
                for name, side in zip(names, sides, strict=True)
                if side is not None
            )
            _add_winner(folder, prompt, a, b, record)
    where = ", ".join(map(str, sources))
    return preference_pairs.finished(folder, where, "two models' answers that can be used")


def _add_winner(folder: RecordedFolder, prompt: str, a: str, b: str, record: Mapping[str, Any]) -> None:
    winner = record.get("winner")
    if winner is None:
        columns = {"winner_model_a": "model_a", "winner_model_b": "model_b", "winner_tie": "tie"}
        won = [name for column, name in columns.items() if record.get(column) in (1, "1", True)]
        winner = won[0] if len(won) == 1 else None
    p_a = WINNERS.get(str(winner))
    if p_a is None:
        folder.add_comparison(prompt, a, b, JUDGE, None, "failed", f"winner {str(winner)[:40]!r}")
    else:
        folder.add_comparison(prompt, a, b, JUDGE, p_a, "tie" if p_a == 0.5 else "ok")


def _conversation(record: Mapping[str, Any], side: str, where: str) -> Turns | None:
    """The turns of one side, which end with the answer that was judged; null where they do not."""
    if f"conversation_{side}" in record:
        messages = turns(record[f"conversation_{side}"])
    else:
        before = _listed(record.get("prompt"), where)
        answered = _listed(record.get(f"response_{side}"), where)
        if before is None or answered is None or len(before) != len(answered):
            return None
        messages = [
            {"role": role, "content": content}
            for pair in zip(before, answered, strict=True)
            for role, content in zip(("user", "assistant"), pair, strict=True)
        ]
    if messages is None or messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
        return None
    return messages if is_prompt(messages[:-1]) else None


def _listed(value: Any, where: str) -> list[str] | None:
    """The turns of a list, of its JSON, or of a single text."""
    if isinstance(value, str):
        try:
            turns_of = json_text.parse(value, where) if value.lstrip().startswith("[") else None
        except TableError:
            turns_of = None  # a text that happens to begin as a list does
        value = turns_of if isinstance(turns_of, list) else [value]
    return value if isinstance(value, list) and all(isinstance(turn, str) for turn in value) else None


def recognises(record: Mapping[str, Any]) -> bool:
    """Two models and a winner."""
    return {"model_a", "model_b"} <= set(record) and ("winner" in record or "winner_model_a" in record)


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register importer `arena`."""
    summary = "Chatbot Arena: battles of two models, won or tied."
    return [Importer(name="arena", summary=summary, read=read, recognises=recognises)]
