"""Pairing `target-kin`: answers of kin of the model that will be trained (`curriculum.target`)."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from pydantic import Field

from karma_plugins.contracts import Pairing, PairingContext, hookimpl
from karma_plugins.curriculum import nearness
from karma_plugins.curriculum.nearness import ActingNearness
from karma_plugins.curriculum.pairings import Preference, priority
from karma_plugins.errors import ParamsError, did_you_mean

#: The reasons of `nearness`, about the target.
OF_TARGET = {
    nearness.UNKNOWN: "kinship to target unknown",
    nearness.BEYOND: "beyond radius of target",
    nearness.FARTHER: "not among the target's nearest",
    nearness.STRANGER: "not of the target's family",
}


class TargetKinOptions(ActingNearness):
    """How near to the target both models must be, and which pairs come first.

    `prefer: kinship` takes the pairs first whose less alike model is nearest to the target. Rules in `also`
    are about the two models of a pair.
    """

    prefer: Preference = Field(
        "margin", description="which pairs come first: margin (the widest), kinship (the nearest) or chance"
    )


def pair(candidates: pl.DataFrame, context: PairingContext, options: TargetKinOptions) -> pl.DataFrame:
    """Eligible where both models are near to the target by every rule; the target itself is its own kin.

    Raises ParamsError where no target is named, or it is no candidate.
    """
    target = named_target(context, "target-kin")
    seen = nearness.acting(context, options).filter(pl.col("model_a") == target)
    sides = [seen_from_target(candidates, seen, side) for side in ("a", "b")]
    reasons = [side["far"] for side in sides]
    rated = candidates.with_columns(
        nearness.first_reason([*reasons, *nearness.other_rules(candidates, context, options.also)]).alias(
            "dropped"
        )
    )
    if options.prefer != "kinship":
        return rated.with_columns(priority(options.prefer))
    nearness_of_less = pl.DataFrame({"a": sides[0]["relative"], "b": sides[1]["relative"]}).select(
        pl.when(pl.all_horizontal(pl.all().is_not_null())).then(pl.min_horizontal(pl.all()))
    )
    return rated.with_columns((-nearness_of_less.to_series()).alias("priority"))


def named_target(context: PairingContext, pairing: str) -> str:
    """The candidate to be trained; ParamsError where none is named, or it is no candidate."""
    target = context.target
    if target is None:
        raise ParamsError(
            f"params.yaml, curriculum.target: pairing '{pairing}' needs the candidate to be trained."
        )
    known = sorted({*context.kinship["model_a"], *context.kinship["model_b"]})
    if target not in known:
        raise ParamsError(
            f"params.yaml, curriculum.target: '{target}' is no candidate.{did_you_mean(target, known)} "
            f"Candidates: {', '.join(known)}."
        )
    return target


def seen_from_target(candidates: pl.DataFrame, seen: pl.DataFrame, side: str) -> pl.DataFrame:
    """Of the model on one side of each candidate: `far` from the target and why, and its relative kinship."""
    keys = candidates.select("competency", model_b=f"model_{side}")
    on = ["model_b"] if seen["competency"].null_count() == seen.height else ["competency", "model_b"]
    joined = keys.join(
        seen.select(*on, "far", "relative", known=pl.lit(value=True)),
        on=on, how="left", maintain_order="left",
    )  # fmt: skip
    reason = pl.when(pl.col("known").is_null()).then(pl.lit(nearness.UNKNOWN)).otherwise("far")
    return joined.select(reason.replace(OF_TARGET).alias("far"), "relative")


@hookimpl
def karma_register_pairings() -> Sequence[Pairing]:
    """The pairing of this module."""
    return [Pairing(name="target-kin", options=TargetKinOptions, pair=pair)]
