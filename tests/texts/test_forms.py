"""Forms of answers, told apart from what they say."""

from __future__ import annotations

import polars as pl
import pytest

from karma_plugins.texts import forms

PATTERNS = {"equals": "= .* !", "brackets": r"\(.*\) ok", "plain": r"(?!= |\().*(?<! !)(?<!\) ok)"}


def test_the_first_form_that_fits_counts_and_a_mixture_is_none() -> None:
    texts = pl.Series(["= a !", "(b) ok", "c", "(d !", None, " = e ! "])
    assert forms.named(texts, PATTERNS).to_list() == ["equals", "brackets", "plain", "other", None, "equals"]


def test_the_report_says_how_far_the_form_of_the_base_was_kept() -> None:
    base, aligned = pl.Series(["a", "b", "(c) ok", None]), pl.Series(["a", "= b !", "(c !", "dd"])
    told = forms.report(base, aligned, PATTERNS)
    assert told["usual"] == "plain"
    assert told["share"]["base"]["plain"] == pytest.approx(2 / 3)
    assert told["kept"] == 0.5
    assert told["share"]["aligned"]["other"] == 0.25
    assert told["characters"] == {"base": pytest.approx(8 / 3), "aligned": 3.0}
    assert "in the base's form (plain): 0.667" in forms.sentence(told)


def test_without_patterns_only_lengths_are_told() -> None:
    told = forms.report(pl.Series(["aa"]), pl.Series(["a"]), {})
    assert told == {"characters": {"base": 2.0, "aligned": 1.0}}
    assert forms.sentence(told) == "base and aligned: length 2.0 and 1.0 characters"
