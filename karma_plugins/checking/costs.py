"""What a run will cost: answers, verdicts and pairs, and what servers will be asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins import evaluation, params, schemas, tables
from karma_plugins.checking import forecasts
from karma_plugins.checking.findings import Findings, is_made
from karma_plugins.contracts import Judge, Model
from karma_plugins.judging.pairs import kin_pairs
from karma_plugins.registry import Bound, Registry, selection

#: Read where it is there already: whose answers a judge with a `kin_radius` compares.
KINSHIP = Path("data/kinship.parquet")


def forecast(
    document: Mapping[str, Any],
    pool: Mapping[str, Model | None],
    used: Mapping[str, Sequence[Bound[Any]]],
    prompts: pl.DataFrame | None,
    outs: set[Path],
    registry: Registry,
    findings: Findings,
) -> None:
    """Note what the stages will do at most, and errors where that breaks a cap."""
    section = document.get("generate")
    samples = section.get("samples", 1) if isinstance(section, Mapping) else 1
    if prompts is None or not isinstance(samples, int) or not pool:
        return
    train = prompts.filter(pl.col("split") == "train")
    each = train.height * samples
    work = f"{train.height} training prompts x {samples} samples x {len(pool)} models"
    findings.forecast.append(f"{each * len(pool)} answers: {work}")
    longest = _candidates(document, pool, prompts, registry, findings)
    answers = samples * len(pool)
    judges = used.get("judge", ())
    section = findings.attempt(params.load, "judge", params.JudgeSection) if judges else None
    entries = {} if section is None else section.judges
    kinship = findings.attempt(tables.read, KINSHIP, schemas.KINSHIP) if KINSHIP.is_file() else None
    for judge in judges:
        if judge.plugin.score is not None:
            findings.forecast.append(f"judge {judge.name}: {each * len(pool)} answers to score")
        if judge.plugin.compare is not None and judge.name in entries:
            entry = entries[judge.name]
            most = kin_pairs(train["competency"], list(pool), samples, kinship, entry)
            orders = "both orders" if entry.both_orders else "one order"
            work = f", of kin by {KINSHIP} as it is" if kinship is not None and entry.kin_radius < 1 else ""
            findings.forecast.append(
                f"judge {judge.name}: at most {most} comparisons, pairs in {orders}{work}"
            )
    _judges("judge", judges, entries, train, longest, outs, findings)
    pairs = train.height * answers * (answers - 1) // 2
    findings.forecast.append(f"pairs: at most {pairs} candidates for the curriculum")
    _evaluation(used.get("evaluate", ()), prompts, outs, findings)


def _candidates(
    document: Mapping[str, Any],
    pool: Mapping[str, Model | None],
    prompts: pl.DataFrame,
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
        train = prompts.filter(pl.col("split") == "train")
        expected = (
            None if model is None else findings.attempt(forecasts.candidate, model, train, bound, settings)
        )
        if expected is None:
            continue
        findings.forecast.append(f"{name}: {forecasts.in_words(expected)}")
        if expected.excess is not None:
            findings.errors.append(f"params.yaml, models.{name}.sampling.limits: {expected.excess}")
    return longest


def _evaluation(used: Sequence[Bound[Any]], rows: pl.DataFrame, outs: set[Path], findings: Findings) -> None:
    """Forecast the judges of the aligned model and its base, on the held-out prompts."""
    settings = findings.attempt(params.load, "evaluate", params.EvaluateSection) if used else None
    if settings is None or not (rows["split"] == "heldout").any():  # both are said elsewhere
        return
    prompts = evaluation.heldout(rows, settings)
    longest = max((getattr(bound.options, "max_new_tokens", None) or 0 for bound in used), default=0)
    judges = [bound for bound in used if isinstance(bound.plugin, Judge)]
    _judges("evaluate", judges, settings.judges, prompts, [longest] * (2 * settings.samples), outs, findings)


def _judges(
    stage: str,
    judges: Sequence[Bound[Any]],
    entries: Mapping[str, params.JudgeEntry],
    prompts: pl.DataFrame,
    longest: list[int],
    outs: set[Path],
    findings: Findings,
) -> None:
    """Forecast a stage's LLM judges behind endpoints; fewer and shorter answers than are feared may come."""
    label = "judge" if stage == "judge" else f"{stage}, judge"
    for bound in judges:
        if is_made(getattr(bound.options, "model", ""), outs) or bound.name not in entries:
            continue
        each = findings.attempt(forecasts.judge, bound, entries[bound.name], prompts, longest)
        for expected in each or ():
            findings.forecast.append(f"{label} {bound.name}: {forecasts.in_words(expected)}")
            if expected.excess is not None:
                findings.warnings.append(
                    f"params.yaml, {stage}.judges.{bound.name}.limits: {expected.excess}"
                )
