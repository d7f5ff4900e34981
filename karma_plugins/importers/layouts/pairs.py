r"""Pairs of a chosen and a rejected answer, in TRL's four formats and under the columns that data sets use.

standard, explicit prompt        {prompt: text, chosen: text, rejected: text}
standard, implicit prompt        {chosen: prompt and answer as one text, rejected: likewise}
conversational, explicit prompt  {prompt: messages, chosen: messages, rejected: messages}
conversational, implicit prompt  {chosen: messages, rejected: messages}

Tulu 3's mixture, UltraFeedback's binarised sets and Skywork's are such pairs with more columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from karma_plugins.contracts import Importer, Options, hookimpl
from karma_plugins.importers import preference_pairs
from karma_plugins.importers.conversations import ASSISTANT, Turns, asked, is_prompt, opens_dialogue, turns
from karma_plugins.importers.preference_pairs import Pair, refuse_step_labels
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.importers.values import share, text
from karma_plugins.texts import records

#: Columns of the two answers; the first that a record has.
ANSWER_COLUMNS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("accepted", "rejected"),
    ("preferred", "dispreferred"),
)
PROMPT_COLUMNS = ("prompt", "question", "instruction", "input", "query", "conversations", "context")
SYSTEM_COLUMNS = ("system", "system_prompt")
#: Columns of the two scores with their scale; the first that a record has.
SCORE_COLUMNS = (
    ("score_chosen", "score_rejected", (1.0, 10.0)),
    ("chosen-rating", "rejected-rating", (1.0, 5.0)),
    ("chosen_rating", "rejected_rating", (1.0, 5.0)),
    ("chosen_avg_rating", "rejected_avg_rating", (1.0, 5.0)),
    ("chosen_score", "rejected_score", (1.0, 10.0)),
)
#: Those that UltraFeedback's binarised sets have.
BINARIZED = (
    ("score_chosen", "score_rejected"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)
MODEL_COLUMNS = (("chosen-model", "rejected-model"), ("chosen_model", "rejected_model"))
SOURCE_COLUMNS = ("source", "dataset")
RULES = (
    *preference_pairs.RULES,
    "a conversation that ends with the assistant's answer to the user; a prompt that its answers repeat is "
    "taken once; of a text without a prompt, the words that both answers begin with are the prompt",
    "scores become shares of their scale: score_chosen from 1 to 10, chosen_rating and "
    "chosen-rating from 1 to "
    "5, any other by option scale; one that is missing or outside is a failed judgement",
)


class PairOptions(Options):
    """Columns and names, where they are not the usual ones."""

    prompt: str | None = Field(None, description="column of the prompt, as a text or messages")
    chosen: str | None = Field(None, description="column of the chosen answer")
    rejected: str | None = Field(None, description="column of the rejected answer")
    chosen_score: str | None = Field(None, description="column of the chosen answer's score")
    rejected_score: str | None = Field(None, description="column of the rejected answer's score")
    scale: tuple[float, float] | None = Field(None, description="lowest and highest score, such as [1, 10]")
    label_judge: str = Field(preference_pairs.LABEL, description="name of the judge who chose")
    score_judge: str = Field(preference_pairs.SCORE, description="name of the judge who gave the scores")

    @model_validator(mode="after")
    def _scale_rises(self) -> PairOptions:
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError("scale: the lowest score must be below the highest, such as [1, 10]")
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("chosen and rejected: name both or none")
        if (self.chosen_score is None) != (self.rejected_score is None):
            raise ValueError("chosen_score and rejected_score: name both or none")
        if self.chosen_score is not None and self.scale is None:
            raise ValueError("scale: say the lowest and highest score, such as [1, 10]")
        return self


def read(sources: Sequence[Path], options: PairOptions) -> RecordedFolder:
    """Pairs of one or more files; see the module. The formats that were met are among the report's notes.

    Raises TableError for what can't be read; what can be handled is counted.
    """
    folder = RecordedFolder("pairs", RULES)
    formats: dict[str, int] = {}
    for where, record in records.read(sources, counts=folder.counts):
        refuse_step_labels(record, where)
        split = conversations(record, options)
        if isinstance(split, str):
            folder.counts[split] += 1
            continue
        formats[split.format] = formats.get(split.format, 0) + 1
        pair = _pair(split, record, options)
        preference_pairs.add_pair(folder, pair, label=options.label_judge, score=options.score_judge)
    folder.notes += [f"format of {n} records: {name}" for name, n in formats.items()]
    named = ", ".join(map(str, sources))
    return preference_pairs.finished(folder, named, "a pair 'chosen' and 'rejected' that can be used")


@dataclass(frozen=True, slots=True)
class Split:
    """A record's prompt and two answers, and the format it has them in."""

    format: str
    messages: Turns
    chosen: str
    rejected: str


def conversations(record: Mapping[str, Any], options: PairOptions) -> Split | str:
    """The prompt and the two answers of a record; the reason, as a count's name, where it has none."""
    columns = (options.chosen, options.rejected) if options.chosen and options.rejected else answers(record)
    chosen, rejected = (record.get(column) for column in columns)
    prompt = _prompt(record, options)
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _of_texts(prompt, chosen, rejected, record)
    pair = turns(chosen), turns(rejected)
    if pair[0] is None or pair[1] is None:
        return "records_without_pair"
    named = "conversational, explicit prompt" if prompt is not None else "conversational, implicit prompt"
    before = _asked(prompt, record)
    whole = [_whole(before, side) for side in (pair[0], pair[1])]
    if whole[0][-1]["role"] != ASSISTANT or whole[1][-1]["role"] != ASSISTANT:
        return "pairs_without_an_answer_at_the_end"
    if whole[0][:-1] != whole[1][:-1]:
        return "pairs_with_different_prompts"
    if not is_prompt(whole[0][:-1]):
        return "pairs_with_unusable_prompts"
    return Split(named, whole[0][:-1], whole[0][-1]["content"], whole[1][-1]["content"])


