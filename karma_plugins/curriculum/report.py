"""What a curriculum kept and dropped, in numbers, and in one line where nothing is left."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from karma_plugins.curriculum.answers import Answers
from karma_plugins.texts import filters

#: Of fewer pairs nothing is said about their order.
LEAST_TO_REMARK = 20


def report(pairs: pl.DataFrame, answers: Answers, dropped: Counter[str]) -> dict[str, Any]:
    """Counts of prompts, answers and pairs, what was dropped by reason, and distributions of table pairs."""
    return {
        "prompts": {"all": answers.prompts.height, "used": pairs["prompt_id"].n_unique()},
        "answers": dict(answers.counts),
        "pairs": {
            "possible": pairs.height + sum(dropped.values()),
            "kept": pairs.height,
            "dropped": {reason: count for reason, count in dropped.items() if count},
            "same_model": int((pairs["chosen_model"] == pairs["rejected_model"]).sum()),
        },
        **_distributions(pairs),
        "same_difficulty": same_difficulty(pairs),
        "texts": filters.counted(pairs),
    }


def same_difficulty(pairs: pl.DataFrame) -> int:
    """How many pairs share the commonest difficulty: among them, order is chance."""
    level = pairs["difficulty"].round(9)
    return int(level.value_counts(sort=True)["count"][0]) if pairs.height else 0


def chance_order(pairs: pl.DataFrame) -> str | None:
    """A sentence where most pairs are equally difficult; null where they are not."""
    same = same_difficulty(pairs)
    if pairs.height < LEAST_TO_REMARK or 2 * same <= pairs.height:
        return None
    return (
        f"{same} of {pairs.height} pairs are equally difficult, so that their order is chance. "
        f"Add a judge that "
        "scores answers, or weigh other parts in curriculum.difficulty."
    )


def _distributions(pairs: pl.DataFrame) -> dict[str, Any]:
    """Counts of pairs by phase, competency and model, and quantiles of margin, kinship and difficulty."""

    def counts(column: str) -> dict[str, int]:
        return {
            str(name): count
            for name, count in pairs[column].value_counts(sort=False).sort(column).iter_rows()
        }

    def quantiles(column: str) -> dict[str, float]:
        values = pairs[column].drop_nulls().to_numpy()
        if not len(values):
            return {}
        return {name: float(np.quantile(values, q)) for name, q in filters.QUANTILES.items()}

    return {
        "phases": counts("phase"),
        "competencies": counts("competency"),
        "chosen_models": counts("chosen_model"),
        "rejected_models": counts("rejected_model"),
        "margin": quantiles("margin"),
        "kinship": quantiles("kinship"),
        "difficulty": quantiles("difficulty"),
    }


def why_empty(answers: Answers, dropped: Counter[str]) -> str:
    """One line: which rule dropped how many pairs, and what to loosen."""
    possible = sum(dropped.values())
    if not possible:
        sentence = f"{answers.counts['judged']} judged answers to {answers.prompts.height} training prompts"
        return (
            f"curriculum: no pair is possible: {sentence}, no prompt has two. Add models, samples or judges."
        )
    sentence = ", ".join(f"{reason} {count}" for reason, count in dropped.most_common() if count)
    cure = _cure(dropped.most_common(1)[0][0])
    return f"curriculum: the settings leave no pair of {possible} (dropped: {sentence}). {cure}"


def _cure(reason: str) -> str:
    """What to loosen when a rule dropped most."""
    cures = {
        "judged by different judges": "Have the same judges judge all answers, or set jury.missing.",
        "tie": "Add a judge that tells answers apart, or sample more answers.",
        "empty answer": "Look at the answers of table responses.",
        "equal answers": "Raise the temperature, or sample more answers.",
        "below margin": "Lower curriculum.margin.",
        "disagreement unknown": "Set curriculum.margin_in_disagreements to 0, or add a second judge.",
        "below margin_in_disagreements": "Lower curriculum.margin_in_disagreements.",
        "likelihood unknown": "Have the judge of curriculum.likelihood score all answers.",
        "unlikely answer": "Raise curriculum.likelier.",
        "near-duplicate answers": "Raise curriculum.similarity.",
    }
    plugin = reason.split(": ")[0]
    return cures.get(reason, f"Loosen curriculum.pairings.{plugin}, or set another curriculum.pairing.")
