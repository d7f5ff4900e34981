"""Pairing `random`: any two answers, by chance alone."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from karma_plugins.contracts import Options, Pairing, PairingContext, hookimpl
from karma_plugins.curriculum.pairings import priority


def pair(candidates: pl.DataFrame, context: PairingContext, options: Options) -> pl.DataFrame:
    """Every candidate is eligible; noise decides which are taken."""
    return candidates.with_columns(pl.lit(None, pl.String).alias("dropped"), priority("chance"))


@hookimpl
def karma_register_pairings() -> Sequence[Pairing]:
    """The pairing of this module."""
    return [Pairing(name="random", pair=pair)]
