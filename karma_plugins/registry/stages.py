"""The table of stages, read by the lock, `karma check`, selection, and the tests of every dvc.yaml.

It says what each is called, where its domain is, which section of params it reads, which plugins that names,
and which entries of karma.lock.json it depends on. A new stage is one more row, a script in `stages/` and its
lines in dvc.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from karma_plugins import params
from karma_plugins.contracts import (
    Generator,
    Judge,
    KinshipMetric,
    Objective,
    Pairing,
    Plugin,
    Profiler,
    Runner,
)

#: Checked sections of params by name; `models` is a mapping of its own.
Sections = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """A plugin that params name: its kind and name, its options, and the key that names it.

    `alias` is the entry's own name where that is another; `spare` are the plugins that options are written
    for without being chosen, under the key `spare_key`: those must exist too. `options_key` is where its
    options stand, if not under the entry itself. `misplaced` are keys that
    belong to section `jury`.
    """

    kind: type[Plugin]
    name: str
    options: Mapping[str, Any]
    where: str
    alias: str = ""
    spare: tuple[str, ...] = ()
    spare_key: str = ""
    options_key: str = ""
    misplaced: tuple[str, ...] = ()


def no_choices(sections: Sections) -> Iterator[Choice]:
    """Of a stage that uses no plugin."""
    del sections
    return iter(())


def profiler(section: params.ProfileSection) -> Choice:
    """The profiler of section `profile`."""
    return _one(Profiler, section.profiler, section.profilers, "profile.profiler")


def pairing(section: params.CurriculumSection) -> Choice:
    """The pairing of section `curriculum`."""
    return _one(Pairing, section.pairing, section.pairings, "curriculum.pairing")


def objective(section: params.TrainSection) -> Choice:
    """The objective of section `train`."""
    return _one(Objective, section.objective, section.objectives, "train.objective")


def runner(section: params.RunnerSection) -> Choice:
    """The runner of section `runner`."""
    return _one(Runner, section.runner, section.runners, "runner.runner")


def metrics(section: params.KinshipSection) -> list[Choice]:
    """The metrics of section `kinship`: the acting one first, then the others by name."""
    return [
        Choice(
            KinshipMetric,
            name,
            section.metrics.get(name) or {},
            "kinship.metric" if name == section.metric else "kinship.metrics",
            options_key=f"kinship.metrics.{name}",
        )
        for name in (section.metric, *sorted(set(section.metrics) - {section.metric}))
    ]


def judges(entries: Mapping[str, params.JudgeEntry], where: str) -> list[Choice]:
    """The judges of a section, in order of their names."""
    return [
        Choice(
            Judge,
            entry.plugin or name,
            entry.options,
            f"{where}.{name}",
            alias=name,
            misplaced=tuple(
                key for key in ("weight", "kin_to") if key in entry.options and where == "judge.judges"
            ),
        )
        for name, entry in sorted(entries.items())
    ]


def generator(name: str, options: Mapping[str, Any], where: str) -> Choice:
    """The generator that a model, or section `evaluate`, names."""
    return Choice(Generator, name, options, where)


def _one(kind: type[Plugin], name: str, given: params.PluginOptions, where: str) -> Choice:
    spare = tuple(sorted(set(given) - {name}))
    return Choice(
        kind, name, given.get(name) or {}, where, spare=spare, spare_key=f"{where}s",
        options_key=f"{where}s.{name}",
    )  # fmt: skip


def _generators(sections: Sections) -> Iterator[Choice]:
    for name, entry in sections["models"].items():
        yield generator(entry.generator, entry.sampling, f"models.{name}")


def _training(sections: Sections) -> Iterator[Choice]:
    section = sections["train"]
    yield objective(section)
    yield from judges(section.reward_judges, f"train.objectives.{section.objective}.reward.judges")


def _evaluation(sections: Sections) -> Iterator[Choice]:
    section = sections["evaluate"]
    yield from judges(section.judges, "evaluate.judges")
    yield generator(section.generator, section.sampling, "evaluate.generator")
    if "profile" in sections:
        yield profiler(sections["profile"])


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the pipeline; `sectioned`: it has a section of its own in params.

    `module` is its domain; `section` the model of its section in params (null where the domain brings its
    own: `own` is its name there), `reads` further sections; `kind` the kind of plugin that is its own, whose
    installed plugins stand in its section of karma.lock.json; `choices` the plugins that the sections name;
    `locked` the keys of that file that the stage depends on beside its core, as dvc.yaml spells them.
    `noted`: it may name several plugins of one kind, which DVC can't spell as keys: stage `code` notes their
    entries for it. `shared`: its work is cut in pieces, which the runner of section `runner` has computed.
    """

    name: str
    module: str
    section: type[BaseModel] | None = None
    reads: tuple[str, ...] = ()
    kind: str | None = None
    choices: Callable[[Sections], Iterator[Choice] | list[Choice]] = field(default=no_choices)
    sectioned: bool = True
    locked: tuple[str, ...] = ()
    noted: bool = False
    shared: bool = False
    own: str | None = None

    @property
    def note(self) -> str:
        """Where stage `code` notes the entries of the plugins that its params name."""
        return f"data/code/{self.name}.json"

    @property
    def script(self) -> str:
        """Where its command lies in a pipeline's folder."""
        return f"stages/{self.name}.py"

    @property
    def needs(self) -> tuple[str, ...]:
        """The sections without which its choices can't be made."""
        return self.reads if self.name == "generate" else (self.name,)


