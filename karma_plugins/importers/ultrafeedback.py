"""UltraFeedback (OpenBMB, arXiv 2310.01377): answers of several models to each prompt, rated by aspect.

    {instruction, source, completions: [{model, response, overall_score, annotations: {<aspect>: {Rating}}}]}

A rating is 1 to 5, as a number or text, or "N/A".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from karma_plugins.contracts import Status
from karma_plugins.errors import TableError
from karma_plugins.texts import records
from karma_plugins.importers.recorded_folder import RecordedFolder

COMPETENCY = "instruction"
#: Each aspect is a recorded judge of that name, and measures this competency of a model.
ASPECTS: Mapping[str, str] = {
    "instruction_following": "instruction",
    "honesty": "honesty",
    "truthfulness": "truthfulness",
    "helpfulness": "helpfulness",
}
LOWEST, HIGHEST = 1.0, 5.0
RULES = (
    "every prompt is of competency 'instruction'; where it comes from is kept under the key 'source'; system "
    "prompts that only some completions were given are not part of it",
    f"each aspect ({', '.join(ASPECTS)}) is a judge; score = (rating - 1) / 4",
    "'N/A', a missing rating and what is no number in [1,5] are failed judgements",
    "equal ratings are kept: equal rewards never make a pair",
    "overall_score is never used, because some are known to be wrong; a 10 where the mean rating is at most "
    "2 is counted as contradicted",
    "a model's profile is its mean rating by aspect over these prompts, so kinship and rewards share a judge",
    "of a model's several completions of one prompt, also in another record, the first is kept",
)


def read(path: Path) -> RecordedFolder:
    """Read one file (.json, .jsonl, .parquet, the JSON ones maybe .gz) or a folder of such files.

    Raises TableError for what can't be read; what can be handled is counted.
    """
    found = RecordedFolder("ultrafeedback", RULES)
    ratings: dict[tuple[str, str], list[float]] = {}
    for _, record in records.read(path):
        instruction, completions = record.get("instruction"), record.get("completions")
        if not isinstance(instruction, str) or not instruction.strip():
            found.counts["records_without_instruction"] += 1
        elif not isinstance(completions, list) or not completions:
            found.counts["records_without_completions"] += 1
        else:
            _add_record(instruction, record, completions, found, ratings)
    if not found.names:
        raise TableError(f"{path}: no record has 'instruction' and 'completions', as UltraFeedback's have.")
    for model in found.names:
        for aspect, competency in ASPECTS.items():
            score, stderr, n = _mean(ratings.get((model, aspect), []))
            found.add_score(model, competency, aspect, "mean_rating", score, stderr, n)
    return found


def _add_record(
    instruction: str,
    record: records.Record,
    completions: list[Any],
    found: RecordedFolder,
    ratings: dict[tuple[str, str], list[float]],
) -> None:
    messages = [{"role": "user", "content": instruction}]
    found.counts["prompts_repeated"] += found.knows_prompt(messages) is not None
    source = record.get("source")
    prompt = found.add_prompt(messages, COMPETENCY, source=source if isinstance(source, str) else None)
    means = []
    for completion in completions:
        original = completion.get("model") if isinstance(completion, dict) else None
        if not isinstance(original, str) or not original:
            found.counts["completions_without_model"] += 1
            continue
        model = found.add_model(original)
        answer = found.add_answer(prompt, model, completion.get("response"))
        if answer is None:
            continue
        said = _ratings(completion.get("annotations"))
        for aspect, (rating, status, reason) in said.items():
            score = None if rating is None else _share(rating)
            found.add_judgement(prompt, answer, aspect, score, status, reason)
            if rating is not None:
                ratings.setdefault((model, aspect), []).append(rating)
        given = [rating for rating, _, _ in said.values() if rating is not None]
        if not given:
            found.counts["completions_without_ratings"] += 1
            continue
        means.append(math.fsum(given) / len(given))
        if means[-1] <= 2.0 and completion.get("overall_score") in (10, "10", "10.0"):
            found.counts["overall_scores_contradicted"] += 1
    found.counts["prompts_with_equal_ratings"] += len(set(means)) < len(means)


def _ratings(annotations: Any) -> dict[str, tuple[float | None, Status, str | None]]:
    """Each aspect's rating, status and reason."""
    said = {}
    for aspect in ASPECTS:
        annotation = annotations.get(aspect) if isinstance(annotations, dict) else None
        said[aspect] = _rating(annotation.get("Rating") if isinstance(annotation, dict) else None)
    return said


def _rating(found: Any) -> tuple[float | None, Status, str | None]:
    if found is None:
        return None, "failed", "not rated"
    try:
        rating = math.nan if isinstance(found, bool) else float(found)
    except (TypeError, ValueError):
        rating = math.nan
    if not LOWEST <= rating <= HIGHEST:
        return None, "failed", f"rated {str(found)[:40]!r}"
    return rating, "ok", None


def _share(rating: float) -> float:
    return (rating - LOWEST) / (HIGHEST - LOWEST)


def _mean(ratings: list[float]) -> tuple[float | None, float | None, int]:
    """Mean and standard error as shares, and how many."""
    n = len(ratings)
    if n == 0:
        return None, None, 0
    shares = [_share(rating) for rating in ratings]
    mean = math.fsum(shares) / n
    if n == 1:
        return mean, None, 1
    return mean, math.sqrt(math.fsum((share - mean) ** 2 for share in shares) / (n - 1) / n), n
