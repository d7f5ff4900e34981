"""Pairing `kin`: answers of models that are alike, within a radius, among the nearest, or of one family."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from pydantic import Field

from karma_plugins.contracts import Pairing, PairingContext, hookimpl
from karma_plugins.curriculum import nearness
from karma_plugins.curriculum.nearness import ActingNearness
from karma_plugins.curriculum.pairings import Preference, priority


class KinOptions(ActingNearness):
    """How near kin must be, and which of them come first."""

    prefer: Preference = Field(
        "margin", description="which pairs come first: margin (the widest), kinship (the nearest) or chance"
    )
    same_model: bool = Field(True, description="two samples of one model may be a pair")


def pair(candidates: pl.DataFrame, context: PairingContext, options: KinOptions) -> pl.DataFrame:
    """Eligible where both models are near by every rule; unknown kinship is never eligible."""
    one = pl.col("model_a") == pl.col("model_b")
    same = pl.when(pl.lit(not options.same_model) & one).then(pl.lit("same model"))
    reasons = [
        candidates.select(same).to_series(),
        nearness.between(candidates, nearness.acting(context, options)),
        *nearness.other_rules(candidates, context, options.also),
    ]
    return candidates.with_columns(nearness.first_reason(reasons).alias("dropped"), priority(options.prefer))


@hookimpl
def karma_register_pairings() -> Sequence[Pairing]:
    """The pairing of this module."""
    return [Pairing(name="kin", options=KinOptions, pair=pair)]
