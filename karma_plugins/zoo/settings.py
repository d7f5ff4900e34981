"""What a zoo is made of: the size of its world, its prompts, and its family of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Competency = Literal["knowledge", "reasoning", "instruction"]
Split = Literal["benchmark", "train", "heldout"]
Share = Annotated[float, Field(ge=0)]


class Member(BaseModel):
    """One model of the family: whose weights it starts from and what it then reads.

    `parent` is null for a trunk. `mixture` holds the share of each competency in a batch; shares are
    normalised, an absent competency has share 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    parent: str | None = None
    steps: int = Field(ge=1)
    mixture: Mapping[Competency, Share]

    @model_validator(mode="after")
    def _reads_something(self) -> Member:
        if sum(self.mixture.values()) <= 0:
            raise ValueError("mixture: give at least one competency a share above 0")
        return self


def _default_family() -> dict[str, Member]:
    shares: dict[Competency, float] = {"knowledge": 1, "reasoning": 2, "instruction": 1}
    return {
        "trunk": Member(steps=110, mixture=shares),
        "scholar": Member(
            parent="trunk", steps=100, mixture={"knowledge": 18, "reasoning": 1, "instruction": 1}
        ),
        "reckoner": Member(
            parent="trunk", steps=220, mixture={"knowledge": 1, "reasoning": 18, "instruction": 1}
        ),
        "scribe": Member(
            parent="trunk", steps=120, mixture={"knowledge": 1, "reasoning": 1, "instruction": 18}
        ),
        "pupil": Member(parent="trunk", steps=90, mixture={"knowledge": 1, "reasoning": 3, "instruction": 1}),
        "master": Member(parent="pupil", steps=300, mixture=shares),
    }


class ZooSettings(BaseModel):
    """The zoo's settings; the defaults are the default zoo.

    `benchmark`, `train` and `heldout` count items of each competency. A family lists a parent before its
    children.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=7, ge=0)
    people: int = Field(default=40, ge=4)
    towns: int = Field(default=20, ge=4)
    benchmark: int = Field(default=150, ge=1)
    train: int = Field(default=240, ge=1)
    heldout: int = Field(default=200, ge=1)
    lessons: int = Field(default=6000, ge=1, description="pre-training items drawn for each competency")
    hidden_size: int = Field(default=96, ge=8)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=4e-3, gt=0)
    threads: int = Field(default=2, ge=1, description="torch threads; the weights' last bits depend on it")
    family: Mapping[str, Annotated[Member, Field()]] = Field(default_factory=_default_family)

    @model_validator(mode="after")
    def _family_descends(self) -> ZooSettings:
        seen: set[str] = set()
        for name, member in self.family.items():
            if not name or not all(c.isdigit() or c == "-" or "a" <= c <= "z" for c in name):
                raise ValueError(f"family: name '{name}' may hold only a-z, 0-9 and '-'")
            if member.parent is not None and member.parent not in seen:
                raise ValueError(f"family.{name}.parent: '{member.parent}' is not listed before '{name}'")
            seen.add(name)
        if self.hidden_size % (2 * self.heads):
            raise ValueError("hidden_size: must be a multiple of 2 * heads")
        return self

    @property
    def total_steps(self) -> int:
        """Training steps of the whole family, for a progress bar."""
        return sum(member.steps for member in self.family.values())
