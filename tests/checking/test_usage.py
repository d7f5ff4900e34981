"""A paid plugin of another distribution is forecast like ours, by its own `usage`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from karma_plugins import prompts
from karma_plugins.checking import forecasts
from karma_plugins.contracts import Answer, AnswerPair, Expected, Generator, Judge, Model, Options, Reply
from karma_plugins.errors import PluginError
from karma_plugins.params import GenerateSection, JudgeEntry, PromptsSection
from karma_plugins.registry import Bound, Origin

ORIGIN = Origin("paid-plugins", "2.0", "paid")


@pytest.fixture
def asked(tmp_path: Any) -> pl.DataFrame:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "word{i}", "competency": "c"}}\n' for i in range(3)))
    return prompts.read(PromptsSection(path=str(path)))


def entry(**keys: Any) -> JudgeEntry:
    return JudgeEntry(plugin="paid", **keys)


def judge(usage: Callable[..., Any], **ways: Any) -> Bound[Judge]:
    return Bound("paid", Judge(name="paid", usage=usage, **ways), Options(), ORIGIN)


def test_a_judge_is_asked_about_answers_and_pairs(asked: pl.DataFrame) -> None:
    def usage(cases: Any, times: int, options: Options) -> Expected:
        cases = list(cases)
        kind = {type(case) for case in cases}
        return Expected(kind.pop().__name__, len(cases) * times, 10, cost=0.5)

    both = judge(usage, score=lambda answers, options: [], compare=lambda pairs, options: [])
    told = forecasts.judge(both, entry(), asked, [7, 7, 7])
    assert [(one.server, one.requests) for one in told] == [(Answer.__name__, 9), (AnswerPair.__name__, 18)]
    assert "at most 9 requests to Answer, 10 prompt tokens and 0 answer tokens, cost at most 0.5" in (
        forecasts.in_words(told[0])
    )
    (once, half) = forecasts.judge(both, entry(both_orders=False), asked, [7, 7, 7])
    assert (once.requests, half.requests) == (9, 9)


def test_a_free_judge_and_one_that_says_nothing_are_left_out(asked: pl.DataFrame) -> None:
    free = judge(lambda *_: None, score=lambda answers, options: [])
    assert forecasts.judge(free, entry(), asked, [7]) == []
    silent = Bound("s", Judge(name="s", score=lambda answers, options: []), Options(), ORIGIN)
    assert forecasts.judge(silent, entry(), asked, [7]) == []


def test_a_generator_is_asked_about_its_requests(asked: pl.DataFrame, tmp_path: Any) -> None:
    def usage(model: Model, requests: Any, options: Options) -> Expected:
        return Expected(model.name, len(requests), 5, None, kept=1)

    paid = Generator(name="paid", generate=lambda m, r, o: [Reply("x") for _ in r], usage=usage)
    bound = Bound("paid", paid, Options(), ORIGIN)
    told = forecasts.candidate(Model("m", tmp_path, None), asked, bound, GenerateSection(samples=2))
    assert told is not None
    assert forecasts.in_words(told) == (
        "at most 6 requests to m (1 more are kept), 5 prompt tokens and any number of answer tokens"
    )


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        (lambda *_: 1 / 0, "paid (paid-plugins 2.0): its usage() raised ZeroDivisionError"),
        (lambda *_: 3, "paid (paid-plugins 2.0): its usage() must return Expected or None"),
    ],
)
def test_a_usage_that_fails_is_one_line(asked: pl.DataFrame, usage: Callable[..., Any], message: str) -> None:
    with pytest.raises(PluginError) as error:
        forecasts.judge(judge(usage, score=lambda answers, options: []), entry(), asked, [7])
    assert message in str(error.value)
