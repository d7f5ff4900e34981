"""What would fail, and what would be expensive, said before anything runs: the domain of `karma check`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins import models, params, prompts
from karma_plugins.checking import costs, declared, reachable, weights
from karma_plugins.checking.findings import Findings, checked, is_awaited, is_made, section_of
from karma_plugins.contracts import Generator, Judge, Model
from karma_plugins.curriculum import target as standing
from karma_plugins.errors import did_you_mean
from karma_plugins.judging.llm import LlmOptions, asks_with_system
from karma_plugins.lineage import read_stages
from karma_plugins.registry import Bound, Registry, absent, lock, selection
from karma_plugins.registry.manager import OURS
from karma_plugins.registry.stages import STAGES
from karma_plugins.runtime import launching

#: Free disk under which a run is likely to end badly, in GiB.
LEAST_FREE = 2.0
#: What stage curriculum said of its pairs.
CURRICULUM = Path("metrics/curriculum.json")


def check(registry: Registry) -> Findings:
    """Read params, plugins, models, prompts, environment, tracking server, disk; run and change nothing.

    A wrong key hides nothing: what else its section says is looked at all the same.
    """
    findings = Findings()
    document = findings.attempt(params.read)
    pipeline = findings.attempt(read_stages)
    if document is None or pipeline is None:
        return findings
    outs = set(declared.outs(pipeline))
    findings.warnings += [broken.message for broken in registry.broken]
    declared.sections(document, pipeline, findings)
    prompt_table = _prompts(document, pipeline, outs, findings)
    pool, generators = _models(document, registry, prompt_table, outs, findings)
    uses = _uses({f"models.{name}": model for name, model in pool.items()}, weights.Sent.PROMPTS)
    used = _plugins(document, registry, outs, uses, findings)
    if generators:
        used["generate"] = generators
    _competencies(document, prompt_table, findings)
    uses += _uses({"train.base": _training(document, outs, findings)}, weights.Sent.PAIRS)
    weights.look(uses, prompt_table, findings)
    _chosen(findings)
    declared.interpolated(document, pipeline, findings)
    declared.unwatched(document, pipeline, used.get("judge", ()), outs, findings)
    for one in (one for bound in used.values() for one in bound):
        findings.attempt(one.check_installed)
    for stage, bound in used.items():
        findings.attempt(lock.verify, stage, bound)
    if unlocked := findings.attempt(lock.unlocked, registry):
        findings.warnings.append(
            f"{lock.LOCK}: holds no {', '.join(unlocked)}, though installed, so an experiment (`-S`) can't "
            "name it. Run `karma lock`."
        )
    _runner(document, registry, findings)
    declared.locked(pipeline, findings)
    reachable.tracking(findings)
    reachable.endpoints(findings.endpoints, findings)
    _disk(findings)
    costs.forecast(document, pool, used, prompt_table, outs, registry, findings)
    return findings


def _prompts(
    document: Mapping[str, Any], pipeline: Mapping[str, Any], outs: set[Path], findings: Findings
) -> pl.DataFrame | None:
    section = section_of("prompts", params.PromptsSection, document, findings)
    if section is None or (section.path and is_made(section.path, outs)):
        return None
    table: pl.DataFrame | None = findings.attempt(prompts.read, section)
    if table is not None and section.seen is not None:
        table, _ = findings.attempt(prompts.unseen, table, section.seen) or (table, 0)
        if section.seen.items not in pipeline.get("prompts", {}).get("deps", [section.seen.items]):
            findings.warnings.append(
                f"dvc.yaml, prompts: '{section.seen.items}' (prompts.seen.items) is not among its deps: "
                "new items would not run it again. Add it."
            )
    if table is not None:
        for stage, split in (("generate", "train"), ("evaluate", "heldout")):
            if stage in pipeline and not (table["split"] == split).any():
                findings.errors.append(
                    f"params.yaml, prompts: split '{split}' has no prompt; stage {stage} needs some. Set "
                    "prompts.heldout to a share above 0 and below 1, or name a column of splits."
                )
    return table


def _models(
    document: Mapping[str, Any],
    registry: Registry,
    prompt_table: pl.DataFrame | None,
    outs: set[Path],
    findings: Findings,
) -> tuple[dict[str, Model | None], list[Bound[Generator]]]:
    """Each candidate as it lies at its path (None where a stage is yet to make it or it can't be read), and
    what asks them.
    """
    pool: dict[str, Model | None] = {}
    bound: list[Bound[Generator]] = []
    if not isinstance(document.get("models"), Mapping) or not document["models"]:
        findings.attempt(params.load_models)
        return pool, bound
    findings.attempt(params.check_keys, document, "models")
    for name, value in document["models"].items():
        if not isinstance(name, str):  # said, and DVC ignores it
            continue
        findings.attempt(params.check_model_name, name)
        entry = checked(params.ModelSection, value, f"params.yaml, models.{name}", findings)
        if entry is None:
            continue
        generator = findings.attempt(
            selection.generator, entry.generator, entry.sampling, registry, where=f"models.{name}"
        )
        model = None if is_made(entry.path, outs) else _model(str(name), entry.path, findings)
        pool[str(name)] = model
        if generator is not None:
            bound.append(generator)
        if (
            generator is not None
            and generator.plugin.recall
            and model is not None
            and prompt_table is not None
        ):
            findings.attempt(generator.plugin.recall, model, prompt_table, generator.options)
    return pool, bound


def _model(name: str, path: str, findings: Findings) -> Model | None:
    model: Model | None = findings.attempt(models.load, name, path)
    if model is not None and isinstance(model.source, models.Endpoint):
        findings.endpoints.append(model.source)
    if model is not None and isinstance(model.source, models.Weights):
        findings.attempt(reachable.hub, model.source, path)
    return model


def _uses(named: Mapping[str, Model | None], sent: weights.Sent) -> list[weights.Use]:
    """Those of the models that have weights of their own."""
    return [
        weights.Use(where, model.source, sent)
        for where, model in named.items()
        if model is not None and isinstance(model.source, models.Weights)
    ]


def _plugins(
    document: Mapping[str, Any],
    registry: Registry,
    outs: set[Path],
    uses: list[weights.Use],
    findings: Findings,
) -> dict[str, list[Bound[Any]]]:
    """What each section names, as far as it can be used; what asks the models is looked at with them.

    Weights that judges ask are added to `uses`.
    """
    section_of("tracking", params.TrackingSection, document, findings)
    for stage in STAGES.values():
        if stage.own is not None:
            section_of(stage.name, getattr(import_module(stage.module), stage.own), document, findings)
    sections: dict[str, Any] = {}
    for stage in STAGES.values():
        if stage.section is not None and stage.name != "prompts":
            section = section_of(stage.name, stage.section, document, findings)
            sections |= {stage.name: section} if section is not None else {}
    used: dict[str, list[Bound[Any]]] = {}
    for stage in STAGES.values():
        if stage.name not in sections or not all(name in sections for name in stage.needs):
            continue  # what asks the models is looked at with them
        bound = (findings.attempt(selection.bind, choice, registry) for choice in stage.choices(sections))
        used[stage.name] = [one for one in bound if one is not None]
        uses += _asked_models(stage.name, used[stage.name], outs, findings)
    for where, name in (("jury", "judge"), ("evaluate", "evaluate")):
        jury = sections.get(where)
        if where == "evaluate" and jury is not None:
            jury = params.JurySection(weights=jury.weights)
        if name in sections:
            _jury(jury, where, sections[name].judges, document, findings)
    for name in sections["judge"].judges if "judge" in sections else ():
        findings.attempt(params.check_judge_name, name)
    for profiler in used.get("profile", ()):
        tasks = {competency: names for competency, names in sections["profile"].tasks.items() if names}
        if profiler.plugin.check and not absent(profiler.plugin) and not is_awaited(profiler, outs):
            findings.attempt(profiler.plugin.check, tasks, profiler.options)
    return used


def _runner(document: Mapping[str, Any], registry: Registry, findings: Findings) -> None:
    """What computes the pieces of work; the variable KARMA_RUNNER is the stages' own."""
    section = section_of("runner", params.RunnerSection, document, findings)
    if section is not None:
        runner = findings.attempt(selection.runner, section, registry)
        if runner is not None:
            findings.attempt(runner.check_installed)


def _asked_models(
    stage: str, used: Iterable[Bound[Any]], outs: set[Path], findings: Findings
) -> list[weights.Use]:
    """The models that judges ask: servers are noted in the findings, weights are given back.

    How another distribution's judge asks the weights that it reads is for itself to know: they are not among
    those given back.
    """
    uses: list[weights.Use] = []
    for judge in used:
        reads = judge.plugin.reads
        if not isinstance(judge.plugin, Judge) or reads is None or is_awaited(judge, outs):
            continue
        paths, where = findings.attempt(reads, judge.options) or (), f"{stage}.judges.{judge.name}"
        descriptors = {
            str(path): _model(judge.name, str(path), findings)
            for path in paths
            if path.suffix in (".yaml", ".yml")
        }
        named = getattr(judge.options, "model", None)
        if judge.origin.distribution != OURS.distribution or not paths or not isinstance(named, str):
            continue
        model = (
            descriptors[named]
            if named in descriptors
            else findings.attempt(models.load, judge.name, named, where=where)
        )
        uses += _uses({where: model}, _sent(judge.options, paths))
    return uses


def _sent(options: Any, paths: Sequence[Path]) -> weights.Sent:
    """What a judge sends the weights that it asks."""
    if not isinstance(options, LlmOptions):
        return weights.Sent.ANSWERED
    return weights.Sent.SYSTEM_QUESTION if asks_with_system(paths) else weights.Sent.QUESTION


def _jury(
    jury: params.JurySection | None,
    where: str,
    judges: Iterable[str],
    document: Mapping[str, Any],
    findings: Findings,
) -> None:
    """The names that a jury gives weights and kin to."""
    candidates = [str(name) for name in document.get("models") or ()]
    if jury is None:
        return
    findings.attempt(jury.weights_of, list(judges), where=where)
    for judge, name in jury.kin_to.items():
        if name not in candidates:
            findings.errors.append(
                f"params.yaml, {where}.kin_to.{judge}: no candidate is called '{name}'."
                f"{did_you_mean(name, candidates)}"
            )


def _competencies(document: Mapping[str, Any], prompt_table: pl.DataFrame | None, findings: Findings) -> None:
    section = document.get("profile")
    tasks = section.get("tasks") if isinstance(section, Mapping) else None
    if not isinstance(tasks, Mapping) or not tasks:
        return
    for competency, names in tasks.items():
        if not names:
            findings.errors.append(
                f"params.yaml, profile.tasks.{competency}: names no task. Name one or remove it."
            )
    if prompt_table is not None:
        for competency in sorted(set(prompt_table["competency"]) - set(tasks)):
            findings.warnings.append(
                f"params.yaml, profile.tasks: no task measures '{competency}', a competency of the prompts; "
                "kinship in it is unknown. Add a task, or map it in prompts.competencies."
            )


def _training(document: Mapping[str, Any], outs: set[Path], findings: Findings) -> Model | None:
    """The model that training starts from, where it is there; and the one that the curriculum is for."""
    train, curriculum = document.get("train"), document.get("curriculum")
    base = train.get("base") if isinstance(train, Mapping) else None
    model: Model | None = None
    if isinstance(base, str) and not is_made(base, outs):
        model = findings.attempt(models.load, "base", base, where="train.base")
        if model is not None and isinstance(model.source, models.Weights):
            findings.attempt(reachable.hub, model.source, base)
        if model is not None and not isinstance(model.source, models.Weights):
            findings.errors.append(
                f"params.yaml, train.base: '{base}' holds no weights, so it can't be trained. Name a folder "
                "of weights or a descriptor of some."
            )
    accelerate = train.get("accelerate") if isinstance(train, Mapping) else None
    if isinstance(accelerate, str | Mapping):
        findings.attempt(launching.read, accelerate, where="params.yaml, train.accelerate")
    target = curriculum.get("target") if isinstance(curriculum, Mapping) else None
    if target is not None and target not in (document.get("models") or {}):
        findings.errors.append(
            f"params.yaml, curriculum.target: '{target}' is no candidate in section 'models'."
        )
    return model


def _chosen(findings: Findings) -> None:
    """Whether the pairs that are there were mostly chosen from models unlike the one to be trained."""
    try:
        standing_figures = json.loads(CURRICULUM.read_text(encoding="utf-8")).get("target")
    except (OSError, ValueError, AttributeError):
        return
    if isinstance(standing_figures, Mapping) and (warning := standing.warning(standing_figures)) is not None:
        findings.warnings.append(warning.removeprefix("karma: "))


def _disk(findings: Findings) -> None:
    free = shutil.disk_usage(".").free / 2**30
    if free < LEAST_FREE:
        findings.warnings.append(f"Only {free:.1f} GiB of disk are free here.")
