r"""HH-RLHF (Anthropic, arXiv 2204.05862): `{chosen, rejected}`, two dialogues that differ in the last answer.

Turns open with "\n\nHuman:" and "\n\nAssistant:"; there are no model names and no scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from karma_plugins.contracts import Importer, Options, hookimpl
from karma_plugins.importers import preference_pairs
from karma_plugins.importers.conversations import dialogue, opens_dialogue
from karma_plugins.importers.preference_pairs import Pair
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.texts import records

JUDGE = "human"
RULES = (
    *preference_pairs.RULES,
    f"the label is judge '{JUDGE}'",
    "a dialogue opens with 'Human:', the two take turns, no turn but the last is empty, and 'Assistant:' has "
    "the last; any other is unbalanced, and its pair is dropped",
)


def read(sources: Sequence[Path], options: Options) -> RecordedFolder:
    """Pairs of dialogues of one or more files. Raises TableError for what can't be read, counts the rest."""
    folder = RecordedFolder("hh-rlhf", RULES)
    for _, record in records.read(sources, counts=folder.counts):
        texts = record.get("chosen"), record.get("rejected")
        if not isinstance(texts[0], str) or not isinstance(texts[1], str):
            folder.counts["records_without_pair"] += 1
            continue
        chosen, rejected = dialogue(texts[0]), dialogue(texts[1])
        if chosen is None or rejected is None:
            folder.counts["pairs_with_unbalanced_dialogue"] += 1
        elif chosen[:-1] != rejected[:-1]:
            folder.counts["pairs_with_different_prompts"] += 1
        else:
            pair = Pair(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"])
            preference_pairs.add_pair(folder, pair, label=JUDGE)
    where = ", ".join(map(str, sources))
    return preference_pairs.finished(
        folder, where, "a pair of dialogues 'chosen' and 'rejected' that can be used"
    )


def recognises(record: Mapping[str, Any]) -> bool:
    """Two dialogues as texts."""
    return all(opens_dialogue(record.get(side)) for side in ("chosen", "rejected"))


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register importer `hh-rlhf`."""
    summary = "HH-RLHF: pairs of dialogues."
    return [Importer(name="hh-rlhf", summary=summary, read=read, recognises=recognises)]
