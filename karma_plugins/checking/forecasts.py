"""What a run will ask of paid servers: requests, tokens and money, as the plugins themselves expect it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import polars as pl

from karma_plugins import generation
from karma_plugins.contracts import Answer, AnswerPair, Expected, Generator, Judge, Model
from karma_plugins.errors import KarmaError, PluginError
from karma_plugins.params import GenerateSection, JudgeEntry
from karma_plugins.registry import Bound

#: Characters to a token, on the low side: a forecast must rather be too high.
CHARACTERS_PER_TOKEN = 3


def candidate(
    model: Model, prompts: pl.DataFrame, generator: Bound[Generator], settings: GenerateSection
) -> Expected | None:
    """What a model's server is still to be asked about these prompts; null where nothing is to be paid.

    Raises PluginError where the generator's `usage` fails.
    """
    usage = generator.plugin.usage
    if usage is None:
        return None
    return _expected(
        generator, usage, model, generation.plan(prompts, model.name, settings), generator.options
    )


def judge(
    bound: Bound[Judge], entry: JudgeEntry, prompts: pl.DataFrame, lengths: Sequence[int]
) -> list[Expected]:
    """What a judge's server will be asked about these prompts, to score and to compare; none if it is free.

    `lengths` are the most tokens of each answer to a prompt. All answers are taken to be as long as the
    longest and all models to be kin, and nothing to be kept. Raises PluginError where its `usage` fails.
    """
    plugin, usage = bound.plugin, bound.plugin.usage
    if usage is None:
        return []
    text = "x" * (max(lengths, default=0) * CHARACTERS_PER_TOKEN)

    def answers() -> Iterator[Answer]:
        rows = prompts.select("prompt_id", "messages", "competency", "reference", "constraints")
        for row in rows.iter_rows(named=True):
            yield Answer(response_id="", model="", text=text, **row)

    expected: list[Expected | None] = []
    if plugin.score is not None:
        expected.append(_expected(bound, usage, answers(), len(lengths), bound.options))
    if plugin.compare is not None:
        pairs = entry.pairs_of(len(lengths)) * (2 if entry.both_orders else 1)
        twins = (AnswerPair(answer, answer) for answer in answers())
        expected.append(_expected(bound, usage, twins, pairs, bound.options))
    return [one for one in expected if one is not None]


def in_words(expected: Expected) -> str:
    """Requests, tokens and, where prices are known, money."""
    tokens = expected.completion_tokens
    kept = f" ({expected.kept} more are kept)" if expected.kept else ""
    price = f", cost at most {expected.cost:.10g}" if expected.cost is not None and tokens is not None else ""
    return (
        f"at most {expected.requests} requests to {expected.server}{kept}, {expected.prompt_tokens} prompt "
        f"tokens and {'any number of' if tokens is None else tokens} answer tokens{price}"
    )


def _expected(bound: Bound[Any], usage: Callable[..., Expected | None], *arguments: Any) -> Expected | None:
    """Call a plugin's own forecast."""
    try:
        expected = usage(*arguments)
    except KarmaError:
        raise
    except Exception as error:  # the author's code runs here
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise PluginError(
            f"{bound.version}: its usage() raised {reason}. Upgrade or uninstall it."
        ) from error
    if expected is not None and not isinstance(expected, Expected):
        raise PluginError(
            f"{bound.version}: its usage() must return Expected or None. Upgrade or uninstall it."
        )
    return expected
