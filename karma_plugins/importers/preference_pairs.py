"""What importers of ready-made pairs share: two answers to a prompt, one chosen and one rejected."""

from __future__ import annotations

from karma_plugins.contracts import Messages
from karma_plugins.importers.recorded_folder import RecordedFolder

COMPETENCY = "instruction"
#: The names of those who answered where the source does not say who it was.
CHOSEN, REJECTED = "chosen", "rejected"
RULES = (
    "every prompt is of competency 'instruction'",
    "where the source names no models, the answers are those of two candidates 'chosen' and 'rejected'; "
    "their kinship is unknown, so it is pairing 'random' that takes the pairs as they are",
    "dropped are pairs whose answers are identical or where one is empty or missing, all but the first pair "
    "of a prompt, and conversations that differ before the last answer",
)


def add_pair(
    found: RecordedFolder,
    messages: Messages,
    chosen: str,
    rejected: str,
    models: tuple[str, str] = (CHOSEN, REJECTED),
    source: str | None = None,
) -> tuple[str, str, str] | None:
    """Add a prompt and its two answers; gives prompt id and response ids, null if the pair is dropped."""
    reason = None
    if not chosen.strip() or not rejected.strip():
        reason = "pairs_with_empty_answer"
    elif chosen.strip() == rejected.strip():
        reason = "pairs_with_identical_answers"
    elif models[0] == models[1]:
        reason = "pairs_of_one_model"
    elif found.knows_prompt(messages) is not None:
        reason = "pairs_of_repeated_prompt"
    if reason is not None:
        found.counts[reason] += 1
        return None
    found.counts["pairs"] += 1
    prompt = found.add_prompt(messages, COMPETENCY, source=source)
    first = found.add_answer(prompt, found.add_model(models[0]), chosen)
    second = found.add_answer(prompt, found.add_model(models[1]), rejected)
    if first is None or second is None:
        raise AssertionError("a prompt that was not there has no answers yet")
    return prompt, first, second


def add_unmeasured(found: RecordedFolder) -> None:
    """One score without a number for each candidate: the source says nothing of what they can do."""
    for model in found.names:
        found.add_score(model, COMPETENCY, "unmeasured", "none", None)