_ROWS = (
    Stage(
        "code", "karma_plugins.registry", sectioned=False,
        locked=("kinship", "judge", "train", "generate", "profile"),
    ),
    Stage("zoo", "karma_plugins.zoo", own="ZooSettings"),
    Stage("prompts", "karma_plugins.prompts", params.PromptsSection),
    Stage(
        "profile", "karma_plugins.profiling", params.ProfileSection, kind="profilers",
        choices=lambda sections: [profiler(sections["profile"])],
        locked=("profile.${profile.profiler}",), shared=True,
    ),
    Stage(
        "kinship", "karma_plugins.kinship", params.KinshipSection, ("models",), "kinship_metrics",
        choices=lambda sections: metrics(sections["kinship"]),
        noted=True,
    ),
    Stage(
        "generate", "karma_plugins.generation", params.GenerateSection, ("models",), "generators",
        choices=_generators,
        locked=("generate.${item.generator}",), shared=True,
    ),
    Stage(
        "judge", "karma_plugins.judging.hearing", params.JudgeSection, ("models",), "judges",
        choices=lambda sections: judges(sections["judge"].judges, "judge.judges"),
        locked=("judge.${item.plugin}",), shared=True,
    ),
    Stage("jury", "karma_plugins.judging.deciding", params.JurySection, ("models", "judge")),
    Stage(
        "curriculum", "karma_plugins.curriculum", params.CurriculumSection, ("models",), "pairings",
        choices=lambda sections: [pairing(sections["curriculum"])],
        locked=("curriculum.${curriculum.pairing}",),
    ),
    Stage(
        "train", "karma_plugins.training", params.TrainSection, kind="objectives",
        choices=_training,
        locked=("train.${train.objective}",), noted=True,
    ),
    Stage(
        "evaluate", "karma_plugins.evaluation", params.EvaluateSection, ("profile",),
        choices=_evaluation,
        noted=True, shared=True,
    ),
    Stage("report", "karma_plugins.study.reporting", sectioned=False),
)  # fmt: skip
#: The stages by name, in the order of the pipeline.
STAGES: Mapping[str, Stage] = {stage.name: stage for stage in _ROWS}


def home_of(kind: str) -> str | None:
    """The stage in whose section of karma.lock.json the plugins of a kind stand; null where no stage does."""
    return next((stage.name for stage in _ROWS if stage.kind == kind), None)
