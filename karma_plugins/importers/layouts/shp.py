"""Stanford Human Preferences (Ethayarajh et al. 2022): two comments on one post, the more approved is better.

{history, human_ref_A, human_ref_B, labels, score_A, score_B, domain}         labels: 1 = A, 0 = B is better
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from karma_plugins.contracts import Importer, Options, hookimpl
from karma_plugins.importers import preference_pairs
from karma_plugins.importers.conversations import asked
from karma_plugins.importers.preference_pairs import Pair
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.importers.values import number, text
from karma_plugins.texts import records

JUDGE = "approval"
RULES = (
    *preference_pairs.RULES,
    f"the label is judge '{JUDGE}'; the votes (score_A, score_B) are what the label was made "
    f"from, on no scale, "
    "so they are no second judge; a label against the votes is counted",
    "a label that is neither 0 nor 1 is counted, and its pair dropped; 'domain' is kept under "
    "the key 'source'",
)


def read(sources: Sequence[Path], options: Options) -> RecordedFolder:
    """Pairs of comments of one or more files. Raises TableError for what can't be read, counts the rest."""
    folder = RecordedFolder("shp", RULES)
    for _, record in records.read(sources, counts=folder.counts):
        history, label = text(record.get("history")), number(record.get("labels"))
        a, b = record.get("human_ref_A"), record.get("human_ref_B")
        if history is None or not isinstance(a, str) or not isinstance(b, str):
            folder.counts["records_without_pair"] += 1
        elif label not in (0.0, 1.0):
            folder.counts["pairs_without_label"] += 1
        else:
            votes = number(record.get("score_A")), number(record.get("score_B"))
            if votes[0] is not None and votes[1] is not None and votes[0] != votes[1]:
                folder.counts["labels_against_the_votes"] += (votes[0] > votes[1]) != (label == 1.0)
            chosen, rejected = (a, b) if label == 1.0 else (b, a)
            pair = Pair(asked(None, history), chosen, rejected, source=text(record.get("domain")))
            preference_pairs.add_pair(folder, pair, label=JUDGE)
    where = ", ".join(map(str, sources))
    return preference_pairs.finished(folder, where, "a post with two comments and a label")


def recognises(record: Mapping[str, Any]) -> bool:
    """A post with two comments."""
    return {"history", "human_ref_A", "human_ref_B", "labels"} <= set(record)


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register importer `shp`."""
    summary = "Stanford Human Preferences: two comments on one post."
    return [Importer(name="shp", summary=summary, read=read, recognises=recognises)]
