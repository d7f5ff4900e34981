"""What a run will cost: answers, verdicts and pairs, and what servers will be asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins import forecasting, params, selection
from karma_plugins.checking.findings import Findings, is_made
from karma_plugins.contracts import Model
from karma_plugins.registry import Bound, Registry


def forecast(
    document: Mapping[str, Any],
    pool: Mapping[str, Model | None],
    used: Mapping[str, Sequence[Bound[Any]]],
    asked: pl.DataFrame | None,
    made: set[Path],
    registry: Registry,
    findings: Findings,
) -> None:
    """Note what the stages will do at most, and errors where that breaks a cap."""
    section = document.get("generate")
    samples = section.get("samples", 1) if isinstance(section, Mapping) else 1
    if asked is None or not isinstance(samples, int) or not pool:
        return
    train = asked.filter(pl.col("split") == "train").height
    each = train * samples
    findings.forecast.append(
        f"{each * len(pool)} answers: {train} training prompts x {samples} samples x {len(pool)} models"
    )
    longest = _candidates(document, pool, asked, registry, findings)
    answers = samples * len(pool)
    pairs = train * answers * (answers - 1) // 2
    for judge in used.get("judge", ()):
        if judge.plugin.score is not None:
            findings.forecast.append(f"judge {judge.name}: {each * len(pool)} answers to score")
        if judge.plugin.compare is not None:
            findings.forecast.append(
                f"judge {judge.name}: at most {pairs} pairs to compare, those of kin models, in both orders"
            )
    _judges(document, asked, longest, made, used.get("judge", ()), findings)
    findings.forecast.append(f"pairs: at most {pairs} candidates for the curriculum")


def _candidates(
    document: Mapping[str, Any],
    pool: Mapping[str, Model | None],
    asked: pl.DataFrame,
    registry: Registry,
    findings: Findings,
) -> list[int]:
    """Forecast the models behind endpoints; returns the most tokens of each answer to a prompt."""
    settings = findings.attempt(params.load, "generate", params.GenerateSection)
    longest: list[int] = []
    for name, model in pool.items():
        entry = findings.attempt(params.validate, params.ModelSection, document["models"][name], where=name)
        if entry is None or settings is None:
            continue
        named = f"models.{name}"
        bound = findings.attempt(selection.generator, entry.generator, entry.sampling, registry, where=named)
        if bound is None:
            continue
        longest += [getattr(bound.options, "max_new_tokens", None) or 0] * settings.samples
        train = asked.filter(pl.col("split") == "train")
        found = None if model is None else forecasting.candidate(model, train, bound, settings)
        if found is None:
            continue
        findings.forecast.append(f"{name}: {found}")
        if found.excess is not None:
            findings.errors.append(f"params.yaml, models.{name}.sampling.limits: {found.excess}")
    return longest


def _judges(
    document: Mapping[str, Any],
    asked: pl.DataFrame,
    longest: list[int],
    made: set[Path],
    judges: Sequence[Bound[Any]],
    findings: Findings,
) -> None:
    """Forecast the LLM judges behind endpoints, who may see fewer and shorter answers than are feared."""
    section = findings.attempt(params.load, "judge", params.JudgeSection) if judges else None
    if section is None:
        return
    train = asked.filter(pl.col("split") == "train")
    for bound in judges:
        if is_made(getattr(bound.options, "model", ""), made):
            continue
        found = findings.attempt(forecasting.judge, bound, train, longest, both_orders=section.both_orders)
        if found is None:
            continue
        findings.attempt(found.endpoint.api_key)
        findings.forecast.append(f"judge {bound.name}: {found}")
        if found.excess is not None:
            findings.warnings.append(f"params.yaml, judge.judges.{bound.name}.limits: {found.excess}")
