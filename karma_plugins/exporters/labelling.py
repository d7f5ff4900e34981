"""Tasks for people who judge: two answers to compare or one to rate, blind, in an order by chance.

A task shows a prompt and its answers, never who gave them, what they were rewarded with or which was
chosen. Its key
holds the ids of prompt and answers, in the order shown, so that what people say finds its way back.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
from pydantic import Field

from karma_plugins.contracts import Options, Tables
from karma_plugins.errors import EmptyResultError

#: What stands between the ids in a task's key.
BETWEEN_IDS = "."
QUESTIONS = {"pairs": "Which answer is better?", "answers": "How good is the answer?"}
#: What a person can say of two answers: value and label.
CHOICES = {"answer_1": "Answer 1", "tie": "Tie", "answer_2": "Answer 2"}


class TaskOptions(Options):
    """What people are asked, and about how many."""

    unit: Literal["pairs", "answers"] = Field(
        "pairs", description="pairs: which of two answers is better; answers: how good each one is"
    )
    sample: int | None = Field(
        None, ge=1, description="tasks to draw, in proportion to the strata [default: all]"
    )
    stratum: Literal["competency", "phase", "models", "none"] = Field(
        "competency",
        description="what the sample is spread over; models: who answered; phase: of pairs alone",
    )
    seed: int = Field(
        0, description="decides the sample, the order of tasks, and which answer is shown first"
    )
    highest: int = Field(5, ge=2, le=10, description="the best rating of an answer; the worst is 1")


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt as messages, and the texts to compare or to rate, in the order shown."""

    key: str
    messages: Sequence[Mapping[str, str]]
    texts: Sequence[str]
    stratum: str


def tasks(tables: Tables, options: TaskOptions) -> list[Task]:
    """The tasks in the order to be worked on; EmptyResultError where there is none."""
    pool = list(_pairs(tables, options) if options.unit == "pairs" else _answers(tables, options))
    if not pool:
        raise EmptyResultError("there is no answer with text to be judged. Generate answers first.")
    chosen = pool if options.sample is None else _sampled(pool, options.sample, options.seed)
    return sorted(chosen, key=lambda task: drawn(options.seed, "order", task.key))


def drawn(seed: int, what: str, key: str) -> int:
    """A number by chance that belongs to the key alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {what} {key}".encode(), digest_size=8).digest())


def as_text(messages: Iterable[Mapping[str, str]]) -> str:
    """A conversation as one text: a single question as it is, else each turn under its role."""
    turns = list(messages)
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)


def _pairs(tables: Tables, options: TaskOptions) -> Iterable[Task]:
    for row in tables.read("pairs").sort("order").iter_rows(named=True):
        sides = [(row[f"{side}_id"], row[side][-1]["content"]) for side in ("chosen", "rejected")]
        sides.sort()
        first = drawn(options.seed, "side", f"{row['prompt_id']}{sides[0][0]}{sides[1][0]}") % 2
        (one, text), (other, other_text) = sides[first], sides[1 - first]
        models = "+".join(sorted((row["chosen_model"], row["rejected_model"])))
        yield Task(
            BETWEEN_IDS.join((row["prompt_id"], one, other)),
            row["prompt"],
            (text, other_text),
            _stratum(options, row, models),
        )


def _answers(tables: Tables, options: TaskOptions) -> Iterable[Task]:
    answers = tables.read("responses").filter(pl.col("text").str.strip_chars() != "")
    prompts = tables.read("prompts").select("prompt_id", "messages", "competency")
    for row in answers.join(prompts, on="prompt_id").sort("response_id").iter_rows(named=True):
        key = BETWEEN_IDS.join((row["prompt_id"], row["response_id"]))
        yield Task(key, row["messages"], (row["text"],), _stratum(options, row, row["model"]))


def _stratum(options: TaskOptions, row: Mapping[str, Any], models: str) -> str:
    if options.stratum == "none":
        return ""
    return models if options.stratum == "models" else str(row.get(options.stratum))


def _sampled(pool: Sequence[Task], size: int, seed: int) -> list[Task]:
    """So many tasks, each stratum in proportion, by largest remainders."""
    strata: defaultdict[str, list[Task]] = defaultdict(list)
    for task in sorted(pool, key=lambda task: drawn(seed, "sample", task.key)):
        strata[task.stratum].append(task)
    size = min(size, len(pool))
    shares = {name: size * len(members) / len(pool) for name, members in strata.items()}
    counts = {name: int(share) for name, share in shares.items()}
    rest = sorted(strata, key=lambda name: (counts[name] - shares[name], name))
    for name in rest[: size - sum(counts.values())]:
        counts[name] += 1
    return [task for name, members in sorted(strata.items()) for task in members[: counts[name]]]
