"""UltraFeedback in pairs: as HuggingFaceH4/ultrafeedback_binarized has it, or argilla's cleaned set.

    {prompt, chosen: messages, rejected: messages, score_chosen, score_rejected}    scores from 1 to 10
    {prompt, chosen: messages, rejected: messages, chosen-rating, rejected-rating,
     chosen-model, rejected-model, source}                                          ratings from 1 to 5

`chosen` and `rejected` may also be the answer's text alone, after the prompt as the only turn.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from karma_plugins.errors import TableError
from karma_plugins.importers import preference_pairs
from karma_plugins.texts import records
from karma_plugins.importers.preference_pairs import CHOSEN, REJECTED
from karma_plugins.importers.recorded_folder import RecordedFolder

JUDGE = "ultrafeedback"
#: Names of the two scores, and the top of their scale, which starts at 1.
SCALES = (("score_chosen", "score_rejected", 10.0), ("chosen-rating", "rejected-rating", 5.0))
RULES = (
    *preference_pairs.RULES,
    f"the two scores are judge '{JUDGE}': (score_chosen - 1) / 9, or (chosen-rating - 1) / 4",
    "equal scores are kept: equal rewards never make a pair",
    "a score that is missing or outside its scale is a failed judgement, and so are both where the chosen "
    "answer is rated below the rejected",
)


def read(path: Path) -> RecordedFolder:
    """Read one file (.json, .jsonl, .parquet, the JSON ones maybe .gz) or a folder of such files.

    Raises TableError for what can't be read; what can be handled is counted.
    """
    found = RecordedFolder("ultrafeedback-binarized", RULES)
    for _, record in records.read(path):
        chosen, rejected = _conversation(record, CHOSEN), _conversation(record, REJECTED)
        if chosen is None or rejected is None:
            found.counts["records_without_pair"] += 1
        elif chosen[:-1] != rejected[:-1]:
            found.counts["pairs_with_different_prompts"] += 1
        else:
            _add_record(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"], record, found)
    if not found.names:
        raise TableError(f"{path}: no record has a pair 'chosen' and 'rejected' that can be used.")
    preference_pairs.add_unmeasured(found)
    return found


def _add_record(
    messages: list[dict[str, str]], chosen: str, rejected: str, record: records.Record, found: RecordedFolder
) -> None:
    named = record.get("chosen-model"), record.get("rejected-model")
    models = (named[0], named[1]) if named[0] and named[1] else (CHOSEN, REJECTED)
    source = record.get("source")
    pair = preference_pairs.add_pair(
        found,
        messages,
        chosen,
        rejected,
        (str(models[0]), str(models[1])),
        source if isinstance(source, str) else None,
    )
    if pair is None:
        return
    prompt, *answers = pair
    scores = _scores(record)
    reason = "no score in its scale"
    if None not in scores:
        high, low = float(scores[0] or 0.0), float(scores[1] or 0.0)
        found.counts["pairs_with_equal_scores"] += high == low
        if high < low:
            found.counts["pairs_rated_the_other_way"] += 1
            scores, reason = (None, None), "the chosen answer is rated below the rejected"
    for answer, score in zip(answers, scores, strict=True):
        if score is None:
            found.add_judgement(prompt, answer, JUDGE, None, "failed", reason)
        else:
            found.add_judgement(prompt, answer, JUDGE, score)


def _conversation(record: records.Record, key: str) -> list[dict[str, str]] | None:
    """The whole conversation that ends with the answer; null where it is none."""
    said, prompt = record.get(key), record.get("prompt")
    if isinstance(said, str):
        said = [{"role": "user", "content": prompt}, {"role": "assistant", "content": said}]
    if not isinstance(said, list) or len(said) < 2:
        return None
    if not all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in said):
        return None
    messages = [{"role": str(m.get("role")), "content": str(m["content"])} for m in said]
    # A system turn without text says nothing.
    messages = [m for m in messages if m["role"] != "system" or m["content"].strip()]
    roles = [m["role"] for m in messages]
    asked = all(m["content"].strip() for m in messages[:-1])
    fits = (
        roles[-1] == "assistant"
        and roles[-2:-1] == ["user"]
        and set(roles) <= {"system", "user", "assistant"}
    )
    return messages if asked and fits else None


def _scores(record: records.Record) -> tuple[float | None, float | None]:
    """Both scores as shares of the scale that the record's keys say."""
    for chosen, rejected, top in SCALES:
        if chosen in record or rejected in record:
            return _share(record.get(chosen), top), _share(record.get(rejected), top)
    return None, None


def _share(score: Any, top: float) -> float | None:
    try:
        value = math.nan if score is None or isinstance(score, bool) else float(score)
    except (TypeError, ValueError):
        return None
    return (value - 1.0) / (top - 1.0) if 1.0 <= value <= top else None
