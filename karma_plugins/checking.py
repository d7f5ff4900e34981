"""What would fail, and what would be expensive, said before anything runs: the domain of `karma check`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from karma_plugins import forecasting, lock, models, params, prompts, selection
from karma_plugins.contracts import Model
from karma_plugins.errors import KarmaError, did_you_mean
from karma_plugins.registry import Registry

T = TypeVar("T")

#: Free disk under which a run is likely to end badly, in GiB.
LEAST_FREE = 2.0


@dataclass
class Findings:
    """What `check` found: what would stop a stage, what is only doubtful, and what the run will cost."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    forecast: list[str] = field(default_factory=list)

    def attempt(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T | None:
        """The call's value, or None after its KarmaError was noted."""
        try:
            return call(*args, **kwargs)
        except KarmaError as error:
            if str(error) not in self.errors:
                self.errors.append(str(error))
            return None


def check(registry: Registry) -> Findings:
    """Read params, plugins, models, prompts, environment, tracking server, disk; run and change nothing."""
    findings = Findings()
    document = findings.attempt(params.read)
    if document is None:
        return findings
    made = _made_by_stages()
    findings.warnings += [broken.message for broken in registry.broken]
    _unknown_sections(document, findings)
    pool = _models(document, registry, made, findings)
    asked = _prompts(document, made, findings)
    _plugins(document, registry, findings)
    _competencies(document, asked, findings)
    _training(document, made, findings)
    _lock(registry, findings)
    _tracking(findings)
    _disk(findings)
    _forecast(document, pool, asked, made, registry, findings)
    return findings


def _unknown_sections(document: Mapping[str, Any], findings: Findings) -> None:
    known = {*lock.STAGES, "models", "tracking", "import"}
    for name in document:
        if name not in known:
            findings.errors.append(f"params.yaml: unknown section '{name}'.{did_you_mean(str(name), known)}")


def _models(
    document: Mapping[str, Any], registry: Registry, made: set[Path], findings: Findings
) -> dict[str, Model | None]:
    """Each candidate as it lies at its path, None where a stage is yet to make it or it can't be read."""
    if not isinstance(document.get("models"), Mapping):
        findings.attempt(params.load_models)
        return {}
    pool: dict[str, Model | None] = {}
    for name, value in document["models"].items():
        if not params.MODEL_NAME.fullmatch(str(name)):
            findings.attempt(params.check_model_name, str(name))
            continue
        where = f"params.yaml, models.{name}"
        entry = findings.attempt(params.validate, params.ModelSection, value, where=where)
        if entry is None:
            continue
        named = f"models.{name}"
        findings.attempt(selection.generator, entry.generator, entry.sampling, registry, where=named)
        pool[str(name)] = (
            None if _is_made(Path(entry.path), made) else _model(str(name), entry.path, findings)
        )
    return pool


def _model(name: str, path: str, findings: Findings) -> Model | None:
    model: Model | None = findings.attempt(models.load, name, path)
    if model is not None and isinstance(model.source, models.Endpoint):
        findings.attempt(model.source.api_key)
    return model


def _prompts(document: Mapping[str, Any], made: set[Path], findings: Findings) -> pl.DataFrame | None:
    if "prompts" not in document:
        return None
    section = findings.attempt(params.load, "prompts", params.PromptsSection)
    if section is None or (section.path and _is_made(Path(section.path), made)):
        return None
    table: pl.DataFrame | None = findings.attempt(prompts.read, section)
    return table


def _plugins(document: Mapping[str, Any], registry: Registry, findings: Findings) -> None:
    for name, model, choose in (
        ("profile", params.ProfileSection, selection.profiler),
        ("kinship", params.KinshipSection, selection.metrics),
        ("generate", params.GenerateSection, None),
        ("judge", params.JudgeSection, None),
        ("curriculum", params.CurriculumSection, selection.pairing),
        ("train", params.TrainSection, selection.objective),
        ("evaluate", params.EvaluateSection, None),
    ):
        if name not in document:
            continue
        section: Any = findings.attempt(params.load, name, model)
        if section is None:
            continue
        if choose is not None:
            findings.attempt(choose, section, registry)
        for judge, entry in getattr(section, "judges", {}).items():
            findings.attempt(selection.jury, {judge: entry}, registry, where=f"{name}.judges")
        if name == "evaluate":
            findings.attempt(
                selection.generator, section.generator, section.sampling, registry, where="evaluate.generator"
            )


def _competencies(document: Mapping[str, Any], asked: pl.DataFrame | None, findings: Findings) -> None:
    tasks = (document.get("profile") or {}).get("tasks") or {}
    for competency, names in tasks.items():
        if not names:
            findings.errors.append(
                f"params.yaml, profile.tasks.{competency}: names no task. Name one or remove it."
            )
    if asked is not None and tasks:
        for competency in sorted(set(asked["competency"]) - set(tasks)):
            findings.warnings.append(
                f"params.yaml, profile.tasks: no task measures '{competency}', a competency of the prompts; "
                "kinship in it is unknown. Add a task, or map it in prompts.competencies."
            )


def _training(document: Mapping[str, Any], made: set[Path], findings: Findings) -> None:
    base = (document.get("train") or {}).get("base")
    if isinstance(base, str) and not _is_made(Path(base), made):
        findings.attempt(models.load, "base", base)
    target = (document.get("curriculum") or {}).get("target")
    if target is not None and target not in (document.get("models") or {}):
        findings.errors.append(
            f"params.yaml, curriculum.target: '{target}' is no candidate in section 'models'."
        )


def _lock(registry: Registry, findings: Findings) -> None:
    used = findings.attempt(selection.used, registry) if not findings.errors else None
    for stage, bound in (used or {}).items():
        findings.attempt(lock.verify, stage, bound, dry=True)


def _tracking(findings: Findings) -> None:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith("http"):
        return
    import httpx

    try:
        httpx.get(f"{uri.rstrip('/')}/health", timeout=5.0).raise_for_status()
    except httpx.HTTPError as error:
        findings.warnings.append(
            f"MLFLOW_TRACKING_URI: {uri} does not answer ({type(error).__name__}). Records will wait in "
            ".karma/spool until `karma sync` delivers them."
        )


def _disk(findings: Findings) -> None:
    free = shutil.disk_usage(".").free / 2**30
    if free < LEAST_FREE:
        findings.warnings.append(f"Only {free:.1f} GiB of disk are free here.")


def _forecast(
    document: Mapping[str, Any],
    pool: Mapping[str, Model | None],
    asked: pl.DataFrame | None,
    made: set[Path],
    registry: Registry,
    findings: Findings,
) -> None:
    samples = (document.get("generate") or {}).get("samples", 1)
    if asked is None or not isinstance(samples, int) or not pool:
        return
    train = asked.filter(pl.col("split") == "train").height
    each = train * samples
    findings.forecast.append(
        f"{each * len(pool)} answers: {train} training prompts x {samples} samples x {len(pool)} models"
    )
    longest = _candidates(document, pool, asked, registry, findings)
    judges = (document.get("judge") or {}).get("judges") or {}
    findings.forecast.append(
        f"{each * len(pool)} verdicts of each judge that scores ({', '.join(map(str, judges))})"
    )
    answers = samples * len(pool)
    findings.forecast.append(
        f"pairs: at most {train * answers * (answers - 1) // 2} candidates; a pairwise judge "
        "compares those of kin in both orders"
    )
    _judges(document, asked, longest, made, registry, findings)


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
    registry: Registry,
    findings: Findings,
) -> None:
    """Forecast the LLM judges behind endpoints, who may see fewer and shorter answers than are feared."""
    section = findings.attempt(params.load, "judge", params.JudgeSection) if "judge" in document else None
    if section is None:
        return
    train = asked.filter(pl.col("split") == "train")
    for name, entry in section.judges.items():
        seated = findings.attempt(selection.jury, {name: entry}, registry, where="judge.judges")
        bound = seated[0].judge if seated else None
        if bound is None or _is_made(Path(getattr(bound.options, "model", "")), made):
            continue
        found = findings.attempt(forecasting.judge, bound, train, longest, both_orders=section.both_orders)
        if found is None:
            continue
        findings.attempt(found.endpoint.api_key)
        findings.forecast.append(f"judge {name}: {found}")
        if found.excess is not None:
            findings.warnings.append(f"params.yaml, judge.judges.{name}.limits: {found.excess}")


def _made_by_stages() -> set[Path]:
    """The outs of dvc.yaml, templates and all; what lies below one of them may not be there yet."""
    import yaml

    path = Path("dvc.yaml")
    if not path.is_file():
        return set()
    document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return set(_outs(document.get("stages") or {}))


def _outs(stages: Mapping[str, Any]) -> Iterator[Path]:
    for stage in stages.values():
        body = stage.get("do", stage)
        for out in body.get("outs") or []:
            yield Path(out if isinstance(out, str) else next(iter(out)))


def _is_made(path: Path, made: set[Path]) -> bool:
    return not path.exists() and any(out == path or out in path.parents for out in made)
