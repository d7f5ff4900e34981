r"""Nectar (Berkeley, 2023): seven answers of as many models to each prompt, ranked.

{prompt: "\n\nHuman: …\n\nAssistant: ", answers: [{answer, model, rank}], source}      rank 1 is the best
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from karma_plugins.contracts import Importer, Options, hookimpl
from karma_plugins.importers import preference_pairs
from karma_plugins.importers.conversations import Turns, asked, dialogue
from karma_plugins.importers.preference_pairs import COMPETENCY
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.importers.values import number, text
from karma_plugins.texts import records

JUDGE = "rank"
RULES = (
    f"every prompt is of competency '{COMPETENCY}'; where it comes from is kept under the key 'source'",
    f"of any two ranked answers to a prompt judge '{JUDGE}' prefers the one of lower rank with "
    f"probability 1; "
    "equal ranks are a tie",
    "an answer without text, model or rank is dropped and counted; a model's second answer is its sample 1",
    "nothing is known of what the models can do: their profiles hold one score without a number",
)


def read(sources: Sequence[Path], options: Options) -> RecordedFolder:
    """Ranked answers of one or more files. Raises TableError for what can't be read, counts the rest."""
    folder = RecordedFolder("nectar", RULES)
    for _, record in records.read(sources, counts=folder.counts):
        messages, answers = _messages(record.get("prompt")), record.get("answers")
        if messages is None:
            folder.counts["records_without_prompt"] += 1
        elif not isinstance(answers, list) or not answers:
            folder.counts["records_without_answers"] += 1
        else:
            _add(folder, messages, answers, text(record.get("source")))
    return preference_pairs.finished(folder, ", ".join(map(str, sources)), "a prompt with ranked answers")


def _add(folder: RecordedFolder, messages: Turns, answers: list[Any], source: str | None) -> None:
    ranked = []
    for answer in answers:
        fields = answer if isinstance(answer, Mapping) else {}
        content, model, rank = (
            text(fields.get("answer")),
            text(fields.get("model")),
            number(fields.get("rank")),
        )
        if content is None or model is None or rank is None:
            folder.counts["answers_without_text_model_or_rank"] += 1
        else:
            ranked.append((rank, model, content))
    if not ranked:
        folder.counts["records_without_answers"] += 1
        return
    prompt = folder.add_prompt(messages, COMPETENCY, source=source)
    placed = [
        (rank, preference_pairs.add_answer(folder, prompt, content, model, model))
        for rank, model, content in ranked
    ]
    for (first, a), (second, b) in combinations(placed, 2):
        if a == b:
            folder.counts["pairs_of_one_answer"] += 1
        elif first == second:
            folder.add_comparison(prompt, a, b, JUDGE, 0.5, "tie")
        else:
            folder.add_comparison(prompt, a, b, JUDGE, float(first < second), "ok")


def _messages(prompt: Any) -> Turns | None:
    """The prompt's turns; a text without marks is a single question."""
    if text(prompt) is None:
        return None
    turns = dialogue(prompt)
    if turns is not None:
        return turns[:-1] if not turns[-1]["content"] else None
    return None if "\n\nHuman:" in prompt else asked(None, prompt)


def recognises(record: Mapping[str, Any]) -> bool:
    """A prompt with a list of answers that have ranks."""
    answers = record.get("answers")
    return (
        isinstance(answers, list)
        and bool(answers)
        and isinstance(answers[0], Mapping)
        and {"answer", "model", "rank"} <= set(answers[0])
    )


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register importer `nectar`."""
    summary = "Nectar: seven ranked answers to each prompt."
    return [Importer(name="nectar", summary=summary, read=read, recognises=recognises)]
