"""Pairing `best-worst`: each prompt's best answer against its worst, as in UltraFeedback's binarised sets.

With `count: null` the best answer meets every other one, which are the pairs of Curri-DPO; with `against:
random` the rejected answer is any other, by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl
from pydantic import Field

from karma_plugins.contracts import Options, Pairing, PairingContext, hookimpl
from karma_plugins.curriculum.pairings import priority


class BestWorstOptions(Options):
    """Which answers the best one meets."""

    against: Literal["worst", "random"] = Field("worst", description="which of the others come first")
    count: int | None = Field(1, ge=1, description="how many others; null = all")


def pair(candidates: pl.DataFrame, context: PairingContext, options: BestWorstOptions) -> pl.DataFrame:
    """Eligible where `a` is the prompt's best answer and `b` among those it meets; noise parts equals."""
    rows = candidates.select("prompt_id", "response_a", "margin", "noise").with_row_index("row")
    widest = rows.sort("prompt_id", "margin", "noise", descending=[False, True, False])
    best = widest.unique("prompt_id", keep="first", maintain_order=True).select(
        "prompt_id", best="response_a"
    )
    mine = widest.join(best, on="prompt_id", maintain_order="left").filter(
        pl.col("response_a") == pl.col("best")
    )
    if options.against == "random":
        mine = mine.sort("prompt_id", "noise")
    if options.count is not None:
        mine = mine.filter(pl.int_range(pl.len()).over("prompt_id") < options.count)
    meets = pl.int_range(pl.len(), dtype=pl.UInt32).is_in(mine["row"].implode())
    reason = pl.when(~meets).then(pl.lit("not the best against the worst"))
    return candidates.with_columns(reason.alias("dropped"), priority("margin"))


@hookimpl
def karma_register_pairings() -> Sequence[Pairing]:
    """The pairing of this module."""
    return [Pairing(name="best-worst", options=BestWorstOptions, pair=pair)]
