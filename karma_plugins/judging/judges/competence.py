"""Judge `competence`: an answer is worth what its model was found to be able to do; no answer is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from pydantic import Field, model_validator

from karma_plugins import tables
from karma_plugins.contracts import Answer, Judge, Options, Verdict, hookimpl
from karma_plugins.errors import ParamsError
from karma_plugins.schemas import SCORES


class CompetenceOptions(Options):
    """Where it is told how able each model is."""

    profile: str | None = Field(None, description="folder of profiles, such as data/profile")
    rank: Mapping[str, float] = Field(
        default_factory=dict, description="model -> how able it is (size, date), instead of its profile"
    )

    @model_validator(mode="after")
    def _one(self) -> CompetenceOptions:
        if (self.profile is None) == (not self.rank):
            raise ValueError("give `profile` or `rank`, and not both")
        return self


def score(answers: Sequence[Answer], options: CompetenceOptions) -> list[float | Verdict]:
    """The model's mean profile score in the prompt's competency, whatever the answer says; in [0,1].

    Of a competency that was not profiled it is the mean over all. With `rank` it is the model's place among
    the ranked, from 0 to 1. A model without profile or rank is skipped. Raises ParamsError where no profile
    is found.
    """
    known = _places(options.rank) if options.rank else _means(Path(str(options.profile)))
    scores: list[float | Verdict] = []
    for answer in answers:
        value = known.get((answer.model, answer.competency), known.get((answer.model, None)))
        scores.append(value if value is not None else Verdict(None, "skipped", "competence unknown"))
    return scores


def _places(rank: Mapping[str, float]) -> dict[tuple[str, str | None], float]:
    """Equal ranks share a place."""
    values = sorted(set(rank.values()))
    last = max(len(values) - 1, 1)
    return {(model, None): values.index(value) / last for model, value in rank.items()}


def _means(folder: Path) -> dict[tuple[str, str | None], float]:
    files = sorted(folder.glob("*/scores.parquet"))
    if not files:
        raise ParamsError(
            f"judge 'competence': no profile in '{folder}' (<model>/scores.parquet). Name the folder that "
            "stage profile writes, and add it to the deps of stage judge."
        )
    scores = pl.concat([tables.read(file, SCORES) for file in files]).drop_nulls("score")
    means = (
        scores.sort("model", "competency", "task", "metric")
        .group_by("model", "competency", maintain_order=True)
        .agg(pl.col("score").mean())
    )
    overall = means.group_by("model", maintain_order=True).agg(pl.col("score").mean())
    mean_of: dict[tuple[str, str | None], float] = {
        (model, competency): value for model, competency, value in means.iter_rows()
    }
    return mean_of | {(model, None): value for model, value in overall.iter_rows()}


def _reads(options: CompetenceOptions) -> list[Path]:
    return [] if options.profile is None else [Path(options.profile)]


@hookimpl
def karma_register_judges() -> Sequence[Judge]:
    """Register judge `competence`."""
    return [
        Judge(name="competence", options=CompetenceOptions, score=score, reads=_reads, keeps_shards=False)
    ]
