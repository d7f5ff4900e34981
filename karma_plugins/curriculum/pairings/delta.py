"""Pairing `delta`: in one family, the answer of the more able model against that of the less able one.

After the Delta Learning Hypothesis (Geng et al. 2025, arXiv 2507.06187): with judge `competence`, whose
rewards are what profile found of each model, no answer needs to be judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import polars as pl
from pydantic import Field

from karma_plugins.contracts import Pairing, PairingContext, hookimpl
from karma_plugins.curriculum import nearness
from karma_plugins.curriculum.nearness import ActingNearness, Nearness
from karma_plugins.curriculum.pairings import Preference, priority, target_kin
from karma_plugins.errors import ParamsError


class DeltaOptions(ActingNearness):
    """Whose family, what counts as a gap in competence, and which pairs come first.

    Without any rule of nearness both models are of one family; with `curriculum.target` it is the target's.
    """

    rank: Mapping[str, float] = Field(
        default_factory=dict, description="model -> how able it is (size, date), instead of its profile"
    )
    deviate: Annotated[float, Field(ge=0)] = Field(
        1.96, description="standard errors from which on a gap of two profiles is real"
    )
    prefer: Preference = Field(
        "margin", description="which pairs come first: margin (the widest), kinship (the nearest) or chance"
    )


def pair(candidates: pl.DataFrame, context: PairingContext, options: DeltaOptions) -> pl.DataFrame:
    """Eligible where both models are near and the chosen one is really more able in the prompt's competency.

    Raises ParamsError where neither profiles nor ranks are at hand.
    """
    unruled = options.radius is None and options.nearest is None and not options.family
    rule = Nearness(family=True) if unruled else options
    seen = nearness.acting(context, rule)
    if context.target is None:
        near = [nearness.between(candidates, seen)]
    else:
        target = target_kin.named_target(context, "delta")
        mine = seen.filter(pl.col("model_a") == target)
        near = [target_kin.seen_from_target(candidates, mine, side)["far"] for side in ("a", "b")]
    reasons = [
        *near,
        *nearness.other_rules(candidates, context, options.also),
        _no_gap(candidates, context, options),
    ]
    return candidates.with_columns(nearness.first_reason(reasons).alias("dropped"), priority(options.prefer))


def _no_gap(candidates: pl.DataFrame, context: PairingContext, options: DeltaOptions) -> pl.Series:
    """Why the model of `a` is not really the more able one; null where it is."""
    able = _ranked(options.rank) if options.rank else _profiled(context)
    sides = [
        candidates.select("competency", model=f"model_{side}").join(
            able, on=["competency", "model"] if "competency" in able.columns else ["model"],
            how="left", maintain_order="left",
        ).select(pl.col("score").alias(f"score_{side}"), pl.col("error").alias(f"error_{side}"))
        for side in ("a", "b")
    ]  # fmt: skip
    gap = pl.col("score_a") - pl.col("score_b")
    doubt = options.deviate * (pl.col("error_a") ** 2 + pl.col("error_b") ** 2).sqrt()
    reason = (
        pl.when(gap.is_null())
        .then(pl.lit("competence unknown"))
        .when(gap.abs() <= doubt)
        .then(pl.lit("no real gap in competence"))
        .when(gap < 0)
        .then(pl.lit("chosen from the less able model"))
    )
    return pl.concat(sides, how="horizontal").select(reason.alias("dropped")).to_series()


def _ranked(rank: Mapping[str, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [(model, float(value), 0.0) for model, value in sorted(rank.items())],
        schema={"model": pl.String, "score": pl.Float64, "error": pl.Float64}, orient="row",
    )  # fmt: skip


def _profiled(context: PairingContext) -> pl.DataFrame:
    """Each model's mean score in each competency with its standard error, which an unknown one makes 0."""
    if context.scores is None:
        raise ParamsError(
            "params.yaml, curriculum.pairing: 'delta' compares profiles, and none were given. Add "
            "data/profile to the deps of stage curriculum and `--profile data/profile` to its command, or "
            "give curriculum.pairings.delta.rank."
        )
    known = context.scores.drop_nulls("score")
    return (
        known.sort("competency", "model", "task", "metric")
        .group_by("competency", "model", maintain_order=True)
        .agg(
            score=pl.col("score").mean(),
            error=(pl.col("stderr").fill_null(0.0) ** 2).sum().sqrt() / pl.len(),
        )
    )


@hookimpl
def karma_register_pairings() -> Sequence[Pairing]:
    """The pairing of this module."""
    return [Pairing(name="delta", options=DeltaOptions, pair=pair)]
