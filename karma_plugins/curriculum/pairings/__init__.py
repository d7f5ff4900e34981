"""Built-in pairings, one a module: which pairs of answers are eligible, and which come first."""

from __future__ import annotations

from typing import Literal, TypeAlias

import polars as pl

#: What comes first where there is room for some pairs only; chance decides between equals.
Preference: TypeAlias = Literal["margin", "kinship", "chance"]


def priority(prefer: Preference) -> pl.Expr:
    """Column `priority` (the lowest first): widest margin, nearest kin, or chance alone."""
    by = {"margin": -pl.col("margin"), "kinship": -pl.col("kinship"), "chance": pl.col("noise")}
    return by[prefer].alias("priority")
