"""Which models are near which: the rules of pairings, in terms that do not depend on the metric's scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import polars as pl
from pydantic import Field, model_validator

from karma_plugins.contracts import Options, PairingContext
from karma_plugins.errors import ParamsError, did_you_mean
from karma_plugins.families import members, relative

USUAL_RADIUS = 0.2
#: Why two models are not near.
UNKNOWN, BEYOND = "kinship unknown", "beyond radius"
FARTHER, STRANGER = "not among the nearest", "of another family"
Radius = Annotated[float, Field(ge=0, le=1)]


class Nearness(Options):
    """When two models are near by a metric; of several rules all must hold.

    `radius` is in units that are the same for every metric: 0 is as near as a model is to itself.
    """

    radius: Radius | None = Field(
        None, description=f"1 - relative kinship at most [{USUAL_RADIUS} where no other rule is given]"
    )
    nearest: Annotated[int, Field(ge=1)] | None = Field(
        None, description="one is among the so many nearest models of the other"
    )
    family: bool = Field(False, description="both are of one family")

    @property
    def reach(self) -> float | None:
        """The radius that acts."""
        unruled = self.radius is None and self.nearest is None and not self.family
        return USUAL_RADIUS if unruled else self.radius


class ActingNearness(Nearness):
    """Nearness by one metric, and by others beside it."""

    metric: str | None = Field(None, description="the metric that it acts on [kinship.metric]")
    also: Mapping[str, Nearness] = Field(
        default_factory=dict, description="further metrics -> when the two models of a pair are near by them"
    )

    @model_validator(mode="after")
    def _another(self) -> ActingNearness:
        if self.metric in self.also:
            raise ValueError(f"also: '{self.metric}' is the acting metric; give it one rule")
        return self


def relations(rows: pl.DataFrame, overall: pl.DataFrame, rule: Nearness) -> pl.DataFrame:
    """Every model seen from every other: competency, model_a, model_b, relative kinship and `far`.

    `rows` are the rows of one metric that count, of competencies or overall; families are always those of the
    `overall` rows. `far` says why the second is not near to the first, null where it is; a model is near to
    itself.
    """
    known = rows.select("competency", "model_a", "model_b", relative=relative(rows))
    turned = known.rename({"model_a": "model_b", "model_b": "model_a"}).select(known.columns)
    both = pl.concat([known, turned])
    itself = both.select("competency", "model_a", model_b="model_a", relative=pl.lit(1.0)).unique()
    place = pl.col("relative").rank("ordinal", descending=True).over("competency", "model_a")
    ordered = both.sort("competency", "model_a", "model_b").with_columns(place=place)
    family = {name: number for number, names in enumerate(members(overall)) for name in names}
    group = {
        side: pl.col(f"model_{side}").replace_strict(family, default=None, return_dtype=pl.Int64)
        for side in ("a", "b")
    }
    rules = [(pl.col("relative").is_null(), UNKNOWN)]
    if rule.reach is not None:
        rules.append((pl.col("relative") < 1 - rule.reach - 1e-12, BEYOND))
    if rule.nearest is not None:
        rules.append((pl.col("place") > rule.nearest, FARTHER))
    if rule.family:
        rules.append((group["a"].ne_missing(group["b"]), STRANGER))
    far = pl.coalesce(pl.when(broken).then(pl.lit(reason)) for broken, reason in rules)
    return pl.concat(
        [
            ordered.with_columns(far=far).drop("place"),
            itself.with_columns(far=pl.lit(None, pl.String)),
        ]
    )


def between(candidates: pl.DataFrame, seen: pl.DataFrame) -> pl.Series:
    """Why the two models of each candidate are not near, from either of them; null where they are."""
    sides = [_looked_up(candidates, seen, first, second) for first, second in (("a", "b"), ("b", "a"))]
    pair = pl.DataFrame({"one": sides[0], "other": sides[1]})
    near = pl.col("one").is_null() | pl.col("other").is_null()
    return pair.select(pl.when(~near).then("one")).to_series()


def _looked_up(candidates: pl.DataFrame, seen: pl.DataFrame, first: str, second: str) -> pl.Series:
    keys = candidates.select("competency", model_a=f"model_{first}", model_b=f"model_{second}")
    on = ["model_a", "model_b"]
    if seen["competency"].null_count() < seen.height:
        on = ["competency", *on]
    looked_up = keys.join(
        seen.select(*on, "far", known=pl.lit(value=True)), on=on, how="left", maintain_order="left"
    )
    reason = (
        pl.when(pl.col("model_a") == pl.col("model_b"))
        .then(pl.lit(None, pl.String))
        .when(pl.col("known").is_null())
        .then(pl.lit(UNKNOWN))
        .otherwise("far")
    )
    return looked_up.select(reason.alias("far")).to_series()


def acting(context: PairingContext, rule: Nearness) -> pl.DataFrame:
    """The relations of the models by the acting metric, whose rows the context holds."""
    overall = context.kinship
    if context.measured is not None and context.kinship.height:
        overall = _overall(context.measured, str(context.kinship["metric"][0]))
    return relations(context.kinship, overall, rule)


def other_rules(
    candidates: pl.DataFrame, context: PairingContext, also: Mapping[str, Nearness]
) -> Iterable[pl.Series]:
    """For each further metric why the models of the candidates are not near by it, with its name.

    Raises ParamsError for a metric that is not measured.
    """
    for metric, rule in sorted(also.items()):
        table = context.kinship if context.measured is None else context.measured
        rows = _overall(table, metric)
        if rows.is_empty():
            measured = table["metric"].unique().sort().to_list()
            raise ParamsError(
                f"params.yaml, curriculum.pairings: metric '{metric}' is not measured."
                f"{did_you_mean(metric, measured)} Name it in kinship.metrics."
            )
        yield between(candidates, relations(rows, rows, rule)) + f" by {metric}"


def _overall(table: pl.DataFrame, metric: str) -> pl.DataFrame:
    return table.filter(pl.col("metric") == metric, pl.col("competency").is_null())


def first_reason(reasons: Iterable[pl.Series]) -> pl.Series:
    """Of each candidate the first reason that is there."""
    named = {str(number): reason for number, reason in enumerate(reasons)}
    return pl.DataFrame(named).select(pl.coalesce(pl.all())).to_series()
