"""Judge `llm-pairwise`: a language model says which of two answers is better, in both orders by default."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import karma_plugins.judging.llm as llm
from karma_plugins.contracts import AnswerPair, Expected, Judge, Verdict, hookimpl
from karma_plugins.judging.quotation import case_number, quoted
from karma_plugins.judging.templates import Form, Template

FORM = Form("pairwise.md", needed=("case", "conversation", "first", "second", "reply"))
WINNERS: Mapping[str, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}


class LlmPairwiseOptions(llm.LlmOptions):
    """Options of judge `llm-pairwise`."""


def compare(pairs: Sequence[AnswerPair], options: LlmPairwiseOptions) -> list[Verdict]:
    """For each pair, 1 where the first answer is the winner, 0 where the second is, 0.5 for a tie."""
    template = FORM.read(options.template)
    schema = llm.schema_of(winner={"type": "string", "enum": list(WINNERS)})
    return llm.judged([question(pair, template) for pair in pairs], options, schema, _winner)


def usage(pairs: Iterable[AnswerPair], times: int, options: LlmPairwiseOptions) -> Expected | None:
    """What comparing these pairs in the order given, each so many times, would ask of a server at most; asks
    nothing.
    """
    template = FORM.read(options.template)
    return llm.usage((question(pair, template) for pair in pairs), times, options)


def question(pair: AnswerPair, template: Template) -> llm.Question:
    """What is asked about one pair, in the order given."""
    shown = llm.conversation(pair.a)
    case = case_number(shown, pair.a.text, pair.b.text, pair.a.reference or "")
    values = {
        "case": case,
        "conversation": quoted("CONVERSATION", shown, case),
        "reference": llm.reference(pair.a, case),
        "first": quoted("FIRST ANSWER", pair.a.text, case),
        "second": quoted("SECOND ANSWER", pair.b.text, case),
        "reply": json.dumps({llm.CASE: case, "winner": "..."}),
    }
    return llm.Question(case, template.filled(values))


def _winner(verdict: Mapping[str, Any]) -> float:
    winner = verdict["winner"]
    if not isinstance(winner, str) or winner not in WINNERS:
        raise llm.UnreadableError(f"the winner is none of {', '.join(WINNERS)}")
    return WINNERS[winner]


@hookimpl
def karma_register_judges() -> Sequence[Judge]:
    """Register judge `llm-pairwise`."""
    return [
        Judge(
            name="llm-pairwise", options=LlmPairwiseOptions, compare=compare, usage=usage,
            reads=partial(llm.reads, FORM), keeps_shards=llm.keeps_shards,
        )
    ]  # fmt: skip
