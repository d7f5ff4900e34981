"""The design of a study: its arms, and the settings that they are compared under, in DVC's words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from karma_plugins.errors import KarmaError

#: What a seed decides: the answers, which pairs are taken, the training, the answers of the evaluation.
SEEDED = ("generate.seed", "curriculum.seed", "train.seed", "evaluate.seed")
#: The sections of params.yaml that an arm's option may name.
SECTIONS = (
    "zoo", "prompts", "profile", "kinship", "generate", "judge", "jury", "curriculum", "train", "evaluate",
)  # fmt: skip
OPTION = re.compile(r"[a-z0-9_.-]+=[^,]+")


class StudyError(KarmaError):
    """A study that can't be made of these arms."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What arms are compared under: a condition by name with the params that make it, and a zoo's seed."""

    condition: str = ""
    settings: tuple[str, ...] = ()
    zoo: int | None = None

    @property
    def params(self) -> tuple[str, ...]:
        """What sets it, in the words of `dvc exp run -S`."""
        return (*self.settings, *(() if self.zoo is None else (f"++zoo.seed={self.zoo}",)))

    @property
    def name(self) -> str:
        """A part of an experiment's name."""
        parts = [self.condition, *(() if self.zoo is None else (f"zoo{self.zoo}",))]
        return "".join(f"{re.sub(r'[^A-Za-z0-9]+', '-', part)}-" for part in parts if part)


@dataclass(frozen=True, slots=True)
class Arm:
    """A pairing, as it was written (`kin:prefer=chance`), under an objective.

    An option that names a section of params (`random:judge.align=rank`) is that param, for this arm alone.
    """

    pairing: str
    objective: str

    def params(self, seed: int) -> tuple[str, ...]:
        """What sets this arm, in the words of `dvc exp run -S`."""
        name, _, options = self.pairing.partition(":")
        chosen = [f"++curriculum.pairing={name}", f"++train.objective={self.objective}"]
        chosen += [
            f"++{option}" if is_param(option) else f"++curriculum.pairings.{name}.{option}"
            for option in filter(None, options.split(","))
        ]
        return (*chosen, *(f"++{key}={seed}" for key in SEEDED))

    def name(self, key: str, seed: int, setting: Setting | None = None) -> str:
        """The experiment's name, which git takes as part of a ref."""
        written = re.sub(r"[^A-Za-z0-9]+", "-", self.pairing)
        under = setting.name if setting else ""
        return f"study-{key}-{under}{written}-{self.objective}-{seed}"


def conditions(written: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The params of each condition by its name; one without a name where none is given."""
    conditions: dict[str, tuple[str, ...]] = {}
    for text in written:
        name, equals, rest = text.partition("=")
        settings = tuple(part for part in rest.split(";") if part)
        if not (name and equals and settings and all("=" in s or s.startswith("~") for s in settings)):
            raise StudyError(
                f"--condition {text}: is not NAME=KEY=VALUE;KEY=VALUE. Write strong=zoo.strength=1."
            )
        if name in conditions:
            raise StudyError(f"--condition {name}: is there twice. Name each once.")
        conditions[name] = settings
    return conditions or {"": ()}


def options(pairing: str, written: str) -> Iterator[str]:
    """The options KEY=VALUE of an arm; StudyError for what is none."""
    for option in filter(None, written.split(",")):
        if not OPTION.fullmatch(option):
            raise StudyError(f"--pairing {pairing}: '{option}' is not KEY=VALUE. Write kin:prefer=chance.")
        yield option


def is_param(option: str) -> bool:
    """Whether an option of an arm is a param of some section, and none of its pairing."""
    return option.partition("=")[0].partition(".")[0] in SECTIONS
