"""What importers of ready-made pairs share: two answers to a prompt, and who says that one is the better.

The label is always a comparison. Scores, where a source has them, are a second judge: where the two disagree,
the label may be wrong, and only a jury that hears both can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from karma_plugins.contracts import Messages, Status
from karma_plugins.errors import TableError
from karma_plugins.importers.recorded_folder import RecordedFolder

COMPETENCY = "instruction"
#: The candidates' names where the source does not say who answered.
CHOSEN, REJECTED = "chosen", "rejected"
#: Judges' names: who chose, and who gave the scores.
LABEL, SCORE = "label", "score"
RULES = (
    "every prompt is of competency 'instruction'",
    "the label, that the chosen answer is better than the rejected, is a comparison with "
    "probability 1; scores "
    "are a second judge, also where they say the opposite, which is counted",
    "where the source names no models, the answers are those of two candidates 'chosen' and 'rejected'; "
    "their kinship is unknown, so it is pairing 'random' that takes the pairs as they are",
    "several answers of one candidate to one prompt are its samples 0, 1, …; the same text is "
    "one answer, and "
    "the same pair counts once",
    "dropped are pairs whose answers are identical or where one is empty or missing, and conversations that "
    "differ before the last answer",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt; `scores` in [0,1], null where there is none, `reason` then says why.

    `scored` is whether the source has scores at all; `models` are names in the source, null where unknown.
    """

    messages: Messages
    chosen: str
    rejected: str
    models: tuple[str | None, str | None] = (None, None)
    scored: bool = False
    scores: tuple[float | None, float | None] = (None, None)
    reason: str = "no score in its scale"
    source: str | None = None


def add_pair(folder: RecordedFolder, pair: Pair, *, label: str = LABEL, score: str = SCORE) -> bool:
    """Add a prompt, two answers, the label as a comparison and the scores; false if it is dropped."""
    reason = None
    if not pair.chosen.strip() or not pair.rejected.strip():
        reason = "pairs_with_empty_answer"
    elif pair.chosen.strip() == pair.rejected.strip():
        reason = "pairs_with_identical_answers"
    if reason is not None:
        folder.counts[reason] += 1
        return False
    folder.counts["pairs"] += 1
    folder.counts["pairs_of_repeated_prompt"] += folder.knows_prompt(pair.messages) is not None
    prompt = folder.add_prompt(pair.messages, COMPETENCY, source=pair.source)
    answers = [
        add_answer(folder, prompt, text, model, unnamed)
        for text, model, unnamed in zip(
            (pair.chosen, pair.rejected), pair.models, (CHOSEN, REJECTED), strict=True
        )
    ]
    folder.add_comparison(prompt, answers[0], answers[1], label, 1.0, "ok")
    if pair.scored:
        _add_scores(folder, pair, prompt, answers, score)
    return True


def add_answer(folder: RecordedFolder, prompt: str, text: str, model: str | None, unnamed: str) -> str:
    """An answer by a model, or by nobody that the source names: of the latter, equal texts are one."""
    if model is None and (known := folder.answer_with(prompt, text)) is not None:
        return known
    return folder.add_sample(prompt, folder.add_model(model or unnamed), text)


def _add_scores(folder: RecordedFolder, pair: Pair, prompt: str, answers: list[str], judge: str) -> None:
    chosen, rejected = pair.scores
    if chosen is not None and rejected is not None:
        folder.counts["pairs_with_equal_scores"] += chosen == rejected
        folder.counts["pairs_with_scores_against_the_label"] += chosen < rejected
    for answer, value in zip(answers, pair.scores, strict=True):
        status: Status = "ok" if value is not None else "failed"
        folder.add_judgement(prompt, answer, judge, value, status, None if value is not None else pair.reason)


def add_unmeasured(folder: RecordedFolder) -> None:
    """One score without a number for each candidate: the source says nothing of what they can do."""
    for model in folder.names:
        folder.add_score(model, COMPETENCY, "unmeasured", "none", None)


def finished(folder: RecordedFolder, where: str, what: str) -> RecordedFolder:
    """The folder, its candidates unmeasured; TableError where no record was of use, with what each lacked."""
    if not folder.names:
        lacking = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in folder.counts.items() if n)
        raise TableError(f"{where}: no record has {what}{f' ({lacking})' if lacking else ''}.")
    add_unmeasured(folder)
    return folder


def refuse_step_labels(record: Mapping[str, Any], where: str) -> None:
    """TableError for a record that labels the steps of an answer, as process reward models are trained on."""
    labels, steps = record.get("labels"), record.get("completions")
    listed = isinstance(labels, list) and isinstance(steps, list)
    listed = listed or (isinstance(record.get("steps"), list) and ("label" in record or "labels" in record))
    marked = isinstance(record.get("label"), Mapping) and "steps" in record["label"]
    shepherd = {"input", "label", "task"} <= set(record) and "chosen" not in record
    if listed or marked or shepherd:
        raise TableError(
            f"{where}: labels single steps of an answer (for process reward models). That is no "
            f"preference between "
            "whole answers, so there is nothing here to pair; judge whole answers instead."
        )
