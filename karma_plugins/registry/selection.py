"""Which plugins a section of params.yaml names: the one place where names become bound plugins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from karma_plugins import params
from karma_plugins.contracts import Generator, Judge, KinshipMetric, Objective, Pairing, Plugin, Profiler
from karma_plugins.errors import ParamsError
from karma_plugins.registry import Bound, Juror, Registry


def profiler(section: params.ProfileSection, registry: Registry) -> Bound[Profiler]:
    """The profiler of section `profile`."""
    options = _options(section.profilers, section.profiler, Profiler, registry, "profile.profilers")
    return registry.bind(Profiler, section.profiler, options, where="params.yaml, profile.profiler")


def metrics(section: params.KinshipSection, registry: Registry) -> list[Bound[KinshipMetric]]:
    """The metrics of section `kinship`: the acting one first, then the others by name."""
    return [metric(name, section, registry) for name in metric_names(section)]


def metric_names(section: params.KinshipSection) -> list[str]:
    """The metrics that section `kinship` names, the acting one first."""
    return [section.metric, *sorted(set(section.metrics) - {section.metric})]


def metric(name: str, section: params.KinshipSection, registry: Registry) -> Bound[KinshipMetric]:
    """One metric of section `kinship`."""
    key = "kinship.metric" if name == section.metric else "kinship.metrics"
    return registry.bind(KinshipMetric, name, section.metrics.get(name) or {}, where=f"params.yaml, {key}")


def generator(name: str, options: Mapping[str, Any], registry: Registry, *, where: str) -> Bound[Generator]:
    """The generator that a model (or section `evaluate`) names, with its sampling options."""
    return registry.bind(Generator, name, options, where=f"params.yaml, {where}")


def judge(name: str, entry: params.JudgeEntry, registry: Registry, *, where: str) -> Bound[Judge]:
    """The judge that an entry of a section names."""
    place = f"params.yaml, {where}.{name}"
    for key, home in (("weight", "weights"), ("kin_to", "kin_to")):
        if key in entry.options and where == "judge.judges":
            raise ParamsError(f"{place}: '{key}' is said in section 'jury': jury.{home}.{name}.")
    return registry.bind(Judge, entry.plugin or name, entry.options, where=place, alias=name)


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


def pairing(section: params.CurriculumSection, registry: Registry) -> Bound[Pairing]:
    """The pairing of section `curriculum`."""
    options = _options(section.pairings, section.pairing, Pairing, registry, "curriculum.pairings")
    return registry.bind(Pairing, section.pairing, options, where="params.yaml, curriculum.pairing")


def objective(section: params.TrainSection, registry: Registry) -> Bound[Objective]:
    """The objective of section `train`."""
    options = _options(section.objectives, section.objective, Objective, registry, "train.objectives")
    return registry.bind(Objective, section.objective, options, where="params.yaml, train.objective")


def rewarding(section: params.TrainSection, registry: Registry) -> list[Juror]:
    """The judges that reward answers in training, as the objective's options name them; mostly none."""
    return jury(section.reward_judges, registry, where=f"train.objectives.{section.objective}.reward.judges")


def _options(
    given: params.PluginOptions, acting: str, kind: type[Plugin], registry: Registry, where: str
) -> Mapping[str, Any]:
    """The acting plugin's options; PluginError where some are given to a plugin that is not there."""
    for name in sorted(set(given) - {acting}):
        registry.refuse_unknown(kind, name, where=f"params.yaml, {where}")
    return given.get(acting) or {}


def used(registry: Registry) -> dict[str, list[Bound[Any]]]:
    """The plugins that params.yaml names, by stage; sections that it does not have are left out."""
    document = params.read()
    found: dict[str, list[Bound[Any]]] = {}
    if "models" in document:
        models = params.load_models()
        found["generate"] = [
            generator(m.generator, m.sampling, registry, where=f"models.{name}") for name, m in models.items()
        ]
    if "profile" in document:
        found["profile"] = [profiler(params.load("profile", params.ProfileSection), registry)]
    if "kinship" in document:
        found["kinship"] = list(metrics(params.load("kinship", params.KinshipSection), registry))
    if "judge" in document:
        judges = params.load_judges()
        found["judge"] = [juror.judge for juror in jury(judges, registry, where="judge.judges")]
    if "curriculum" in document:
        found["curriculum"] = [pairing(params.load("curriculum", params.CurriculumSection), registry)]
    if "train" in document:
        training = params.load("train", params.TrainSection)
        rewards = [juror.judge for juror in rewarding(training, registry)]
        found["train"] = [objective(training, registry), *rewards]
    if "evaluate" in document:
        section = params.load("evaluate", params.EvaluateSection)
        found["evaluate"] = [
            *(juror.judge for juror in jury(section.judges, registry, where="evaluate.judges")),
            generator(section.generator, section.sampling, registry, where="evaluate.generator"),
            *found.get("profile", []),
        ]
    return found
