"""Pairing `target-kin`: answers of kin of the model that will be trained (`curriculum.target`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import polars as pl
from pydantic import Field

from karma_plugins.contracts import Options, Pairing, PairingContext
from karma_plugins.curriculum.pairings import Preference, priority
from karma_plugins.errors import ParamsError, did_you_mean
from karma_plugins.hookspecs import hookimpl


class TargetKinOptions(Options):
    """How near to the target both models must be, and which pairs come first.

    `prefer: kinship` takes the pairs first whose less alike model is nearest to the target.
    """

    radius: Annotated[float, Field(ge=0, le=1)] = 0.2
    prefer: Preference = "margin"


def pair(candidates: pl.DataFrame, context: PairingContext, options: TargetKinOptions) -> pl.DataFrame:
    """Eligible where both models' kinship with the target is >= 1 - radius; the target itself is its own kin.

    Raises ParamsError where no target is named, or it is no candidate.
    """
    kinship = _to_target(context)
    single = kinship["competency"].null_count() == kinship.height
    found = candidates.select("competency", "model_a", "model_b")
    for side in ("a", "b"):
        keys = [f"model_{side}"] if single else ["competency", f"model_{side}"]
        near = kinship.rename({"model": f"model_{side}", "kinship": side})
        found = found.join(
            near.drop("competency") if single else near, on=keys, how="left", maintain_order="left"
        )
    nearness = found.select(
        pl.when(pl.col("a").is_not_null() & pl.col("b").is_not_null()).then(pl.min_horizontal("a", "b"))
    ).to_series()
    rules = (
        pl.when(nearness.is_null())
        .then(pl.lit("kinship to target unknown"))
        .when(nearness < 1 - options.radius - 1e-12)
        .then(pl.lit("beyond radius of target"))
    )
    order = (-nearness).alias("priority") if options.prefer == "kinship" else priority(options.prefer)
    return candidates.with_columns(rules.alias("dropped"), order)


def _to_target(context: PairingContext) -> pl.DataFrame:
    """Each model's kinship with the target by competency (null = overall): competency, model, kinship."""
    target = context.target
    if target is None:
        raise ParamsError(
            "params.yaml, curriculum.target: pairing 'target-kin' needs the candidate to be trained."
        )
    rows = context.kinship.select("competency", "model_a", "model_b", "kinship")
    mirrored = rows.select("competency", model_a="model_b", model_b="model_a", kinship="kinship")
    both = pl.concat([rows, mirrored])
    known = both["model_a"].unique().sort().to_list()
    if target not in known:
        raise ParamsError(
            f"params.yaml, curriculum.target: '{target}' is no candidate.{did_you_mean(target, known)} "
            f"Candidates: {', '.join(known)}."
        )
    others = both.filter(pl.col("model_a") == target).select("competency", model="model_b", kinship="kinship")
    itself = others.select("competency", model=pl.lit(target), kinship=pl.lit(1.0)).unique()
    return pl.concat([others, itself])


@hookimpl
def karma_register_pairings() -> Sequence[Pairing]:
    """The pairing of this module."""
    return [Pairing(name="target-kin", options=TargetKinOptions, pair=pair)]
