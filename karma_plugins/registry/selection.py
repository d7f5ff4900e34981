"""Which plugins a section of params.yaml names: the one place where names become bound plugins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from karma_plugins import params
from karma_plugins.contracts import Generator, Judge, KinshipMetric, Objective, Pairing, Profiler, Runner
from karma_plugins.errors import ParamsError
from karma_plugins.registry import Bound, Juror, Registry, stages
from karma_plugins.registry.stages import STAGES, Choice


def bind(choice: Choice, registry: Registry) -> Bound[Any]:
    """The plugin that params name, with its options checked.

    Raises PluginError where there is none of that name, or of one that options are written for; ParamsError
    for an unknown or wrong option.
    """
    for key in choice.misplaced:
        home = "weights" if key == "weight" else key
        raise ParamsError(
            f"params.yaml, {choice.where}: '{key}' is said in section 'jury': jury.{home}.{choice.alias}."
        )
    for name in choice.spare:
        registry.refuse_unknown(choice.kind, name, where=f"params.yaml, {choice.spare_key}")
    where = f"params.yaml, {choice.where}"
    place = f"params.yaml, {choice.options_key}" if choice.options_key and choice.options else ""
    return registry.bind(
        choice.kind, choice.name, choice.options, where=where, alias=choice.alias, place=place
    )


def profiler(section: params.ProfileSection, registry: Registry) -> Bound[Profiler]:
    """The profiler of section `profile`."""
    return cast("Bound[Profiler]", bind(stages.profiler(section), registry))


def metrics(section: params.KinshipSection, registry: Registry) -> list[Bound[KinshipMetric]]:
    """The metrics of section `kinship`: the acting one first, then the others by name."""
    return [bind(choice, registry) for choice in stages.metrics(section)]


def generator(name: str, options: Mapping[str, Any], registry: Registry, *, where: str) -> Bound[Generator]:
    """The generator that a model (or section `evaluate`) names, with its sampling options."""
    return cast("Bound[Generator]", bind(stages.generator(name, options, where), registry))


def judge(name: str, entry: params.JudgeEntry, registry: Registry, *, where: str) -> Bound[Judge]:
    """The judge that an entry of a section names."""
    (choice,) = stages.judges({name: entry}, where)
    return cast("Bound[Judge]", bind(choice, registry))


def jury(judges: Mapping[str, params.JudgeEntry], registry: Registry, *, where: str) -> list[Juror]:
    """The judges of a section, in order of their names."""
    return [Juror(judge(name, entry, registry, where=where), entry) for name, entry in sorted(judges.items())]


def read_by(judge: Bound[Judge], entry: params.JudgeEntry, kinship: Path) -> list[Path]:
    """The files and folders beside prompts and answers whose bytes decide what a judge says.

    ParamsError where a judge recalls what was recorded and its entry names no folder of it.
    """
    if judge.plugin.recall is not None and entry.reads is None:
        raise ParamsError(
            f"params.yaml, judge.judges.{judge.name}: key 'reads' is missing. Name the folder of recorded "
            "verdicts."
        )
    package = Path(__file__).parents[1]
    paths = [Path(entry.reads)] if entry.reads else []
    paths += [path for path in judge.files if package not in path.parents]
    if judge.plugin.compare is not None and entry.kin_radius < 1:
        paths.append(kinship)
    return list(dict.fromkeys(paths))


def refuse_unwatched(paths: Iterable[Path], stage: str, item: str) -> None:
    """Raise ParamsError for the first of the paths that a stage or its item reads unwatched by DVC."""
    reader = f"{stage} {item}".strip()
    for path in paths:
        entry = f", or the folder of all that it reads, in {stage}.{stage}s.{item}.reads of params.yaml, or"
        raise ParamsError(
            f"dvc.yaml, {stage}: '{path}', which {reader} reads, is no dep of it, so a change there "
            f"would run nothing again. Name it{entry if item else ''} among the deps."
        )


def pairing(section: params.CurriculumSection, registry: Registry) -> Bound[Pairing]:
    """The pairing of section `curriculum`."""
    return cast("Bound[Pairing]", bind(stages.pairing(section), registry))


def objective(section: params.TrainSection, registry: Registry) -> Bound[Objective]:
    """The objective of section `train`."""
    return cast("Bound[Objective]", bind(stages.objective(section), registry))


def runner(section: params.RunnerSection, registry: Registry) -> Bound[Runner]:
    """The runner of section `runner`."""
    return cast("Bound[Runner]", bind(stages.runner(section), registry))


def rewarding(section: params.TrainSection, registry: Registry) -> list[Juror]:
    """The judges that reward answers in training, as the objective's options name them; mostly none."""
    return jury(section.reward_judges, registry, where=f"train.objectives.{section.objective}.reward.judges")


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
    if "judge" in document:
        params.load_judges()
    for stage in STAGES.values():
        if stage.section is not None and stage.name in document:
            yield stage.name, params.load(stage.name, stage.section)
