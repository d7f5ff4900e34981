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


def families(seed: int, questions: int, ability: float) -> tuple[pl.DataFrame, dict[str, str]]:
    """Choices of three trunks, two children of each, and each child's parent.

    An option's appeal is that of the question, the same for all models, and a model's own, of which a child
    keeps three quarters; a child is more able than its parent.
    """
    rng = np.random.default_rng(seed)
    options, keep = 5, 0.75
    lure, ease = 1.5 * rng.normal(size=(questions, options)), rng.normal(size=questions)
    own: dict[str, Any] = {}
    able, parents = {}, {}
    for trunk in "abc":
        own[trunk], able[trunk] = rng.normal(size=(questions, options)), ability + 0.5 * rng.normal()
        for child in (f"{trunk}0", f"{trunk}1"):
            fresh = rng.normal(size=(questions, options))
            own[child] = keep * own[trunk] + np.sqrt(1 - keep**2) * fresh
            able[child], parents[child] = able[trunk] + rng.normal(0.4, 0.5), trunk
    choices = {}
    for name, appeal in own.items():
        appeal = lure + appeal
        appeal[:, 0] = own[name][:, 0] + ease + able[name] + 1.0
        choices[name] = appeal.argmax(axis=1).tolist()
    return items(choices, [0] * questions, options), parents
