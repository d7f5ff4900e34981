"""Small benchmarks for the tests of metrics that look at single questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from karma_plugins import schemas
from karma_plugins.contracts import Evidence, Model, Options

#: Choices of each model, null for an unparsed reply, "skip" for a question that it was not asked.
Choices = Mapping[str, Sequence[int | str | None]]


def items(
    choices: Choices,
    answer: Sequence[int],
    options: int | Sequence[int] = 4,
    probs: Mapping[str, Any] | None = None,
    competency: str = "knowledge",
) -> pl.DataFrame:
    """Table items of some models on one quiz."""
    counts = [options] * len(answer) if isinstance(options, int) else options
    rows = [
        {
            "model": model, "competency": competency, "task": f"quiz-{competency}", "item_id": f"{i:05}",
            "correct": float(choice == answer[i]), "choice": choice, "answer": answer[i],
            "n_choices": counts[i], "choice_probs": None if probs is None else list(probs[model][i]),
        }
        for model, row in choices.items()
        for i, choice in enumerate(row)
        if choice != "skip"
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=schemas.ITEMS.columns)


def evidence(*tables: pl.DataFrame, **more: Any) -> Evidence:
    """What a metric is given of some item tables."""
    table = pl.concat([schemas.ITEMS.empty(), *tables]).sort(schemas.ITEMS.key)
    models = [Model(name, Path(name), None) for name in table["model"].unique().sort()]
    return Evidence(models, schemas.SCORES.empty(), table, **more)


def measured(module: Any, given: Evidence, **options: Any) -> pl.DataFrame:
    """The rows of a built-in metric."""
    plugin = module.karma_register_kinship_metrics()[0]
    checked: Options = plugin.options(**{"bootstrap": 0, **options})
    frame: pl.DataFrame = plugin.measure(given, checked)
    return frame


def pair(frame: pl.DataFrame, a: str, b: str, competency: str | None = None) -> dict[str, Any]:
    """The row of two models."""
    wanted = pl.col("competency").eq_missing(pl.lit(competency))
    return frame.filter(wanted, model_a=min(a, b), model_b=max(a, b)).row(0, named=True)


def random_quiz(
    models: int, questions: int, seed: int, options: int = 4
) -> tuple[pl.DataFrame, Any, Any, Any]:
    """Random option probabilities: table items, the probabilities, right options, names."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(options), (models, questions))
    answer = rng.integers(options, size=questions).tolist()
    names = [f"m{i}" for i in range(models)]
    choices = {n: probs[i].argmax(axis=1).tolist() for i, n in enumerate(names)}
    table = items(choices, answer, options, {n: probs[i].tolist() for i, n in enumerate(names)})
    return table, probs, answer, names
