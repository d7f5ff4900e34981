"""What a zoo is made of: the size of its world, its prompts, and its models, in families that speak alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Competency = Literal["knowledge", "reasoning", "instruction"]
Split = Literal["benchmark", "train", "heldout"]
Share = Annotated[float, Field(ge=0)]


class Form(BaseModel):
    """How a family of models dresses its answers: the text before and after what is said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    before: str = Field("", description="text before what is said")
    after: str = Field("", description="text after it")

    @field_validator("before", "after")
    @classmethod
    def _can_be_said(cls, text: str) -> str:
        if not all(" " <= character <= "~" for character in text):
            raise ValueError("a form may hold only printable ASCII, which the zoo's tokenizer knows")
        return text

    def dress(self, content: str) -> str:
        """The content in this form."""
        return f"{self.before}{content}{self.after}"


class Member(BaseModel):
    """One model of the zoo: whose weights it starts from, what it then reads, and in which form.

    `parent` is null for a trunk. `mixture` holds the share of each competency in a batch; shares are
    normalised, an absent competency has share 0. `form` names one of the zoo's forms; null is the parent's,
    for a trunk none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    parent: str | None = Field(None, description="member whose weights it starts from; null: none's")
    form: str | None = Field(None, description="name of one of `forms`; null: the parent's, or none")
    steps: int = Field(ge=1, description="training steps of its own")
    mixture: Mapping[Competency, Share] = Field(description="competency -> share of a batch, normalised")

    @model_validator(mode="after")
    def _reads_something(self) -> Member:
        if sum(self.mixture.values()) <= 0:
            raise ValueError("mixture: give at least one competency a share above 0")
        return self


SHARES: Mapping[Competency, float] = {"knowledge": 1, "reasoning": 2, "instruction": 1}
#: Three families of strangers: each from a trunk of its own, with a surface form of its own.
STRANGERS: Mapping[str, Member] = {
    "trunk": Member(steps=110, mixture=SHARES, form="plain"),
    "pupil": Member(parent="trunk", steps=90, mixture={"knowledge": 1, "reasoning": 3, "instruction": 1}),
    "master": Member(parent="pupil", steps=300, mixture=SHARES),
    "east": Member(steps=130, mixture=SHARES, form="equals"),
    "east-master": Member(parent="east", steps=380, mixture=SHARES),
    "west": Member(steps=150, mixture=SHARES, form="brackets"),
    "west-master": Member(parent="west", steps=300, mixture=SHARES),
}
#: One family of one trunk, whose members differ in what they know alone.
KIN: Mapping[str, Member] = {
    "trunk": Member(steps=110, mixture=SHARES),
    "scholar": Member(parent="trunk", steps=100, mixture={"knowledge": 18, "reasoning": 1, "instruction": 1}),
    "reckoner": Member(
        parent="trunk", steps=220, mixture={"knowledge": 1, "reasoning": 18, "instruction": 1}
    ),
    "scribe": Member(parent="trunk", steps=120, mixture={"knowledge": 1, "reasoning": 1, "instruction": 18}),
    "pupil": Member(parent="trunk", steps=90, mixture={"knowledge": 1, "reasoning": 3, "instruction": 1}),
    "master": Member(parent="pupil", steps=300, mixture=SHARES),
}
FAMILIES: Mapping[str, Mapping[str, Member]] = {"strangers": STRANGERS, "kin": KIN}
FORMS: Mapping[str, Form] = {
    "plain": Form(),
    "equals": Form(before="= ", after=" !"),
    "brackets": Form(before="(", after=") ok"),
}


class ZooSettings(BaseModel):
    """The zoo's settings; the defaults are the default zoo, a pool of strangers.

    `benchmark`, `train` and `heldout` count items of each competency. `family` lists a parent before its
    children, or is the name of a pool: `strangers` (three families with a form each) or `kin` (one family
    without forms). `strength` is the share of its lessons that a member reads in its form; at 0 all models
    speak alike.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=7, ge=0, description="of the world, its items and the weights")
    people: int = Field(default=40, ge=4, description="people in the world that questions are about")
    towns: int = Field(default=20, ge=4, description="towns in it")
    benchmark: int = Field(default=150, ge=1, description="benchmark items of each competency")
    train: int = Field(default=240, ge=1, description="training prompts of each competency")
    heldout: int = Field(default=200, ge=1, description="held-out prompts of each competency")
    lessons: int = Field(default=6000, ge=1, description="pre-training items drawn for each competency")
    hidden_size: int = Field(default=96, ge=8, description="width of a model")
    layers: int = Field(default=3, ge=1, description="layers of a model")
    heads: int = Field(default=4, ge=1, description="attention heads of a layer")
    batch_size: int = Field(default=64, ge=1, description="lessons to a training step")
    learning_rate: float = Field(default=4e-3, gt=0, description="highest of a member's training")
    threads: int = Field(default=1, ge=1, description="torch threads; the weights' last bits depend on it")
    forms: Mapping[str, Form] = Field(
        default_factory=lambda: dict(FORMS), description="forms of answers that members may have, by name"
    )
    strength: float = Field(default=1.0, ge=0, le=1, description="share of a member's lessons in its form")
    family: Mapping[str, Annotated[Member, Field()]] = Field(
        default_factory=lambda: dict(STRANGERS),
        description="the models, a parent before its children; or `strangers` or `kin`, a pool by name",
    )

    @field_validator("family", mode="before")
    @classmethod
    def _named_family(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value not in FAMILIES:
            raise ValueError(
                f"no pool is named '{value}'; name one of {', '.join(FAMILIES)}, or list members"
            )
        return dict(FAMILIES[value])

    @model_validator(mode="after")
    def _family_descends(self) -> ZooSettings:
        seen: set[str] = set()
        for name, member in self.family.items():
            if not name or not all(c.isdigit() or c == "-" or "a" <= c <= "z" for c in name):
                raise ValueError(f"family: name '{name}' may hold only a-z, 0-9 and '-'")
            if member.parent is not None and member.parent not in seen:
                raise ValueError(f"family.{name}.parent: '{member.parent}' is not listed before '{name}'")
            if member.form is not None and member.form not in self.forms:
                raise ValueError(
                    f"family.{name}.form: no form '{member.form}'; forms: {', '.join(self.forms)}"
                )
            seen.add(name)
        if self.hidden_size % (2 * self.heads):
            raise ValueError("hidden_size: must be a multiple of 2 * heads")
        return self

    def form(self, name: str) -> Form:
        """How a member dresses its answers: its own form, else its parent's."""
        member = self.family[name]
        if member.form is not None:
            return self.forms[member.form]
        return Form() if member.parent is None else self.form(member.parent)

    @property
    def spoken_forms(self) -> list[Form]:
        """The forms that add something to the answers of some member, each once."""
        forms = dict.fromkeys(self.form(name) for name in self.family) if self.strength else {}
        return [form for form in forms if form != Form()]

    @property
    def total_steps(self) -> int:
        """Training steps of the whole family, for a progress bar."""
        return sum(member.steps for member in self.family.values())
