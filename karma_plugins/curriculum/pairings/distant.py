"""Pairing `distant`: answers of models that are not alike, the counterpart of `kin` in a comparison."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from pydantic import Field

from karma_plugins.contracts import Options, Pairing, PairingContext, hookimpl
from karma_plugins.curriculum.pairings import Preference, priority


class DistantOptions(Options):
    """How far apart two models must be, and which pairs come first (`prefer: kinship`: the most distant)."""

    radius: float = Field(0.2, ge=0, le=1, description="1 - kinship must be more than this")
    prefer: Preference = Field(
        "margin",
        description="which pairs come first: margin (the widest), kinship (the most distant) or chance",
    )


def pair(candidates: pl.DataFrame, context: PairingContext, options: DistantOptions) -> pl.DataFrame:
    """Eligible where kinship < 1 - radius, just where `kin` is not; unknown kinship is never eligible."""
    kinship = pl.col("kinship")
    rules = (
        pl.when(kinship.is_null())
        .then(pl.lit("kinship unknown"))
        .when(kinship >= 1 - options.radius - 1e-12)
        .then(pl.lit("within radius"))
    )
    order = kinship.alias("priority") if options.prefer == "kinship" else priority(options.prefer)
    return candidates.with_columns(rules.alias("dropped"), order)


@hookimpl
def karma_register_pairings() -> Sequence[Pairing]:
    """The pairing of this module."""
    return [Pairing(name="distant", options=DistantOptions, pair=pair)]
