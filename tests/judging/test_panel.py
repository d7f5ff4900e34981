"""Judges as one function of answers: means by weight, failures left out, and stops that say why."""

from __future__ import annotations

import pytest

from karma_plugins.contracts import Answer, Judge, Options, Verdict
from karma_plugins.errors import EmptyResultError, ParamsError
from karma_plugins.judging.panel import panel
from karma_plugins.registry import Bound, Juror, Origin

ANSWERS = [
    Answer(f"r{i}", "p", "m", [{"role": "user", "content": "hi"}], text) for i, text in enumerate("ab")
]


def juror(name: str, score) -> Juror:
    compare = None if score is not None else lambda pairs, options: [0.5] * len(pairs)
    plugin = Judge(name=name, score=score, compare=compare)
    return Juror(Bound(name, plugin, Options(), Origin("tests", "0")))


def test_a_score_is_the_mean_of_those_who_spoke_by_their_weights():
    first = juror("first", lambda answers, options: [1.0, Verdict(None, "failed", "no")])
    second = juror("second", lambda answers, options: [0.2, 0.4])
    score = panel([first, second], {"first": 3.0}, where="reward").score
    assert [verdict.value for verdict in score(ANSWERS)] == pytest.approx([0.8, 0.4])


def test_what_nobody_scores_keeps_its_reason_and_no_number_is_made_up():
    odd = juror("odd", lambda answers, options: [float("nan"), 0.5])
    told = panel([odd], {}, where="reward").score(ANSWERS)
    assert (told[0].value, told[0].status, told[1].value) == (None, "failed", 0.5)


def test_a_judge_that_fails_on_everything_stops_though_others_speak():
    failing = juror("failing", lambda answers, options: [Verdict(None, "failed", "no server")] * len(answers))
    both = panel([failing, juror("well", lambda answers, options: [0.5, 0.5])], {}, where="reward")
    for _ in range(15):
        assert [verdict.value for verdict in both.score(ANSWERS)] == [0.5, 0.5]
    with pytest.raises(EmptyResultError, match=r"reward\.failing: the judge failed on all of 32 answers"):
        both.score(ANSWERS)


def test_what_is_no_reward_is_refused():
    assert panel([], {}, where="reward") is None
    with pytest.raises(ParamsError, match="pairwise: this judge does not score answers one by one"):
        panel([juror("pairwise", None)], {}, where="reward")
    with pytest.raises(ParamsError, match="all weights are 0"):
        panel([juror("idle", lambda answers, options: [])], {"idle": 0.0}, where="reward")


def test_its_key_tells_judges_apart():
    def score(answers, options):
        return [0.5] * len(answers)

    keys = {
        panel([juror(name, score)], {name: weight}, where="reward").key
        for name, weight in (("a", 1.0), ("b", 1.0), ("a", 2.0))
    }
    assert len(keys) == 3
