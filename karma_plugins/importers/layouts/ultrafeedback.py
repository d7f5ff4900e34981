"""UltraFeedback (OpenBMB, arXiv 2310.01377): answers of several models to each prompt, rated by aspect.

    {instruction, source, completions: [{model, response, overall_score, annotations: {<aspect>: {Rating}}}]}

A rating is 1 to 5, as a number or text, or "N/A".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from karma_plugins.contracts import Importer, Options, Status, hookimpl
from karma_plugins.errors import TableError
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.importers.values import number, share
from karma_plugins.texts import records

COMPETENCY = "instruction"
#: Each aspect is a recorded judge of that name, and measures this competency of a model.
ASPECTS: Mapping[str, str] = {
    "instruction_following": "instruction",
    "honesty": "honesty",
    "truthfulness": "truthfulness",
    "helpfulness": "helpfulness",
}
LOWEST, HIGHEST = 1.0, 5.0
OVERALL = "overall_score"
RULES = (
    "every prompt is of competency 'instruction'; where it comes from is kept under the key 'source'; system "
    "prompts that only some completions were given are not part of it",
    f"each aspect ({', '.join(ASPECTS)}) is a judge; score = (rating - 1) / 4",
    "'N/A', a missing rating and what is no number in [1,5] are failed judgements",
    "equal ratings are kept: equal rewards never make a pair",
    "overall_score, from 1 to 10, is a judge of that name, which no profile counts: some are "
    "known to be wrong; a "
    "10 where the mean rating is at most 2 is counted as contradicted",
    "a model's profile is its mean rating by aspect over these prompts, so kinship and rewards share a judge",
    "of a model's several completions of one prompt, also in another record, the first is kept",
)


def read(sources: Sequence[Path], options: Options) -> RecordedFolder:
    """Rated answers of one or more files. Raises TableError for what can't be read, counts the rest."""
    folder = RecordedFolder("ultrafeedback", RULES)
    ratings: dict[tuple[str, str], list[float]] = {}
    for _, record in records.read(sources, counts=folder.counts):
        instruction, completions = record.get("instruction"), record.get("completions")
        if not isinstance(instruction, str) or not instruction.strip():
            folder.counts["records_without_instruction"] += 1
        elif not isinstance(completions, list) or not completions:
            folder.counts["records_without_completions"] += 1
        else:
            _add_record(instruction, record, completions, folder, ratings)
    if not folder.names:
        where = ", ".join(map(str, sources))
        raise TableError(f"{where}: no record has 'instruction' and 'completions', as UltraFeedback's have.")
    for model in folder.names:
        for aspect, competency in ASPECTS.items():
            score, stderr, n = _mean(ratings.get((model, aspect), []))
            folder.add_score(model, competency, aspect, "mean_rating", score, stderr, n)
    return folder


def _add_record(
    instruction: str,
    record: records.Record,
    completions: list[Any],
    folder: RecordedFolder,
    ratings: dict[tuple[str, str], list[float]],
) -> None:
    messages = [{"role": "user", "content": instruction}]
    folder.counts["prompts_repeated"] += folder.knows_prompt(messages) is not None
    source = record.get("source")
    prompt = folder.add_prompt(messages, COMPETENCY, source=source if isinstance(source, str) else None)
    means = []
    for completion in completions:
        original = completion.get("model") if isinstance(completion, dict) else None
        if not isinstance(original, str) or not original:
            folder.counts["completions_without_model"] += 1
            continue
        model = folder.add_model(original)
        answer = folder.add_answer(prompt, model, completion.get("response"))
        if answer is None:
            continue
        _add_overall(folder, prompt, answer, completion.get("overall_score"))
        aspects = _ratings(completion.get("annotations"))
        for aspect, (rating, status, reason) in aspects.items():
            score = None if rating is None else _of_scale(rating)
            folder.add_judgement(prompt, answer, aspect, score, status, reason)
            if rating is not None:
                ratings.setdefault((model, aspect), []).append(rating)
        given = [rating for rating, _, _ in aspects.values() if rating is not None]
        if not given:
            folder.counts["completions_without_ratings"] += 1
            continue
        means.append(math.fsum(given) / len(given))
        if means[-1] <= 2.0 and completion.get("overall_score") in (10, "10", "10.0"):
            folder.counts["overall_scores_contradicted"] += 1
    folder.counts["prompts_with_equal_ratings"] += len(set(means)) < len(means)


def _add_overall(folder: RecordedFolder, prompt: str, answer: str, value: Any) -> None:
    score = share(value, LOWEST, 10.0)
    reason = None if score is not None else "not rated" if value is None else f"rated {str(value)[:40]!r}"
    folder.add_judgement(prompt, answer, OVERALL, score, "ok" if reason is None else "failed", reason)


def _ratings(annotations: Any) -> dict[str, tuple[float | None, Status, str | None]]:
    """Each aspect's rating, status and reason."""
    ratings = {}
    for aspect in ASPECTS:
        annotation = annotations.get(aspect) if isinstance(annotations, dict) else None
        ratings[aspect] = _rating(annotation.get("Rating") if isinstance(annotation, dict) else None)
    return ratings


def _rating(value: Any) -> tuple[float | None, Status, str | None]:
    if value is None:
        return None, "failed", "not rated"
    rating = number(value)
    if rating is None or not LOWEST <= rating <= HIGHEST:
        return None, "failed", f"rated {str(value)[:40]!r}"
    return rating, "ok", None


def _of_scale(rating: float) -> float:
    return (rating - LOWEST) / (HIGHEST - LOWEST)


def _mean(ratings: list[float]) -> tuple[float | None, float | None, int]:
    """Mean and standard error as shares, and how many."""
    n = len(ratings)
    if n == 0:
        return None, None, 0
    shares = [_of_scale(rating) for rating in ratings]
    mean = math.fsum(shares) / n
    if n == 1:
        return mean, None, 1
    return mean, math.sqrt(math.fsum((share - mean) ** 2 for share in shares) / (n - 1) / n), n


def recognises(record: Mapping[str, Any]) -> bool:
    """An instruction with completions of several models."""
    return {"instruction", "completions"} <= set(record) and "labels" not in record


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register importer `ultrafeedback`."""
    summary = "UltraFeedback: answers of several models, rated by aspect."
    return [Importer(name="ultrafeedback", summary=summary, read=read, recognises=recognises)]
