r"""HH-RLHF (Anthropic, arXiv 2204.05862): `{chosen, rejected}`, two dialogues that differ in the last answer.

Turns open with "\n\nHuman:" and "\n\nAssistant:"; there are no model names and no scores.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from karma_plugins.errors import TableError
from karma_plugins.importers import preference_pairs
from karma_plugins.texts import records
from karma_plugins.importers.recorded_folder import RecordedFolder

JUDGE = "human"
ROLES = {"Human": "user", "Assistant": "assistant"}
TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
RULES = (
    *preference_pairs.RULES,
    f"each pair is a comparison by judge '{JUDGE}': the chosen answer is better with probability 1",
    "a dialogue opens with 'Human:', the two take turns, no turn but the last is empty, and 'Assistant:' has "
    "the last; any other is unbalanced, and its pair is dropped",
)


def read(path: Path) -> RecordedFolder:
    """Read one file (.json, .jsonl, .parquet, the JSON ones maybe .gz) or a folder of such files.

    Raises TableError for what can't be read; what can be handled is counted.
    """
    found = RecordedFolder("hh-rlhf", RULES)
    for _, record in records.read(path):
        texts = record.get("chosen"), record.get("rejected")
        if not isinstance(texts[0], str) or not isinstance(texts[1], str):
            found.counts["records_without_pair"] += 1
            continue
        chosen, rejected = dialogue(texts[0]), dialogue(texts[1])
        if chosen is None or rejected is None:
            found.counts["pairs_with_unbalanced_dialogue"] += 1
        elif chosen[:-1] != rejected[:-1]:
            found.counts["pairs_with_different_prompts"] += 1
        else:
            pair = preference_pairs.add_pair(
                found, chosen[:-1], chosen[-1]["content"], rejected[-1]["content"]
            )
            if pair is not None:
                found.add_comparison(*pair, JUDGE, 1.0, "ok")
    if not found.names:
        raise TableError(
            f"{path}: no record has a pair of dialogues 'chosen' and 'rejected' that can be used."
        )
    preference_pairs.add_unmeasured(found)
    return found


def dialogue(text: str) -> list[dict[str, str]] | None:
    """The turns of a dialogue as messages, without blanks around them; null where it is unbalanced."""
    before, *parts = TURN.split(text.replace("\r\n", "\n"))
    if before.strip():
        return None
    turns: list[dict[str, Any]] = [
        {"role": ROLES[name], "content": said.strip()}
        for name, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    roles = [turn["role"] for turn in turns]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        return None
    return turns if all(turn["content"] for turn in turns[:-1]) else None