def answers(record: Mapping[str, Any]) -> tuple[str, str]:
    """The columns of the two answers; the usual ones where a record has none that are known."""
    return next((pair for pair in ANSWER_COLUMNS if _has(record, *pair)), ANSWER_COLUMNS[0])


def _prompt(record: Mapping[str, Any], options: PairOptions) -> Any:
    if options.prompt is not None:
        return record.get(options.prompt)
    return next((record[name] for name in PROMPT_COLUMNS if record.get(name) is not None), None)


def _asked(prompt: Any, record: Mapping[str, Any]) -> Turns:
    """The prompt as messages; empty where there is none."""
    system = next((record[name] for name in SYSTEM_COLUMNS if record.get(name)), None)
    if isinstance(prompt, str):
        return asked(system, prompt) if prompt.strip() else []
    messages = turns(prompt) or []
    return (
        messages if not messages or messages[0]["role"] == "system" else [*asked(system, "x")[:-1], *messages]
    )


def _whole(before: Turns, side: Turns) -> Turns:
    """The conversation that ends with the answer: `side` may hold the prompt itself."""
    opened = any(message["role"] != ASSISTANT for message in side[:1])
    return side if opened else [*before, *side]


def _of_texts(prompt: Any, chosen: str, rejected: str, record: Mapping[str, Any]) -> Split | str:
    if prompt is not None:
        messages = _asked(prompt, record)
        if not is_prompt(messages):
            return "pairs_with_unusable_prompts"
        return Split("standard, explicit prompt", messages, chosen, rejected)
    size = _shared(chosen, rejected)
    if not chosen[:size].strip():
        return "pairs_without_common_prompt"
    return Split(
        "standard, implicit prompt", asked(None, chosen[:size].rstrip()), chosen[size:], rejected[size:]
    )


def _shared(one: str, other: str) -> int:
    """Characters that two texts begin with, up to the end of their last whole word in common."""
    size = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    while 0 < size < max(len(one), len(other)) and not one[size - 1].isspace():
        inside = any(size < len(t) and not t[size].isspace() for t in (one, other))
        if not inside:
            break
        size -= 1
    return size


def _pair(split: Split, record: Mapping[str, Any], options: PairOptions) -> Pair:
    columns = _score_columns(record, options)
    scores: tuple[float | None, float | None] = (None, None)
    if columns is not None:
        chosen, rejected, scale = columns
        scores = share(record.get(chosen), *scale), share(record.get(rejected), *scale)
    named = next(
        (
            (record[a], record[b])
            for a, b in MODEL_COLUMNS
            if text(record.get(a)) is not None and text(record.get(b)) is not None
        ),
        (None, None),
    )
    source = next((record[name] for name in SOURCE_COLUMNS if text(record.get(name)) is not None), None)
    return Pair(
        split.messages, split.chosen, split.rejected, named, columns is not None, scores, source=source
    )


def _score_columns(
    record: Mapping[str, Any], options: PairOptions
) -> tuple[str, str, tuple[float, float]] | None:
    if options.chosen_score is not None and options.rejected_score is not None and options.scale is not None:
        return options.chosen_score, options.rejected_score, options.scale
    for chosen, rejected, scale in SCORE_COLUMNS:
        if chosen in record or rejected in record:
            return chosen, rejected, options.scale or scale
    return None


# --- which of them it is ------------------------------------------------------------------------------------


def _has(record: Mapping[str, Any], *columns: str) -> bool:
    return all(record.get(column) is not None for column in columns)


def is_pair(record: Mapping[str, Any]) -> bool:
    """Whether a record has a chosen and a rejected answer; dialogues as HH-RLHF's are another layout."""
    sides = [record.get(column) for column in answers(record)]
    return None not in sides and not all(map(opens_dialogue, sides))


def is_tulu(record: Mapping[str, Any]) -> bool:
    """Whether a record is of Tulu 3's mixture."""
    return is_pair(record) and _has(
        record, "chosen_rating", "rejected_rating", "chosen_model", "rejected_model"
    )


def is_binarized(record: Mapping[str, Any]) -> bool:
    """Whether a record is of UltraFeedback in pairs."""
    return is_pair(record) and any(_has(record, *columns) for columns in BINARIZED)


def is_skywork(record: Mapping[str, Any]) -> bool:
    """Whether a record is of Skywork's reward preferences: two conversations and a source, no prompt."""
    whole = isinstance(record.get("chosen"), list) and isinstance(record.get("source"), str)
    return is_pair(record) and whole and not _has(record, "prompt") and not is_binarized(record)


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register the layouts of pairs."""
    named = {
        "trl": ("Pairs in any of TRL's formats, with or without scores.", is_pair),
        "tulu3": ("Tulu 3's preference mixture: pairs with ratings and models.", is_tulu),
        "ultrafeedback-binarized": ("UltraFeedback in pairs, with scores.", is_binarized),
        "skywork": ("Skywork's reward preferences: pairs of conversations.", is_skywork),
    }
    return [
        Importer(
            name=name,
            summary=summary,
            read=read,
            options=PairOptions,
            recognises=suits,
            general=name == "trl",
        )
        for name, (summary, suits) in named.items()
    ]
