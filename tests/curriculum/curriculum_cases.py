"""Judged answers made by hand or by chance, for tests of what is paired and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import polars as pl

from karma_plugins import curriculum, schemas
from karma_plugins.contracts import Pairing
from karma_plugins.curriculum import Curriculum
from karma_plugins.params import CurriculumSection
from karma_plugins.registry import Bound, Origin, Registry

Tables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]


def pairing(name: str, **options: Any) -> Bound[Pairing]:
    """A built-in pairing, bound as a stage binds it."""
    registry = Registry()
    module = import_module(f"karma_plugins.curriculum.pairings.{name.replace('-', '_')}")
    for plugin in module.karma_register_pairings():
        registry.add("pairings", plugin, Origin("karma-plugins", "0"))
    return registry.bind(Pairing, name, options, where="params.yaml, curriculum.pairing")


def build(
    tables: Tables, name: str = "random", options: Mapping[str, Any] | None = None, **settings: Any
) -> Curriculum:
    """The curriculum of these tables by a built-in pairing and settings of the section."""
    return curriculum.build(
        *tables, pairing(name, **(options or {})), CurriculumSection(pairing=name, **settings)
    )


def build_judged(tables: Tables, judgements: pl.DataFrame, **settings: Any) -> Curriculum:
    """The curriculum of these tables and judgements by pairing `random`."""
    return curriculum.build(
        *tables, pairing("random"), CurriculumSection(pairing="random", **settings), judgements
    )


def tables(
    answers: Sequence[Mapping[str, Any]],
    kinship: Mapping[tuple[str, str], float | None] | None = None,
    *,
    competencies: Mapping[str, str] | None = None,
    splits: Mapping[str, str] | None = None,
) -> Tables:
    """Tables of answers: mappings with prompt, model, reward, maybe text, judges, disagreement, sample.

    `kinship` maps (model, model) or (competency, model, model) to a kinship; a reward that is absent is not
    judged.
    """
    names = sorted({a["prompt"] for a in answers})
    ids = {name: f"{i + 1:016x}" for i, name in enumerate(names)}
    prompts = [
        {
            "prompt_id": ids[name],
            "messages": [{"role": "user", "content": name}],
            "competency": (competencies or {}).get(name, "knowledge"),
            "split": (splits or {}).get(name, "train"),
        }
        for name in names
    ]
    rows = [
        {
            "response_id": f"{0xABC000 + i * 7919:016x}",
            "prompt_id": ids[a["prompt"]],
            "model": a["model"],
            "sample": a.get("sample", 0),
            "text": a.get("text", f"answer {i}"),
        }
        for i, a in enumerate(answers)
    ]
    rewards = [
        {
            "response_id": row["response_id"],
            "prompt_id": row["prompt_id"],
            "reward": a["reward"],
            "n_judges": 1,
            "judges": a.get("judges", "one"),
            "disagreement": a.get("disagreement"),
        }
        for row, a in zip(rows, answers, strict=True)
        if "reward" in a
    ]
    return (
        pl.DataFrame(prompts, schema=schemas.PROMPTS.columns),
        pl.DataFrame(rows, schema=schemas.RESPONSES.columns),
        pl.DataFrame(rewards, schema=schemas.REWARDS.columns),
        kinship_table(kinship or {}),
    )


def kinship_table(kinship: Mapping[Any, float | None]) -> pl.DataFrame:
    """Table kinship of one primary metric."""
    rows = [
        {
            "metric": "capability",
            "competency": pair[0] if len(pair) == 3 else None,
            "model_a": min(pair[-2:]),
            "model_b": max(pair[-2:]),
            "kinship": value,
            "uncertain": False,
            "version": "0",
            "primary": True,
        }
        for pair, value in kinship.items()
    ]
    return pl.DataFrame(rows, schema=schemas.KINSHIP.columns)


def by_chance(seed: int, *, prompts: int = 40, models: int = 5, samples: int = 1) -> Tables:
    """Answers with rewards of five values and kinship by chance; some are blank, equal or unjudged."""
    random = np.random.default_rng(seed)
    names = [f"model-{i}" for i in range(models)]
    answers: list[dict[str, Any]] = []
    for prompt in range(prompts):
        for model in names:
            for sample in range(samples):
                answer: dict[str, Any] = {"prompt": f"prompt {prompt:03}", "model": model, "sample": sample}
                answer["text"] = random.choice(
                    ["", "  ", "one", "two ", "two", "three", f"long {random.random()}"]
                )
                if random.random() < 0.9:
                    answer["reward"] = float(random.integers(0, 5)) / 4
                    answer["judges"] = str(random.choice(["one", "one+two"], p=[0.2, 0.8]))
                    answer["disagreement"] = None if answer["judges"] == "one" else float(random.random()) / 4
                answers.append(answer)
    kinship = {
        (competency, a, b): float(random.random())
        for competency in ("knowledge", "reasoning")
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    } | {(a, b): float(random.random()) for i, a in enumerate(names) for b in names[i + 1 :]}
    kinds = {f"prompt {i:03}": ("knowledge", "reasoning")[i % 2] for i in range(prompts)}
    return tables(answers, kinship, competencies=kinds)


def shuffled(made: Tables, seed: int) -> Tables:
    """The same tables with their rows in another order."""
    one, two, three, four = (table.sample(fraction=1.0, shuffle=True, seed=seed) for table in made)
    return one, two, three, four
