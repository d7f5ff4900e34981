"""Judging: who is asked what, and that a fault of a judge is a row and never a number."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import polars as pl
import pytest

from karma_plugins import tables
from karma_plugins.contracts import Answer, AnswerPair, Verdict, Verdicts
from karma_plugins.errors import EmptyResultError, ParamsError, PluginError, TableError
from karma_plugins.judging.deciding import Judged
from karma_plugins.judging.judges.recorded import karma_register_judges as recorded_judges
from karma_plugins.runtime.shards import ShardCache
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS, REWARDS
from tests.judging import jury_cases as cases
from tests.judging import kill_judging

MODELS = ("amber", "birch", "cedar")
RECORDED = recorded_judges()[0]


def pool(prompts: int = 3) -> pl.DataFrame:
    return cases.responses((f"p{i:04d}", m, f"{m} says {i}") for i in range(prompts) for m in MODELS)


def run(
    *jury: cases.Seat, responses: pl.DataFrame | None = None, prompts: int = 3, **kwargs: object
) -> Judged:
    settings = kwargs.pop("settings", None) or cases.settings()
    return cases.judge(
        cases.prompts(prompts), pool(prompts) if responses is None else responses,
        kwargs.pop("kinship", None), list(jury), settings, **kwargs,
    )  # fmt: skip


def statuses(frame: pl.DataFrame) -> dict[tuple[str, str | None], int]:
    return {(s, r): n for s, r, n in frame.group_by("status", "reason").len().iter_rows()}


def test_scores_become_judgements_and_rewards() -> None:
    done = run(cases.juror("length", score=lambda answers, _: [len(a.text) / 100 for a in answers]))
    for frame, schema in (
        (done.judgements, JUDGEMENTS),
        (done.comparisons, COMPARISONS),
        (done.rewards, REWARDS),
    ):
        assert tables.check(frame, schema, where="test").equals(frame)
    assert done.rewards["reward"].to_list() == [0.12] * 9
    assert set(done.rewards["judges"]) == {"length"}
    assert set(done.judgements["version"]) == {"length (karma-tests 1.0)"}
    assert done.counts["judgements.length.ok"] == 9


def test_a_judge_sees_the_answer_with_its_prompt() -> None:
    seen: list[Answer] = []
    run(cases.juror("spy", score=lambda answers, _: [seen.append(a) or 0.5 for a in answers]), prompts=1)
    assert [a.model for a in sorted(seen, key=lambda a: a.model)] == list(MODELS)
    assert seen[0].messages == [{"role": "user", "content": "Question 0?"}]
    assert (seen[0].competency, seen[0].reference) == ("sums", "4")


def test_answers_without_text_never_reach_a_judge() -> None:
    texts: list[str] = []
    answers = cases.responses(
        [("p0000", "amber", None), ("p0000", "birch", " \n"), ("p0000", "cedar", "four"),
         ("p0001", "amber", "five"), ("p0001", "birch", "six")]
    )  # fmt: skip
    done = run(
        cases.juror("score", score=lambda asked, _: [texts.append(a.text) or 1.0 for a in asked]),
        cases.juror("compare", compare=lambda asked, _: [texts.append(p.a.text) or 1.0 for p in asked]),
        responses=answers,
    )
    assert sorted(texts) == ["five", "five", "four", "six", "six"]
    assert statuses(done.judgements) == {
        ("skipped", "no answer"): 1,
        ("skipped", "empty answer"): 1,
        ("ok", None): 3,
    }
    assert set(done.comparisons.filter(prompt_id="p0000")["status"]) == {"skipped"}
    rewarded = done.rewards.filter(prompt_id="p0000")
    assert rewarded["response_id"].to_list() == [cases.rid("p0000", "cedar")]
    assert {k: v for k, v in done.counts.items() if k.startswith("answers")} == {
        "answers.all": 5, "answers.missing": 1, "answers.empty": 1,
    }  # fmt: skip


BAD = {
    "raises": (lambda asked, _: 1 / 0, "ZeroDivisionError: division by zero"),
    "nothing": (lambda asked, _: None, "TypeError: 'NoneType' object is not iterable"),
    "few": (lambda asked, _: [0.5], "1 verdicts for 3 asked"),
    "many": (lambda asked, _: [0.5] * 10, "10 verdicts for 3 asked"),
    "nan": (lambda asked, _: [float("nan")] * len(asked), "nan is no score"),
    "inf": (lambda asked, _: [float("inf")] * len(asked), "inf is no score"),
    "large": (lambda asked, _: [7] * len(asked), "outside [0, 1]"),
    "text": (lambda asked, _: ["0.9"] * len(asked), "str instead of a number"),
    "null": (lambda asked, _: [None] * len(asked), "NoneType instead of a number"),
    "status": (lambda asked, _: [Verdict(0.5, "good")] * len(asked), "unknown status 'good'"),
    "valued": (
        lambda asked, _: [Verdict(0.5, "failed", "x")] * len(asked),
        "verdict with status failed and a value",
    ),
}


def mostly(call: object) -> object:
    """A judge that does so, but for its first shard."""
    good = [True]

    def judged(asked: list[object], options: object) -> object:
        return [0.25] * len(asked) if good and good.pop() else call(asked, options)

    return judged


@pytest.mark.parametrize("fault", sorted(BAD))
@pytest.mark.parametrize("way", ["score", "compare"])
@pytest.mark.filterwarnings("ignore:judge 'bad'")
def test_a_faulty_judge_leaves_failure_rows_and_the_run_goes_on(fault: str, way: str) -> None:
    call, reason = BAD[fault]
    done = run(
        cases.juror("bad", **{way: mostly(call)}, weight=0.0),
        cases.juror("good", score=lambda asked, _: [0.25] * len(asked)),
        settings=cases.settings(both_orders=False, shard=3),
    )
    said = (done.judgements if way == "score" else done.comparisons).filter(pl.col("judge") == "bad")
    assert statuses(said) == {("failed", reason): 6, ("ok", None): 3}
    assert said["score" if way == "score" else "p_a"].null_count() == 6
    assert set(done.rewards["reward"]) == {0.25}
    assert set(done.rewards["judges"]) == {"good"}
    assert done.counts[f"{'judgements' if way == 'score' else 'comparisons'}.bad.failed"] == 6
    unspoken = done.bias.filter(pl.col("measure") == "unspoken").select("judge", "detail", "value", "n")
    assert unspoken.rows() == [("bad", reason.split(": ")[0], 6 / 9, 9)]


@pytest.mark.parametrize("fault", sorted(BAD))
@pytest.mark.parametrize("way", ["score", "compare"])
def test_a_judge_without_one_verdict_stops_with_its_first_reason(fault: str, way: str) -> None:
    call, reason = BAD[fault]
    good = cases.juror("good", score=lambda asked, _: [0.25] * len(asked))
    with pytest.raises(EmptyResultError) as error:
        run(cases.juror("bad", **{way: call}), good, settings=cases.settings(both_orders=False, shard=3))
    assert f"judge 'bad' gave no verdict on 9 rows. First reason: failed: {reason}." in str(error.value)


def test_a_judge_without_kin_to_compare_stops() -> None:
    strangers = cases.kinship({(a, b): 0.1 for a in MODELS for b in MODELS if a < b})
    with pytest.raises(EmptyResultError, match="no two answers to a prompt are of kin models"):
        run(
            cases.juror("pairs", compare=lambda asked, _: [1.0] * len(asked)),
            kinship=strangers,
            settings=cases.settings(kin_radius=0.5),
        )


def test_what_failed_for_every_answer_is_not_kept(tmp_path: Path) -> None:
    """The machine may have been at fault: once it is mended, the judge is asked again."""
    broken = [True]

    def score(asked: list[Answer], _: object) -> list[float]:
        if broken:
            raise OSError("disk full")
        return [0.5] * len(asked)

    juror = cases.juror("odd", score=score)
    with pytest.raises(EmptyResultError, match="OSError: disk full"):
        run(juror, shards=ShardCache(tmp_path))
    broken.clear()
    assert set(run(juror, shards=ShardCache(tmp_path)).rewards["reward"]) == {0.5}


@pytest.mark.parametrize(("bad", "warned"), [(4, False), (5, True)])
def test_many_failures_are_warned_about_with_counts(bad: int, warned: bool) -> None:
    def score(asked: list[Answer], _: object) -> list[object]:
        return [float("nan") if i < bad else 0.5 for i in range(len(asked))]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(cases.juror("odd", score=score), prompts=34, responses=pool(34).head(100))
    told = [str(w.message) for w in caught]
    assert told == (["judge 'odd': 5 of 100 verdicts failed (5.0%): nan is no score (5)"] if warned else [])


def test_a_faulty_answer_costs_only_its_own_verdict() -> None:
    def score(asked: list[Answer], _: object) -> list[object]:
        return [Verdict(None, "failed", "refused") if a.model == "birch" else 0.5 for a in asked]

    with pytest.warns(UserWarning, match=r"judge 'half': 3 of 9 verdicts failed \(33.3%\): refused \(3\)"):
        done = run(cases.juror("half", score=score))
    assert statuses(done.judgements) == {("failed", "refused"): 3, ("ok", None): 6}
    assert done.rewards.height == 6


def test_an_error_about_the_options_stops() -> None:
    def score(asked: list[Answer], _: object) -> list[float]:
        raise PluginError("no such model")

    with pytest.raises(PluginError, match="no such model"):
        run(cases.juror("strict", score=score))


def test_pairs_are_compared_in_both_orders_and_agree_on_the_better() -> None:
    done = run(
        cases.juror("alphabet", compare=lambda asked, _: [float(p.a.model < p.b.model) for p in asked])
    )
    assert done.comparisons.height == 3 * 3 * 2
    best = done.rewards.join(pool(), on="response_id").group_by("model").agg(pl.col("reward").unique())
    assert dict(best.iter_rows()) == {"amber": [1.0], "birch": [0.5], "cedar": [0.0]}


def test_pairwise_judges_compare_kin_only() -> None:
    asked: set[frozenset[str]] = set()

    def compare(pairs: list[object], _: object) -> list[float]:
        asked.update(frozenset((p.a.model, p.b.model)) for p in pairs)
        return [0.5] * len(pairs)

    kinship = cases.kinship(
        {("amber", "birch"): 0.9, ("amber", "cedar"): 0.2, ("birch", "cedar"): None},
        sums={("birch", "cedar"): 0.8}, rhymes={("amber", "cedar"): 1.0},
    )  # fmt: skip
    twice = pl.concat([pool(), pool().with_columns(sample=pl.lit(1, pl.Int64), text=pl.lit("other"),
                                                   response_id=pl.col("response_id") + "x")])  # fmt: skip
    done = run(
        cases.juror("kin", compare=compare),
        responses=twice,
        kinship=kinship,
        settings=cases.settings(kin_radius=0.3, compare_per_prompt=None),
    )
    same = [frozenset((m,)) for m in MODELS]
    assert asked == {frozenset(("amber", "birch")), frozenset(("birch", "cedar")), *same}
    assert set(done.comparisons["status"]) == {"tie"}


def test_the_same_text_twice_is_a_tie_that_no_judge_is_asked_about() -> None:
    answers = cases.responses([("p0000", "amber", "4"), ("p0000", "birch", "4"), ("p0000", "cedar", "5")])
    asked: list[tuple[str, str]] = []

    def compare(pairs: list[AnswerPair], _: object) -> list[float]:
        asked.extend((p.a.text, p.b.text) for p in pairs)
        return [float(p.a.text == "4") for p in pairs]

    done = run(cases.juror("any", compare=compare), responses=answers)
    assert sorted(asked) == [("4", "5"), ("4", "5"), ("5", "4"), ("5", "4")]
    assert statuses(done.comparisons) == {("tie", "identical answers"): 2, ("ok", None): 4}
    assert sorted(done.rewards["reward"]) == [0.0, 0.75, 0.75]


def test_order_of_answers_prompts_and_judges_changes_no_byte() -> None:
    jury = [
        cases.juror("a", score=lambda asked, _: [len(a.text) % 7 / 7 for a in asked], weight=0.3),
        cases.juror(
            "b", score=lambda asked, _: [len(a.model + a.prompt_id) % 3 / 3 for a in asked], weight=0.2
        ),
        cases.juror(
            "c", compare=lambda asked, _: [len(p.a.text) / (len(p.a.text) + len(p.b.text)) for p in asked]
        ),
    ]
    prompts, answers = cases.prompts(20), pool(20)
    for how in ({}, {"align": "z-score"}, {"align": "rank", "comparisons": "bradley-terry"}):
        first = cases.judge(prompts, answers, None, jury, cases.settings(**how))
        shuffled = answers.sample(fraction=1, shuffle=True, seed=3)
        again = cases.judge(prompts.reverse(), shuffled, None, jury[::-1], cases.settings(**how, shard=7))
        assert again.rewards.equals(first.rewards)
        assert again.judgements.equals(first.judgements)


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "mortal").touch()
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.judging.kill_judging", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=repository,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"stopped\n"
    child.kill()
    child.communicate()
    (tmp_path / "mortal").unlink()
    done = kill_judging.run(tmp_path)
    asked = (tmp_path / "asked").read_text().split()
    assert len(asked) == 40 + kill_judging.SHARD
    assert len(set(asked)) == 40
    (tmp_path / "undisturbed").mkdir()
    assert kill_judging.run(tmp_path / "undisturbed").rewards.equals(done.rewards)


def test_progress_is_reported() -> None:
    heard: list[float] = []
    run(
        cases.juror("any", score=lambda asked, _: [0.5] * len(asked)),
        settings=cases.settings(shard=4),
        report=lambda metrics, step: heard.append(metrics["verdicts"]),
    )
    assert heard == [4, 8, 9]


def test_an_answer_to_no_prompt_is_an_error() -> None:
    with pytest.raises(TableError, match="1 answers belong to no prompt.*'p9' by 'amber'"):
        run(cases.juror("any", score=lambda a, _: [1.0]), responses=cases.responses([("p9", "amber", "hm")]))


def test_a_jury_needs_weight_and_names_of_its_own() -> None:
    one = cases.juror("one", score=lambda asked, _: [1.0] * len(asked), weight=0.0)
    with pytest.raises(ParamsError, match="weight above 0"):
        run(one)
    with pytest.raises(ParamsError, match="same name"):
        run(one, cases.juror("one", score=lambda asked, _: [1.0] * len(asked)))


# --- recorded verdicts --------------------------------------------------------------------------------------


def recorded(*, annotator: str | None = None, name: str = "gpt4") -> cases.Seat:
    return cases.Seat(cases.bound(RECORDED, RECORDED.options(annotator=annotator), name))


def verdicts() -> Verdicts:
    a, b, c = (cases.rid("p0000", m) for m in MODELS)
    return Verdicts(
        cases.judgements(
            [("p0001", cases.rid("p0001", "amber"), "gpt4", 0.75), ("p0001", "stranger", "gpt4", 0.1)]
        ),
        cases.comparisons(
            [("p0000", "baseline", a, "turbo", 0.25, "ab"), ("p0000", "baseline", b, "turbo", None, "ab"),
             ("p0000", "baseline", c, "turbo", 0.5, "ab"),
             ("p0000", "baseline", "stranger", "turbo", 1.0, "ab")]
        ),
    )  # fmt: skip


def test_recorded_scores_are_recalled_and_the_rest_is_said_to_be_missing() -> None:
    done = run(recorded(), recorded=verdicts())
    assert statuses(done.judgements) == {("ok", None): 1, ("skipped", "no recorded verdict"): 8}
    assert done.rewards.select("response_id", "reward").rows() == [(cases.rid("p0001", "amber"), 0.75)]


def test_recorded_preferences_over_a_model_outside_the_pool_count() -> None:
    with pytest.warns(UserWarning, match="1 of 3 verdicts failed"):
        done = run(recorded(annotator="turbo"), recorded=verdicts())
    assert statuses(done.comparisons) == {("ok", None): 1, ("tie", None): 1, ("failed", "unparsed"): 1}
    assert set(done.comparisons["judge"]) == {"gpt4"}
    rewards = dict(done.rewards.select("response_id", "reward").iter_rows())
    assert rewards == {cases.rid("p0000", "amber"): 0.75, cases.rid("p0000", "cedar"): 0.5}


def test_recorded_verdicts_about_missing_answers_are_skipped_and_wild_ones_fail() -> None:
    said = cases.judgements(
        [
            ("p0000", cases.rid("p0000", m), "gpt4", s)
            for m, s in zip(MODELS, (0.9, 7.0, float("nan")), strict=True)
        ]
        + [("p0001", cases.rid("p0001", "amber"), "gpt4", 0.75)]
    )
    answers = pool(2).filter(~(pl.col("prompt_id").eq("p0001") & pl.col("model").ne("amber")))
    missing = pl.col("prompt_id").eq("p0000") & pl.col("model").eq("amber")
    answers = answers.with_columns(text=pl.when(missing).then(None).otherwise("text"))
    with pytest.warns(UserWarning, match="2 of 3 verdicts failed"):
        done = run(recorded(), responses=answers, recorded=Verdicts(said, COMPARISONS.empty()))
    outside = ("failed", "outside [0, 1]")
    assert statuses(done.judgements) == {("skipped", "no answer"): 1, outside: 2, ("ok", None): 1}
    assert done.rewards["response_id"].to_list() == [cases.rid("p0001", "amber")]


def test_an_unknown_annotator_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(PluginError, match="Did you mean 'turbo'"):
        run(recorded(annotator="turb"), recorded=verdicts())
    with pytest.raises(PluginError, match="several judges are recorded"):
        run(recorded(name="mine"), recorded=verdicts())


def test_a_recall_that_raises_fails_for_every_answer() -> None:
    with pytest.raises(EmptyResultError, match="'odd' gave no verdict on 9 rows. First reason: failed: Attr"):
        run(cases.juror("odd", recall=lambda said, _: said.nothing), recorded=verdicts())


def test_a_recall_of_nothing_about_these_answers_stops() -> None:
    said = Verdicts(cases.judgements([("p0000", "stranger", "gpt4", 0.5)]), COMPARISONS.empty())
    with pytest.raises(EmptyResultError, match="First reason: skipped: no recorded verdict"):
        run(recorded(), recorded=said)


def test_a_recorded_judge_without_records_says_so_in_its_own_stage() -> None:
    with pytest.raises(
        EmptyResultError, match="gave no verdict on 9 rows. First reason: skipped: no recorded"
    ):
        run(recorded())
