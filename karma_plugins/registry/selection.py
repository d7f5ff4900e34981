"""Which plugins a section of params.yaml names: the one place where names become bound plugins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from karma_plugins import params
from karma_plugins.contracts import Generator, Judge, KinshipMetric, Objective, Pairing, Profiler
from karma_plugins.registry import Bound, Juror, Registry, stages
from karma_plugins.registry.stages import STAGES, Choice


def bind(choice: Choice, registry: Registry) -> Bound[Any]:
    """The plugin that params name, with its options checked.

    Raises PluginError where there is none of that name, or of one that options are written for; ParamsError
    for an unknown or wrong option.
    """
    for name in choice.spare:
        registry.refuse_unknown(choice.kind, name, where=f"params.yaml, {choice.spare_key}")
    where = f"params.yaml, {choice.where}"
    return registry.bind(choice.kind, choice.name, choice.options, where=where, alias=choice.alias)


def profiler(section: params.ProfileSection, registry: Registry) -> Bound[Profiler]:
    """The profiler of section `profile`."""
    return cast("Bound[Profiler]", bind(stages.profiler(section), registry))


def metrics(section: params.KinshipSection, registry: Registry) -> list[Bound[KinshipMetric]]:
    """The metrics of section `kinship`: the acting one first, then the others by name."""
    return [bind(choice, registry) for choice in stages.metrics(section)]


def generator(name: str, options: Mapping[str, Any], registry: Registry, *, where: str) -> Bound[Generator]:
    """The generator that a model (or section `evaluate`) names, with its sampling options."""
    return cast("Bound[Generator]", bind(stages.generator(name, options, where), registry))


def jury(judges: Mapping[str, params.JudgeEntry], registry: Registry, *, where: str) -> list[Juror]:
    """The judges of a section with their weights, in order of their names."""
    return [
        Juror(cast("Bound[Judge]", bind(choice, registry)), entry.weight, entry.kin_to)
        for choice in stages.judges(judges, where)
        for entry in [judges[choice.alias]]
    ]


def pairing(section: params.CurriculumSection, registry: Registry) -> Bound[Pairing]:
    """The pairing of section `curriculum`."""
    return cast("Bound[Pairing]", bind(stages.pairing(section), registry))


def objective(section: params.TrainSection, registry: Registry) -> Bound[Objective]:
    """The objective of section `train`."""
    return cast("Bound[Objective]", bind(stages.objective(section), registry))


def used(registry: Registry) -> dict[str, list[Bound[Any]]]:
    """The plugins that params.yaml names, by stage; stages whose sections it does not have are left out."""
    document = params.read()
    return {
        stage.name: [bind(choice, registry) for choice in stage.choices(dict(_sections(document)))]
        for stage in STAGES.values()
        if stage.section is not None and all(name in document for name in stage.needs)
    }


def _sections(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every section that is there, checked."""
    if "models" in document:
        yield "models", params.load_models()
    for stage in STAGES.values():
        if stage.section is not None and stage.name in document:
            yield stage.name, params.load(stage.name, stage.section)
