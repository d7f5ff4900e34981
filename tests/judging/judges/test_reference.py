"""Judge `reference`: what counts as the known answer."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from karma_plugins.contracts import Answer, Verdict
from karma_plugins.judging.judges.reference import (
    ReferenceOptions,
    final_number,
    karma_register_judges,
    likeness,
    score,
)
from karma_plugins.testing import JudgeContract
from karma_plugins.texts import references


class TestContract(JudgeContract):
    plugin = karma_register_judges()[0]


def said(text: str, reference: str | None, **options: Any) -> float | Verdict:
    answer = Answer("r", "p", "m", [{"role": "user", "content": "?"}], text, reference=reference)
    return score([answer], ReferenceOptions(**options))[0]


@pytest.mark.parametrize(
    ("text", "reference", "options", "expected"),
    [
        ("LINA LINA", "LINA LINA", {}, 1.0),
        (" LINA\n LINA ", "LINA LINA", {}, 1.0),
        ("lina lina", "LINA LINA", {}, 0.0),
        ("lina lina", "LINA LINA", {"casefold": True}, 1.0),
        ("Paris.", "Paris", {}, 0.0),
        ("Paris.", "Paris", {"punctuation": False}, 1.0),
        ("ｆull", "full", {}, 1.0),
        (" Paris", "Paris", {"match": "exact"}, 0.0),
        ("Paris", "Paris", {"match": "exact"}, 1.0),
        ("42 apples", "42", {}, 0.0),
        ("It is 42 apples.", "42", {"match": "numeric"}, 1.0),
        ("no idea", "42", {"match": "numeric"}, 0.0),
    ],
)
def test_matching(text: str, reference: str, options: dict[str, Any], expected: float) -> None:
    assert said(text, reference, **options) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 and 4 make 7.", "7"),
        ("#### 1,234", "1234"),
        ("#### $1,234.50", "1234.5"),
        ("first #### 5, then\n#### 6 apples (of 9)", "6"),
        ("about 12.50%", "12.5"),
        ("a loss of -$30", "-30"),
        ("a loss of $-30", "-30"),
        ("10-5", "5"),
        ("it is −3", "-3"),
        (".5 or 0.50", "0.5"),
        (r"\$18.00", "18"),
        ("1,2345", "2345"),
        ("#### 3/4", "0.75"),
        ("it is -10/4", "-2.5"),
        ("2 1/2 cups", "2.5"),
        (r"\boxed{-\frac{3}{4}}", "-0.75"),
        (r"2\frac{1}{2}", "2.5"),
        ("5/0", "5"),
        ("1.5e-3", "0.0015"),
        ("2.5 × 10^3 m", "2500"),
        (r"6 \times 10^{-2}", "0.06"),
        ("1e5x", "5"),
        ("12,34,567", "1234567"),
        ("10\u202f000", "10000"),
        (r"1{,}234 or 1,\!235", "1235"),
        ("so 42.", "42"),
        ("#### Step 2\nThat makes 72 in 10 days, so 720", "720"),
        ("it is 5 ####", "5"),
        ("123456789012345678901234567890124", "123456789012345678901234567890124"),
        ("-123456789012345678901234567890124", "-123456789012345678901234567890124"),
    ],
)
def test_final_numbers(text: str, number: str) -> None:
    assert final_number(text) == Decimal(number)


def test_half_of_a_fraction_is_no_match() -> None:
    for wrong in ("1/4", "3/5", "4", "3"):
        assert said(f"It is {wrong}.", "3/4", match="numeric") == 0.0
        assert said(f"#### {wrong}", "3/4", match="numeric") == 0.0
    assert said("2e6", "1e6", match="numeric") == 0.0
    assert said("1,000,000", "1e6", match="numeric") == 1.0


def test_no_number_and_no_reference_are_no_scores() -> None:
    assert final_number("none at all") is None
    assert said("4", None) == Verdict(None, "skipped", "no reference")
    assert said("4", "  ") == Verdict(None, "skipped", "no reference")
    assert said("4", "four", match="numeric") == Verdict(None, "failed", "the reference holds no number")


def test_graded_gives_less_than_half_to_a_near_miss() -> None:
    near, far = said("LINA LINE", "LINA LINA", grade="graded"), said("xyz", "LINA LINA", grade="graded")
    assert far == 0.0
    assert near == pytest.approx(0.5 * 8 / 9)
    assert said("LINA LINA", "LINA LINA", grade="graded") == 1.0
    assert said("It is 41", "42", match="numeric", grade="graded") == pytest.approx(0.25)
    assert likeness("abc", "abc") == 1.0


def test_gsm8k(shared_data: Path) -> None:
    lines = (shared_data / "gsm8k" / "train_first300.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    assert len(answers) == 300
    for answer in answers:
        final = answer.rpartition("####")[2].strip()
        for reference in (answer, final):
            assert said(answer, reference, match="numeric") == 1.0
            for off in (-1, 1):
                wrong = str(int(final.replace(",", "")) + off)
                assert (
                    said(answer.replace(f"#### {final}", f"#### {wrong}"), reference, match="numeric") == 0.0
                )
                assert said(f"The answer is {wrong}.", reference, match="numeric") == 0.0
        for number in re.findall(r"\d[\d,]*(?:\.\d+)?", answer):
            for off in (-1, 1):
                other = Decimal(number.replace(",", "").rstrip(",")) + off
                right = float(other == Decimal(final.replace(",", "")))
                assert said(f"#### {other}", answer, match="numeric") == right
        # Without the mark, the last number is taken.
        assert said(re.sub(r"#### ", "So it is ", answer), final, match="numeric") == 1.0


FORMS = r"(?:= |\()?(.*?)(?: !|\) ok)?"


@pytest.mark.parametrize("text", ["Lina", "= Lina !", "(Lina) ok", "(Lina !", " = Lina !\n"])
def test_what_a_form_adds_is_taken_off(text: str) -> None:
    assert said(text, "Lina", extract=FORMS) == 1.0


def test_an_answer_that_the_pattern_does_not_fit_is_judged_as_it_is() -> None:
    assert said("Lina", "Lina", extract=r"The answer is (.*)\.") == 1.0
    assert said("The answer is Lina.", "Lina", extract=r"The answer is (.*)\.") == 1.0
    assert said("The answer is 7 of 9.", "7", match="numeric", extract=r"The answer is (\d+) of.*") == 1.0


@pytest.mark.parametrize(
    ("pattern", "wrong"), [("(", "is no regular expression"), ("a", "0 groups"), ("(a)(b)", "2 groups")]
)
def test_a_pattern_has_one_group(pattern: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        ReferenceOptions(extract=pattern)


# --- several right answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("Paris", "Paris"),
        (None, None),
        ("", None),
        (42, "42"),
        (float("nan"), None),
        (["Rome"], "Rome"),
        ([], None),
        ([1, 2.5, "x"], '{"any_of": ["1", "2.5", "x"]}'),
        (["Rome", "Roma", "Rome", " "], '{"any_of": ["Rome", "Roma"]}'),
        ({"value": "UK", "aliases": ["Britain", "UK"], "type": "x"}, '{"any_of": ["UK", "Britain"]}'),
        ({"text": ["in 1066", "1066"], "answer_start": [1, 4]}, '{"any_of": ["in 1066", "1066"]}'),
        ({"a": [1]}, '{"a": [1]}'),
        ([{"a": 1}], '[{"a": 1}]'),
    ],
)
def test_references_as_table_prompts_keeps_them(value: Any, stored: str | None) -> None:
    assert references.stored(value) == stored


@pytest.mark.parametrize(
    ("match", "reference", "text", "expected"),
    [
        ("normalised", ["Rome", "Roma"], "Roma", 1.0),
        ("normalised", ["Rome", "Roma"], "Paris", 0.0),
        ("exact", {"value": "UK", "aliases": ["Britain"]}, "Britain", 1.0),
        ("numeric", ["1/2", "0.25"], "so it is 0.25", 1.0),
        ("numeric", ["one", "2"], "2.0", 1.0),
        ("normalised", "[1, 2]", "1", 0.0),
        ("normalised", "[1, 2]", "[1, 2]", 1.0),
        ("normalised", '{"any_of": 5}', '{"any_of": 5}', 1.0),
    ],
)
def test_any_of_several_right_answers_matches(match: str, reference: Any, text: str, expected: float) -> None:
    stored = references.stored(reference)
    answer = Answer("r", "p", "m", [], text, reference=stored)
    assert score([answer], ReferenceOptions(match=match)) == [expected]


def test_the_most_alike_of_several_counts_in_grades() -> None:
    stored = references.stored(["completely other", "almost"])
    (value,) = score(
        [Answer("r", "p", "m", [], "almosd", reference=stored)], ReferenceOptions(grade="graded")
    )
    assert isinstance(value, float) and value > 0.4


def test_several_numbers_of_which_none_is_one() -> None:
    (verdict,) = score(
        [Answer("r", "p", "m", [], "1", reference=references.stored(["a", "b"]))],
        ReferenceOptions(match="numeric"),
    )
    assert isinstance(verdict, Verdict) and verdict.reason == "the reference holds no number"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\frac12", "0.5"),
        (r"\boxed{\frac12}", "0.5"),
        (r"\dfrac34", "0.75"),
        (r"\frac 1 2", "0.5"),
        (r"\frac{1}2", "0.5"),
        (r"\frac1{4}", "0.25"),
        (r"\frac{ 1 }{ 2 }", "0.5"),
        (r"-\frac12", "-0.5"),
        (r"2\frac12", "2.5"),
        (r"12\frac{1}{2}", "12.5"),
        (r"\tfrac{3}{8}", "0.375"),
        (r"\cfrac{10}{4}", "2.5"),
        ("½", "0.5"),
        ("2½", "2.5"),
        ("12¾", "12.75"),
        ("1⁄2", "0.5"),
        ("3∕4", "0.75"),
    ],
)
def test_fractions_as_people_and_latex_write_them(text: str, value: str) -> None:
    assert final_number(text) == Decimal(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.000.000", "1000000"),
        ("-1.234.567,89 €", "-1234567.89"),
        ("about 12.345.678.", "12345678"),
        ("1.000", "1.000"),
        ("1.2.3", "3"),  # a version: as ever the last that can be a number
        ("1.000.000.5", "0.5"),
    ],
)
def test_groups_parted_by_dots(text: str, value: str) -> None:
    assert final_number(text) == Decimal(value)
