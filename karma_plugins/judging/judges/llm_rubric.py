"""Judge `llm-rubric`: a language model rates each answer from 1 to 5 on some aspects, in UltraFeedback's
manner.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import Field, field_validator

import karma_plugins.judging.llm as llm
from karma_plugins.contracts import Answer, Expected, Judge, Verdict, hookimpl
from karma_plugins.judging.quotation import case_number, quoted
from karma_plugins.judging.templates import Form, Template

FORM = Form("rubric.md", needed=("case", "aspects", "conversation", "answer", "reply"))
LOWEST, HIGHEST = 1, 5
#: The four aspects of UltraFeedback (Cui et al. 2023), in our words.
ASPECTS: Mapping[str, str] = {
    "instruction_following": "it does what was asked, all of it, in the form that was asked for",
    "truthfulness": "what it states is true, and agrees with what was given",
    "honesty": "it says how sure it is, and no more than it knows",
    "helpfulness": "it is of use to the person who asked: relevant, complete, clear",
}


class LlmRubricOptions(llm.LlmOptions):
    """Options of judge `llm-rubric`."""

    aspects: dict[str, str] = Field(
        default=dict(ASPECTS), min_length=1, description="what is rated: name -> what it means"
    )

    @field_validator("aspects")
    @classmethod
    def _no_case(cls, aspects: dict[str, str]) -> dict[str, str]:
        if llm.CASE in aspects:
            raise ValueError(f"an aspect can't be called '{llm.CASE}'")
        return aspects


def score(answers: Sequence[Answer], options: LlmRubricOptions) -> list[Verdict]:
    """The mean of the aspects' ratings, from 0 (all 1) to 1 (all 5)."""
    template = FORM.read(options.template)
    rating = {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}
    schema = llm.schema_of(**dict.fromkeys(options.aspects, rating))
    questions = [question(answer, options, template) for answer in answers]
    return llm.judged(questions, options, schema, lambda verdict: _score(verdict, list(options.aspects)))


def usage(answers: Iterable[Answer], times: int, options: LlmRubricOptions) -> Expected | None:
    """What scoring these answers, each so many times, would ask of a server at most; asks nothing."""
    template = FORM.read(options.template)
    return llm.usage((question(answer, options, template) for answer in answers), times, options)


def question(answer: Answer, options: LlmRubricOptions, template: Template) -> llm.Question:
    """What is asked about one answer."""
    shown = llm.conversation(answer)
    case = case_number(shown, answer.text, answer.reference or "")
    values = {
        "case": case,
        "aspects": "\n".join(f"- {name}: {meaning}" for name, meaning in options.aspects.items()),
        "conversation": quoted("CONVERSATION", shown, case),
        "reference": llm.reference(answer, case),
        "answer": quoted("ANSWER", answer.text, case),
        "reply": json.dumps({llm.CASE: case} | dict.fromkeys(options.aspects, "a number from 1 to 5")),
    }
    return llm.Question(case, template.filled(values))


def _score(verdict: Mapping[str, Any], aspects: Sequence[str]) -> float:
    ratings = []
    for aspect in aspects:
        rating = verdict[aspect]
        # 4.0 is an integer to a JSON schema, and what some servers write.
        whole = isinstance(rating, int | float) and not isinstance(rating, bool) and rating == rating // 1
        if not whole or not LOWEST <= rating <= HIGHEST:
            raise llm.UnreadableError(
                f"the rating of '{aspect}' is no whole number from {LOWEST} to {HIGHEST}"
            )
        ratings.append((float(rating) - LOWEST) / (HIGHEST - LOWEST))
    return sum(ratings) / len(ratings)


@hookimpl
def karma_register_judges() -> Sequence[Judge]:
    """Register judge `llm-rubric`."""
    return [
        Judge(
            name="llm-rubric", options=LlmRubricOptions, score=score, usage=usage,
            reads=partial(llm.reads, FORM), keeps_shards=llm.keeps_shards,
        )
    ]  # fmt: skip
