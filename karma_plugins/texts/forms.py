"""Forms of answers: how a text is dressed, whatever it says, told by patterns that a user names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import polars as pl

#: Answers that no pattern fits.
OTHER = "other"


def named(texts: pl.Series, forms: Mapping[str, str]) -> pl.Series:
    """The form of each text (null for null): the first whose regular expression fits it, or `other`."""
    patterns = [(name, re.compile(pattern, re.DOTALL)) for name, pattern in forms.items()]
    matches = [
        None
        if text is None
        else next((name for name, pattern in patterns if pattern.fullmatch(text.strip())), OTHER)
        for text in texts.to_list()
    ]
    return pl.Series("form", matches, dtype=pl.String)


def report(base: pl.Series, aligned: pl.Series, forms: Mapping[str, str]) -> dict[str, Any]:
    """How the answers of two models are dressed: mean characters and, where forms are named, shares of each.

    `kept` is the share of aligned answers in the form that most answers of the base have. Answers that are
    missing are left out.
    """
    sides = {"base": base.drop_nulls(), "aligned": aligned.drop_nulls()}
    figures: dict[str, Any] = {
        "characters": {side: texts.str.len_chars().mean() for side, texts in sides.items()}
    }
    if not forms:
        return figures
    shares = {}
    for side, texts in sides.items():
        counts = dict(named(texts, forms).value_counts().iter_rows())
        total = max(1, sum(counts.values()))
        shares[side] = {name: counts.get(name, 0) / total for name in [*forms, OTHER]}
    usual = max(shares["base"], key=lambda name: shares["base"][name])
    return figures | {"share": shares, "usual": usual, "kept": shares["aligned"][usual]}


def sentence(figures: Mapping[str, Any]) -> str:
    """The report in a line."""
    length = "length {base:.1f} and {aligned:.1f} characters".format(
        **{side: mean or 0.0 for side, mean in figures["characters"].items()}
    )
    if "usual" not in figures:
        return f"base and aligned: {length}"
    usual = figures["usual"]
    return (
        f"in the base's form ({usual}): {figures['share']['base'][usual]:.3f} of the base's answers, "
        f"{figures['kept']:.3f} of the aligned ones; {length}"
    )
