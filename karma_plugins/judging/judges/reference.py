"""Judge `reference`: checks an answer against the known one, as a text or as a number."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from difflib import SequenceMatcher
from typing import Literal

from pydantic import Field, field_validator

from karma_plugins.contracts import Answer, Judge, Options, Verdict, hookimpl
from karma_plugins.texts.references import accepted

DIGITS = r"(?:(?:\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+)"
#: A number as people and models write it: sign (a minus that follows a word or a bracket is none), thousands
#: separators or not, then maybe a power of ten, or what it is divided by, also as in `2 1/2`.
NUMBER = rf"""
    (?P<sign>(?<![\w)\].])[-−–])?
    (?:(?P<whole>\d+)\ (?=\d+/\d))?
    (?P<above>{DIGITS})
    (?:e(?P<power>[-−+]?\d{{1,4}})(?!\w)
      |\s?(?:[×x*]|\\times|\\cdot)\s?10(?:\^|\*\*)\{{?(?P<times>[-−]?\d{{1,4}})(?!\d)
      |\s?/\s?(?P<below>{DIGITS})(?!\s?/)
    )?
"""
LAST = re.compile(NUMBER, re.VERBOSE | re.IGNORECASE)
#: The final answer of GSM8K's worked solutions (Cobbe et al. 2021); a mark before words is a mere heading.
MARKED = re.compile(rf"\#\#\#\#\s*{NUMBER}", re.VERBOSE | re.IGNORECASE)
CURRENCY = re.compile(r"\\?[$€£¥₹]\s?")
#: Thousands separators other than a comma: LaTeX's, and the spaces that do not break.
SEPARATOR = re.compile(r"\{,\}|,\\!|\\,|(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
#: Groups of three parted by dots, two or more, which no decimal point is; then a comma is one: 1.234.567,8.
DOTTED = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?!\d|\.\d)(?:,\d+(?![\d,]|\.\d))?")
#: LaTeX's fractions; an argument without braces is a single digit: `\frac12` is a half, `\frac123` is 1/2,
#: then 3.
ARGUMENT = r"\s*(?:\{{\s*(?P<{0}>[-−]?[\d.,]+)\s*\}}|(?P<{0}_digit>\d))"
LATEX_FRACTION = re.compile(
    rf"(?P<whole>\d+\s?)?\\[dtc]?frac{ARGUMENT.format('above')}{ARGUMENT.format('below')}(?P<after>\d?)"
)
#: Characters that are fractions by themselves (½), and the two slashes of fractions.
VULGAR = re.compile("(?P<whole>\\d)?(?P<sign>[\u00bc-\u00be\u2150-\u215e])")
SLASHES = str.maketrans({"\u2044": "/", "\u2215": "/"})


class ReferenceOptions(Options):
    """Options of judge `reference`."""

    match: Literal["exact", "normalised", "numeric"] = Field(
        "normalised",
        description="exact: the very text; normalised: up to white space (and as below); numeric: the number",
    )
    casefold: bool = Field(False, description="normalised: upper and lower case are the same")
    punctuation: bool = Field(True, description="normalised: punctuation counts")
    extract: str | None = Field(
        None,
        description="regular expression of whole answers whose group is what is judged, without the form "
        "around it; an answer that it does not fit is judged as it is",
    )
    grade: Literal["exact", "graded"] = Field(
        "exact", description="graded: half of its likeness to the reference for an answer that does not match"
    )

    @field_validator("extract")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern, re.DOTALL).groups
            except re.error as error:
                raise ValueError(f"is no regular expression ({error})") from error
            if groups != 1:
                raise ValueError(f"has {groups} groups; put what is judged in the only one")
        return pattern


def score(answers: Sequence[Answer], options: ReferenceOptions) -> list[float | Verdict]:
    """1 for a match; else 0, or half the share of characters in common where `grade` is `graded`.

    Of several right answers the best match counts.
    """
    return [_score(answer, options) for answer in answers]


def _score(answer: Answer, options: ReferenceOptions) -> float | Verdict:
    if answer.reference is None or not answer.reference.strip():
        return Verdict(None, "skipped", "no reference")
    text, known = content(answer.text, options.extract), accepted(answer.reference)
    if options.match == "numeric":
        known = [str(number) for text in known if (number := final_number(text)) is not None]
        if not known:
            return Verdict(None, "failed", "the reference holds no number")
        number = final_number(text)
        if number is not None and any(number == Decimal(one) for one in known):
            return 1.0
        given = "" if number is None else str(number)
    else:
        given, known = _normal(text, options), [_normal(one, options) for one in known]
    return max(_matched(given, one, options) for one in known)


def _matched(given: str, known: str, options: ReferenceOptions) -> float:
    if given == known and options.match != "numeric":
        return 1.0
    return 0.0 if options.grade == "exact" else 0.5 * likeness(given, known)


def content(text: str, pattern: str | None) -> str:
    """What an answer says without the form around it: the only group of a pattern that fits all of it."""
    whole = None if pattern is None else re.fullmatch(pattern, text.strip(), re.DOTALL)
    return text if whole is None or whole[1] is None else whole[1]


def final_number(text: str) -> Decimal | None:
    """The number after the last `####`, or else the last number of a text; null where there is none.

    Thousands separators, currency and per cent signs, and zeros after the decimals make no difference;
    `3/4`, `7.5e-1` and `0.75` are the same.
    """
    text = DOTTED.sub(_undotted, SEPARATOR.sub(",", CURRENCY.sub("", text)))
    text = LATEX_FRACTION.sub(_plain_fraction, VULGAR.sub(_written_out, text)).translate(SLASHES)
    matches = [*MARKED.finditer(text)] or [*LAST.finditer(text)]
    return _value(matches[-1].groupdict()) if matches else None


def _undotted(match: re.Match[str]) -> str:
    return match[0].replace(".", "").replace(",", ".")


def _plain_fraction(match: re.Match[str]) -> str:
    whole = f"{match['whole'].strip()} " if match["whole"] else ""
    above, below = (match[side] or match[f"{side}_digit"] for side in ("above", "below"))
    after = f" {match['after']}" if match["after"] else ""
    return f"{whole}{above}/{below}{after}"


def _written_out(match: re.Match[str]) -> str:
    whole = f"{match['whole']} " if match["whole"] else ""
    return whole + unicodedata.normalize("NFKC", match["sign"])


def _value(parts: Mapping[str, str | None]) -> Decimal:
    # Built from digits where it can be: arithmetic would round a number of more than 28 of them.
    value = Decimal(f"{_digits(parts['above'])}e{_digits(parts['power'] or parts['times'])}")
    if parts["below"] and (below := Decimal(_digits(parts["below"]))):
        value = value / below + Decimal(_digits(parts["whole"]))
    return value.copy_negate() if parts["sign"] else value


def _digits(text: str | None) -> str:
    return (text or "0").replace(",", "").replace("−", "-")


def _normal(text: str, options: ReferenceOptions) -> str:
    if options.match == "exact":
        return text
    text = unicodedata.normalize("NFKC", text)
    if not options.punctuation:
        text = "".join(" " if unicodedata.category(c).startswith("P") else c for c in text)
    text = " ".join(text.split())
    return text.casefold() if options.casefold else text


def likeness(text: str, other: str) -> float:
    """Share of characters in common, in order, of two texts (Ratcliff, Obershelp 1988), in [0, 1]."""
    return SequenceMatcher(None, text, other, autojunk=False).ratio()


@hookimpl
def karma_register_judges() -> Sequence[Judge]:
    """Register judge `reference`."""
    return [Judge(name="reference", options=ReferenceOptions, score=score)]
