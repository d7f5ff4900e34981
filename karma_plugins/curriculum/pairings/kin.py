"""Pairing `kin`: answers of models that are alike, within a radius or among the nearest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import polars as pl
from pydantic import Field

from karma_plugins.contracts import Options, Pairing, PairingContext
from karma_plugins.curriculum.pairings import Preference, priority
from karma_plugins.hookspecs import hookimpl


class KinOptions(Options):
    """How near kin must be, and which of them come first."""

    radius: Annotated[float, Field(ge=0, le=1)] = 0.2
    nearest: int | None = Field(
        None, ge=1, description="only each answer's so many nearest kin, within the radius"
    )
    prefer: Preference = "margin"
    same_model: bool = Field(True, description="two samples of one model may be a pair")


def pair(candidates: pl.DataFrame, context: PairingContext, options: KinOptions) -> pl.DataFrame:
    """Eligible where kinship >= 1 - radius; unknown kinship is never eligible."""
    kinship = pl.col("kinship")
    rules = (
        pl.when(kinship.is_null())
        .then(pl.lit("kinship unknown"))
        .when(pl.lit(not options.same_model) & (pl.col("model_a") == pl.col("model_b")))
        .then(pl.lit("same model"))
        .when(kinship < 1 - options.radius - 1e-12)
        .then(pl.lit("beyond radius"))
    )
    found = candidates.with_columns(rules.alias("dropped"), priority(options.prefer))
    return _nearest(found, options.nearest) if options.nearest is not None else found


def _nearest(candidates: pl.DataFrame, count: int) -> pl.DataFrame:
    """Drop pairs where neither answer is among the nearest that the other can be paired with."""
    rows = candidates.with_row_index("row").filter(pl.col("dropped").is_null())
    sides = pl.concat(
        rows.select("row", "kinship", "noise", answer=f"response_{side}") for side in ("a", "b")
    ).sort("answer", pl.col("kinship"), "noise", descending=[False, True, False])
    place = pl.int_range(pl.len()).over("answer")
    near = sides.filter(place < count)["row"].unique()
    far = pl.col("dropped").is_null() & ~pl.int_range(pl.len(), dtype=pl.UInt32).is_in(near.implode())
    return candidates.with_columns(
        pl.when(far).then(pl.lit("not among the nearest")).otherwise("dropped").alias("dropped")
    )


@hookimpl
def karma_register_pairings() -> Sequence[Pairing]:
    """The pairing of this module."""
    return [Pairing(name="kin", options=KinOptions, pair=pair)]
