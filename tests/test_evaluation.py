"""Evaluation: paired by prompt, honest about what could not be judged, with intervals that cover."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from karma_plugins import evaluation
from karma_plugins.contracts import Generator, Judge, Model, Options, Profile, Profiler, Reply, Verdict
from karma_plugins.errors import EmptyResultError
from karma_plugins.evaluation import pictures
from karma_plugins.models import Weights
from karma_plugins.params import EvaluateSection
from karma_plugins.profiling import comparing
from karma_plugins.registry import Bound, Juror, Origin
from karma_plugins.runtime import statistics
from karma_plugins.schemas import ITEMS, PROMPTS, SCORES

SEEDS = {}


def bound(plugin):
    return Bound(plugin.name, plugin, Options(), Origin("tests", "0"))


def prompts(n=40, split="heldout") -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "prompt_id": f"p{i:03}",
                "messages": [{"role": "user", "content": f"question {i}"}],
                "competency": ("knowledge", "reasoning")[i % 2],
                "reference": str(i),
                "constraints": None,
                "split": split,
            }
            for i in range(n)
        ],
        schema=PROMPTS.columns,
    )


def answering(model, requests, options):
    """The aligned model knows every answer, the base every second; a prompt may have no answer at all."""
    SEEDS.setdefault(model.path.name, []).append([(r.prompt_id, r.sample, r.seed) for r in requests])
    return [_completion(model.path.name, r) for r in requests]


def _completion(model, request):
    number = int(request.prompt_id[1:])
    if model == "base" and number == 4:
        return Reply(text=None, error="memory ran out")
    knows = model == "aligned" or number % 4 < 2
    return Reply(text=str(number) if knows else "no idea")


def scoring(answers, options):
    return [
        Verdict(None, "failed", "broken reply") if a.prompt_id == "p006" else float(a.text == a.reference)
        for a in answers
    ]


def profiling(model, tasks, options):
    scores = [
        (model.name, competency, task, "acc", {"base": 0.4, "aligned": 0.6}[model.name], 0.1, 10)
        for competency, names in tasks.items()
        for task in names
    ]
    return Profile(pl.DataFrame(scores, schema=SCORES.columns, orient="row"), ITEMS.empty())


def run(table=None, judge=scoring, **settings):
    models = [Model(n, Path(n), Weights(folder=n)) for n in ("base", "aligned")]
    return evaluation.evaluate(
        *models,
        prompts() if table is None else table,
        [Juror(bound(Judge(name="exact", score=judge)))],
        bound(Profiler(name="fixed", profile=profiling)),
        {"knowledge": ["a", "b"], "reasoning": ["c"]},
        bound(Generator(name="lookup", generate=answering, keeps_shards=False)),
        EvaluateSection(judges={"exact": {}}, bootstrap=500, **settings),
    )


def test_accuracy_difference_and_win_rate_are_paired_by_prompt():
    found = run().metrics
    # Of 40 prompts two are left out (no answer of the base; judge failed). The base knows 20, less p004.
    assert found["prompts"] == {
        "asked": 40,
        "counted": 38,
        "left_out": 2,
        "unanswered": {"base": 1, "aligned": 0},
        "unrewarded": {"base": 2, "aligned": 1},
    }
    assert found["accuracy"]["base"]["mean"] == pytest.approx(19 / 38)
    assert found["accuracy"]["aligned"]["mean"] == 1.0
    assert found["accuracy"]["difference"]["mean"] == pytest.approx(19 / 38)
    assert found["win_rate"]["mean"] == pytest.approx((19 + 19 / 2) / 38)
    for block in (found["accuracy"]["base"], found["accuracy"]["difference"], found["win_rate"]):
        assert 0 < block["low"] < block["mean"] < block["high"] < 1
    assert found["accuracy"]["aligned"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert found["competency"]["knowledge"]["prompts"] == 18
    assert found["competency"]["reasoning"]["accuracy"]["base"]["mean"] == 0.5
    assert found["profile"]["aligned"] == {"knowledge": 0.6, "reasoning": 0.6}
    assert json.loads(json.dumps(found)) == found


def test_both_models_get_the_same_seeds():
    SEEDS.clear()
    run(samples=2)
    assert SEEDS["base"] == SEEDS["aligned"]
    assert len({seed for rows in SEEDS["base"] for _, _, seed in rows}) == 80


def test_same_inputs_same_numbers_whatever_the_order_of_the_prompts():
    first, second = run(), run(prompts().sample(fraction=1.0, shuffle=True, seed=3))
    assert first.metrics == second.metrics
    assert first.points.equals(second.points)


def test_points_and_text_table_hold_what_the_metrics_hold():
    found = run()
    row = found.points.filter(competency="all", measure="accuracy.difference").row(0, named=True)
    assert row["mean"] == found.metrics["accuracy"]["difference"]["mean"]
    assert found.points.filter(measure="profile.base", competency="knowledge")["mean"].to_list() == [0.4]
    lines = evaluation.table(found.metrics).splitlines()
    assert lines[1].split()[:4] == ["all", "38", "0.500", "1.000"]
    assert [line.split()[0] for line in lines[2:4]] == ["knowledge", "reasoning"]
    assert lines[4].split() == [
        "benchmark",
        "knowledge",
        "20",
        "0.400",
        "0.600",
        "+0.200",
        "[+0.004,",
        "+0.396]",
    ]
    assert lines[6].startswith("2 of 40 prompts left out")
    assert evaluation.flat(found.metrics)["competency.knowledge.win_rate.high"] > 0.5
    accuracy, change, wins = pictures.evaluated(found.metrics).axes
    names = [label.get_text() for label in accuracy.get_yticklabels()]
    assert names[0] == "all (n = 38)"
    assert "benchmark knowledge (n = 20)" in names
    assert len(change.lines) == 2 * len(names) + 1  # an interval and a mark each, and a line at 0
    assert len(wins.lines) == 2 * sum("benchmark" not in name for name in names) + 1


@pytest.mark.filterwarnings("ignore:judge 'exact'")
def test_limit_takes_so_many_prompts_of_each_competency():
    found = run(limit=5)
    assert found.metrics["prompts"]["asked"] == 10
    assert found.outcomes["prompt_id"].max() == "p009"


def test_clear_stops():
    with pytest.raises(EmptyResultError, match="no prompt is held out"):
        run(prompts(split="train"))
    with pytest.raises(EmptyResultError, match="judge 'exact' gave no verdict on 80 rows.*failed: down"):
        run(judge=lambda answers, options: [Verdict(None, "failed", "down")] * len(answers))


@pytest.mark.parametrize("broken", [1, 2])
def test_many_failures_of_a_judge_are_warned_about_with_counts(broken):
    """As in stage judge: from one verdict in twenty on."""

    def judge(answers, options):
        return [
            Verdict(None, "failed", "broken reply") if int(a.prompt_id[1:]) < broken else 1.0 for a in answers
        ]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(judge=judge)
    said = [str(w.message) for w in caught if "judge 'exact'" in str(w.message)]
    assert len(said) == (broken == 2), said
    assert all("4 of 79 verdicts failed (5.1%): broken reply (4)" in line for line in said)


def test_intervals_are_those_of_a_plain_bootstrap_and_cover():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 2))
    mean, low, high = statistics.bootstrap(values, rounds=4000, seed=1)
    plain = [values[rng.integers(50, size=50)].mean(axis=0) for _ in range(4000)]
    assert np.allclose([low, high], np.quantile(plain, [0.025, 0.975], axis=0), atol=0.03)
    assert np.allclose(mean, values.mean(axis=0))
    inside = 0
    for seed in range(200):
        sample = np.random.default_rng(seed).binomial(1, 0.4, size=(100, 1)).astype(float)
        _, low, high = statistics.bootstrap(sample, rounds=300, seed=seed)
        inside += low[0] <= 0.4 <= high[0]
    assert 0.88 <= inside / 200 <= 0.99


def profile_of(scores, items=()):
    cells = [("m", "sums", task, "acc", score, stderr, n) for task, score, stderr, n in scores]
    rows = [("m", "sums", task, str(i), value) for task, values in items for i, value in enumerate(values)]
    known = pl.DataFrame(rows, schema=["model", "competency", "task", "item_id", "correct"], orient="row")
    nothing = {name: pl.lit(None) for name in ("choice", "answer", "n_choices", "choice_probs")}
    frame = (
        known.with_columns(**nothing).select(ITEMS.columns.names()).cast(ITEMS.columns)
        if rows
        else ITEMS.empty()
    )
    return Profile(pl.DataFrame(cells, schema=SCORES.columns, orient="row"), frame)


def test_a_benchmark_is_compared_item_by_item_where_both_models_answered_the_same():
    before = profile_of([("a", 0.75, 0.2, 4)], [("a", [1.0, 1.0, 1.0, 0.0])])
    after = profile_of([("a", 0.25, 0.2, 4)], [("a", [0.0, 0.0, 1.0, 0.0])])
    found = comparing.compared(before, after)["sums"]
    half = 1.96 * np.std([-1, -1, 0, 0], ddof=1) / 2
    assert found["difference"]["mean"] == -0.5
    assert found["difference"]["high"] == pytest.approx(-0.5 + half, abs=1e-3)
    assert (found["base"], found["aligned"], found["items"]) == (0.75, 0.25, 4)


def test_without_items_a_benchmarks_interval_is_of_standard_errors_or_unknown():
    known = comparing.compared(profile_of([("a", 0.4, 0.03, 9)]), profile_of([("a", 0.5, 0.04, 9)]))["sums"]
    assert known["difference"]["high"] - known["difference"]["mean"] == pytest.approx(1.96 * 0.05, abs=1e-3)
    bare = comparing.compared(profile_of([("a", 0.4, None, None)]), profile_of([("a", 0.5, 0.04, 9)]))["sums"]
    assert bare["difference"] == {"mean": pytest.approx(0.1), "low": None, "high": None}
    assert bare["items"] is None
    assert comparing.compared(profile_of([("a", None, None, 0)]), profile_of([("a", 0.5, None, 9)])) == {}
