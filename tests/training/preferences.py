"""A small table of pairs, and an objective of the package with options, for tests of training."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import polars as pl

from karma_plugins.contracts import Objective
from karma_plugins.registry import Bound, Origin, Registry
from karma_plugins.schemas import PAIRS


def pairs(n: int, *, phases: int = 1) -> pl.DataFrame:
    """`n` pairs in order, in phases of about the same size; each pair's texts tell its number."""
    return pl.DataFrame([_row(i, i * phases // n) for i in range(n)], schema=PAIRS.columns)


def objective(name: str, **options: Any) -> Bound[Objective]:
    """A built-in objective, bound as a stage binds it."""
    registry = Registry()
    for plugin in import_module(f"karma_plugins.training.objectives.{name}").karma_register_objectives():
        registry.add("objectives", plugin, Origin("karma-plugins", "0"))
    return registry.bind(Objective, name, options, where="params.yaml, train.objective")


def _row(i: int, phase: int) -> dict[str, Any]:
    return {
        "order": i,
        "phase": phase,
        "prompt": [{"role": "user", "content": f"Say {i} {'very ' * (i % 3)}well."}],
        "chosen": [{"role": "assistant", "content": f"{i} {'well ' * (i % 4)}said"}],
        "rejected": [{"role": "assistant", "content": f"no {i}"}],
        "prompt_id": f"p{i}",
        "competency": "saying",
        "chosen_id": f"c{i}",
        "rejected_id": f"r{i}",
        "chosen_model": "one",
        "rejected_model": "two",
        "chosen_reward": 1.0,
        "rejected_reward": 0.25,
        "margin": 0.75,
        "disagreement": None,
        "kinship": 0.5,
        "difficulty": i / 100,
    }
