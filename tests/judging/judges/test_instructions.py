"""Judge `instructions`: agrees with lm-eval's checkers, and a checker that can't work is a failure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from karma_plugins.contracts import Answer, Verdict
from karma_plugins.judging.judges.instructions import InstructionsOptions, karma_register_judges, score
from karma_plugins.testing import JudgeContract, answers

pytest.importorskip("langdetect")
TEXTS = (
    "hello world, this is a plain answer.",
    "* This is the first point.\n* This is the second point.\n* And a third.",
    "<<A title>>\nHELLO THERE, DEAR READER",
    '```json\n{"a": 1}\n```',
    '"Ciao, come stai? Spero che tutto vada bene."',
    "Section 1\n*one* *two* *three*\nSection 2\nIs there anything else I can help with?",
)


CONSTRAINTS = '{"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}'


class TestContract(JudgeContract):
    plugin = karma_register_judges()[0]
    answers = tuple(
        replace(a, constraints=CONSTRAINTS) for a in answers(("Paris", "Well, Paris", "No.", "?"))
    )


def said(text: str, constraints: str | None, prompt: str = "Write.", **options: Any) -> Verdict:
    answer = Answer("r", "p", "m", [{"role": "user", "content": prompt}], text, constraints=constraints)
    return score([answer], InstructionsOptions(**options))[0]


def asked(*names: str, **arguments: Any) -> str:
    """The first instruction gets the arguments."""
    return json.dumps({"instruction_id_list": names, "kwargs": [arguments, *({} for _ in names[1:])]})


@pytest.mark.parametrize("check", ["strict", "loose"])
def test_agreement_with_lm_eval(shared_data: Path, check: str) -> None:
    found = []
    lines = (
        (shared_data / "ifeval" / "single_instruction_first40.jsonl").read_text(encoding="utf-8").splitlines()
    )
    for record in map(json.loads, lines):
        constraints = json.dumps({key: record[key] for key in ("instruction_id_list", "kwargs")})
        for text in TEXTS:
            ours = said(text, constraints, record["prompt"], check=check)
            from lm_eval.tasks.ifeval import utils

            test = getattr(utils, f"test_instruction_following_{check}")
            example = utils.InputExample(0, record["instruction_id_list"], record["prompt"], record["kwargs"])
            try:
                assert ours == Verdict(float(test(example, text).follow_all_instructions))
                found.append(ours.value)
            except LookupError:
                assert ours.status == "failed"
                assert "nltk" in str(ours.reason)
    assert len(found) >= 39 * len(TEXTS)
    assert 0.1 < sum(found) / len(found) < 0.9


def test_missing_language_data_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk

    said("warm up", asked("punctuation:no_comma"))
    monkeypatch.setattr(nltk.data, "path", [])
    name = "change_case:capital_word_frequency"
    found = said("ONE two.", asked(name, capital_relation="at least", capital_frequency=1))
    reason = f"nltk's language data is missing (python -m nltk.downloader punkt_tab): {name}"
    assert found == Verdict(None, "failed", reason)


def test_credit_for_a_part() -> None:
    both = asked("punctuation:no_comma", "change_case:english_lowercase")
    text = "All the words of this sentence are in English and there is no comma."
    assert said(text, both) == Verdict(0.5)
    assert said(text, both, credit="all") == Verdict(0.0)
    assert said(text.lower(), both, credit="all") == Verdict(1.0)


def test_loose_forgives_an_opening_line() -> None:
    only = asked("change_case:english_lowercase")
    text = "Sure, here it is:\nall of these words are in lower case and in english."
    assert said(text, only) == Verdict(0.0)
    assert said(text, only, check="loose") == Verdict(1.0)


@pytest.mark.parametrize(
    ("constraints", "status", "reason"),
    [
        (None, "skipped", "no constraints"),
        (" ", "skipped", "no constraints"),
        ("{", "failed", "constraints are not"),
        ('{"kwargs": []}', "failed", "constraints are not"),
        ('["punctuation:no_comma"]', "failed", "constraints are not"),
        ('{"instruction_id_list": [], "kwargs": []}', "failed", "constraints name no instruction"),
        ('{"instruction_id_list": ["a"], "kwargs": []}', "failed", "1 instructions with arguments for 0"),
        (
            json.dumps({"instruction_id_list": ["punctuation:no_comma"], "kwargs": ["none"]}),
            "failed",
            "the arguments of an instruction are str, no mapping",
        ),
        (asked("keywords:existence", keywords=["(open"]), "failed", "the checker failed: keywords:existence"),
        (asked("punctuation:no_koma"), "failed", "unknown instruction 'punctuation:no_koma'"),
        (asked("keywords:existence"), "failed", "instruction 'keywords:existence' lacks argument 'keywords'"),
        (
            asked("length_constraints:number_words", num_words=3, relation="about"),
            "failed",
            "the checker failed: length_",
        ),
    ],
)
def test_constraints_that_cannot_be_checked(constraints: str | None, status: str, reason: str) -> None:
    found = said("some answer", constraints)
    assert (found.value, found.status) == (None, status)
    assert str(found.reason).startswith(reason)


def test_the_language_found_is_always_the_same() -> None:
    only = asked("language:response_language", language="en")
    assert len({said("ok no si da", only) for _ in range(10)}) == 1
