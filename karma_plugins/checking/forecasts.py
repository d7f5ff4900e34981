"""What a run will ask of servers: requests, tokens and money, told from params and prompts alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from karma_plugins import generation, models, requesting
from karma_plugins.contracts import Answer, AnswerPair, Generator, Judge, Model
from karma_plugins.errors import RequestError
from karma_plugins.generation.generators.endpoint import EndpointOptions, chat_requests
from karma_plugins.judging.judges import llm_pairwise, llm_rubric
from karma_plugins.params import GenerateSection, JudgeEntry
from karma_plugins.registry import Bound
from karma_plugins.requesting.spending import CHARACTERS_PER_TOKEN, Ledger, Limits, Usage


@dataclass(frozen=True, slots=True)
class Expected:
    """What one stage will ask of one server at most, and how many of its answers are kept already."""

    endpoint: models.Endpoint
    limits: Limits
    usage: Usage
    kept: int = 0

    def __str__(self) -> str:
        """In words: requests, tokens and, where prices are stated, money."""
        usage, cost = self.usage, self.usage.cost(self.limits)
        kept = f" ({self.kept} more are kept)" if self.kept else ""
        answers = str(usage.completion_tokens) if usage.bounded else "any number of"
        price = f", cost at most {cost:.10g}" if cost is not None and usage.bounded else ""
        return (
            f"at most {usage.requests} requests to {self.endpoint.endpoint}{kept}, "
            f"{usage.prompt_tokens} prompt tokens and {answers} answer tokens{price}"
        )

    @property
    def excess(self) -> str | None:
        """Which cap this would break, null for none."""
        try:
            Ledger(self.limits).check(self.usage, when="in all")
        except RequestError as error:
            return str(error)
        return None


def candidate(
    model: Model, prompts: pl.DataFrame, generator: Bound[Generator], settings: GenerateSection
) -> Expected | None:
    """What a model behind an endpoint is still to be asked about these prompts; null for any other model."""
    options = generator.options
    if not isinstance(model.source, models.Endpoint) or not isinstance(options, EndpointOptions):
        return None
    asked = chat_requests(generation.plan(prompts, model.name, settings), options)
    found = requesting.forecast(model.source, asked, options.limits)
    return Expected(model.source, options.limits, found.usage, found.kept)


def judge(
    bound: Bound[Judge], entry: JudgeEntry, prompts: pl.DataFrame, lengths: Sequence[int]
) -> Expected | None:
    """What an LLM judge behind an endpoint will be asked about these prompts; null for any other judge.

    `lengths` are the most tokens of each answer to a prompt. All answers are taken to be as long as the
    longest and all models to be kin, and nothing to be kept.
    """
    options = bound.options
    if not isinstance(options, llm_rubric.LlmRubricOptions | llm_pairwise.LlmPairwiseOptions):
        return None
    source = models.load(bound.name, options.model, where=f"judge '{bound.name}', option 'model'").source
    if not isinstance(source, models.Endpoint):
        return None
    text = "x" * (max(lengths, default=0) * CHARACTERS_PER_TOKEN)
    rows = prompts.select("prompt_id", "messages", "reference").iter_rows(named=True)
    answers = (Answer(response_id="", model="", text=text, **row) for row in rows)
    if isinstance(options, llm_rubric.LlmRubricOptions):
        usage = llm_rubric.usage(answers, options) * len(lengths)
    else:
        pairs = entry.pairs_of(len(lengths)) * (2 if entry.both_orders else 1)
        usage = llm_pairwise.usage((AnswerPair(a, a) for a in answers), options) * pairs
    return Expected(source, options.limits, usage)
