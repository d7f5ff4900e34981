from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import polars as pl
import pytest

from karma_plugins import curriculum, schemas
from karma_plugins import tables as tables_
from karma_plugins.contracts import Options, Pairing
from karma_plugins.curriculum import candidates, caps
from karma_plugins.curriculum.card import Provenance, card
from karma_plugins.errors import EmptyResultError, ParamsError, PluginError, TableError
from karma_plugins.params import CurriculumSection
from karma_plugins.registry import Bound, Origin
from karma_plugins.runtime import noise
from tests.curriculum.curriculum_cases import (
    Tables,
    build,
    build_judged,
    by_chance,
    pairing,
    shuffled,
    tables,
)

TWO = [
    {"prompt": "p", "model": "a", "reward": 0.9, "text": "good"},
    {"prompt": "p", "model": "b", "reward": 0.2, "text": "bad"},
]

LONG = " ".join(f"the answer has part {i}" for i in range(40))


def plain_pairs(made: tuple[pl.DataFrame, ...]) -> dict[tuple[str, str], float]:
    """What may be paired at all, by plain loops: (chosen_id, rejected_id) -> margin."""
    _, responses, rewards, _ = made
    rows = responses.join(rewards.drop("prompt_id"), on="response_id").to_dicts()
    found = {}
    for one, other in combinations(rows, 2):
        better, worse = sorted((one, other), key=lambda r: -r["reward"])
        texts = {(r["text"] or "").strip() for r in (one, other)}
        same = one["prompt_id"] == other["prompt_id"] and one["judges"] == other["judges"]
        if same and better["reward"] > worse["reward"] and len(texts) == 2 and "" not in texts:
            found[better["response_id"], worse["response_id"]] = better["reward"] - worse["reward"]
    return found


def ids(made: curriculum.Curriculum) -> list[tuple[str, str]]:
    """Ids of every pair, in training order."""
    return list(made.pairs.select("chosen_id", "rejected_id").iter_rows())


def test_the_better_answer_is_chosen_and_everything_of_it_told():
    made = build(tables(TWO, {("a", "b"): 0.75}))

    assert made.pairs.to_dicts() == [
        {
            "order": 0,
            "phase": 0,
            "prompt": [{"role": "user", "content": "p"}],
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
            "prompt_id": "0000000000000001",
            "competency": "knowledge",
            "chosen_id": f"{0xABC000:016x}",
            "rejected_id": f"{0xABC000 + 7919:016x}",
            "chosen_model": "a",
            "rejected_model": "b",
            "chosen_reward": 0.9,
            "rejected_reward": 0.2,
            "margin": 0.9 - 0.2,
            "disagreement": None,
            "kinship": 0.75,
            "complexity": pytest.approx(0.35),
            "chosen_likelihood": None,
            "rejected_likelihood": None,
            "difficulty": 0.0,
        }
    ]
    tables_.check(made.pairs, schemas.PAIRS, where="pairs")


@pytest.mark.parametrize(
    ("change", "settings", "reason"),
    [
        ({"reward": 0.9}, {}, "tie"),
        ({"text": " "}, {}, "empty answer"),
        ({"text": None}, {}, "empty answer"),
        ({"text": " good\n"}, {}, "equal answers"),
        ({"judges": "one+two"}, {}, "judged by different judges"),
        ({"reward": 0.5}, {"margin": 0.5}, "below margin"),
        ({}, {"margin_in_disagreements": 1.0}, "disagreement unknown"),
        ({"text": LONG + "!"}, {"similarity": 0.9}, "near-duplicate answers"),
    ],
)
def test_each_rule_drops_its_pair_and_counts_it(
    change: dict[str, Any], settings: dict[str, Any], reason: str
):
    kept = [
        {"prompt": "q", "model": "a", "reward": 1.0, "text": "yes", "disagreement": 0.1},
        {"prompt": "q", "model": "b", "reward": 0.0, "text": "no", "disagreement": 0.1},
    ]
    first = TWO[0] | ({"text": LONG} if reason.startswith("near") else {})
    made = build(tables([first, TWO[1] | change, *kept]), **settings)

    assert made.report["pairs"] == {"possible": 2, "kept": 1, "dropped": {reason: 1}, "same_model": 0}
    assert made.pairs["prompt"].list.first().struct.field("content").to_list() == ["q"]


def test_margin_in_units_of_the_judges_disagreement():
    answers = [
        {"prompt": f"p{i}", "model": model, "reward": reward, "disagreement": 0.2, "judges": "one+two"}
        for i, gap in enumerate([0.1, 0.3, 0.5])
        for model, reward in (("a", 0.5), ("b", 0.5 - gap))
    ]
    made = build(tables(answers), margin_in_disagreements=1.5)

    assert made.pairs["margin"].to_list() == pytest.approx([0.5, 0.3])
    assert made.pairs["disagreement"].to_list() == pytest.approx([0.2, 0.2])
    assert made.report["pairs"]["dropped"] == {"below margin_in_disagreements": 1}


@pytest.mark.parametrize("seed", range(3))
def test_every_possible_pair_is_kept_or_counted_under_one_reason(seed: int):
    made = by_chance(seed, samples=2)
    result = build(made, repeats="keep")

    assert set(ids(result)) == set(plain_pairs(made))
    report = result.report
    judged = made[2].group_by("prompt_id").len()["len"]
    assert report["pairs"]["possible"] == int((judged * (judged - 1) // 2).sum())
    assert report["pairs"]["possible"] == report["pairs"]["kept"] + sum(report["pairs"]["dropped"].values())
    assert report["answers"] == {"all": made[1].height, "failed": 0, "judged": made[2].height}


@pytest.mark.parametrize("cap", ["per_prompt", "per_model", "per_model_pair", "budget"])
@pytest.mark.parametrize(("seed", "most"), [(4, 1), (4, 7), (5, 23)])
def test_caps_take_pairs_one_by_one_in_order_of_priority(cap: str, seed: int, most: int, monkeypatch):
    monkeypatch.setattr(caps, "BLOCK", 10)
    made = by_chance(seed, samples=2)
    everything = build(made, "kin", {"radius": 1.0}, repeats="keep")
    chance = dict(zip(ids(everything), _noise(everything), strict=True))
    models = {row[0]: row[1] for row in made[1].select("response_id", "model").iter_rows()}
    prompt = {row[0]: row[1] for row in made[1].select("response_id", "prompt_id").iter_rows()}
    margins = plain_pairs(made)
    wanted, count = set(), dict[Any, int]()
    for pair in sorted(margins, key=lambda p: (-margins[p], chance[p])):
        one, other = models[pair[0]], models[pair[1]]
        keys = {
            "per_prompt": {prompt[pair[0]]},
            "per_model": {one, other},
            "per_model_pair": {(min(one, other), max(one, other))},
            "budget": {"all"},
        }[cap]
        if all(count.get(key, 0) < most for key in keys):
            wanted.add(pair)
            count |= {key: count.get(key, 0) + 1 for key in keys}

    result = build(made, "kin", {"radius": 1.0}, repeats="keep", **{cap: most})

    assert set(ids(result)) == wanted
    assert result.report["pairs"]["dropped"].get(f"over {cap}", 0) == len(margins) - len(wanted)


def _noise(made: curriculum.Curriculum) -> list[float]:
    """The noise of pairs, as a pairing sees it."""
    number = {
        s: made.pairs[f"{s}_id"].str.to_integer(base=16, dtype=pl.UInt64) for s in ("chosen", "rejected")
    }
    return noise.of_pairs(0, number["chosen"].to_numpy(), number["rejected"].to_numpy()).tolist()


@pytest.mark.parametrize("name", ["kin", "random", "best-worst", "distant"])
def test_neither_the_order_of_rows_nor_lazy_tables_nor_chunks_change_a_byte(name: str, monkeypatch, tmp_path):
    made, settings = by_chance(1), {"per_prompt": 2, "budget": 25, "phases": 3, "kinship": "competency"}
    first = build(made, name, **settings).pairs
    other = build(shuffled(made, 5), name, **settings).pairs
    prompts, responses, rewards, kinship = made
    monkeypatch.setattr(candidates, "CHUNK", 15)
    lazy = build((prompts, responses.lazy(), rewards.lazy(), kinship), name, **settings).pairs

    assert first.equals(other)
    assert first.equals(lazy)
    tables_.write(first, tmp_path / "one.parquet", schemas.PAIRS)
    tables_.write(other, tmp_path / "two.parquet", schemas.PAIRS)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.parametrize("name", ["kin", "random"])
def test_of_pairs_with_the_same_texts_the_first_is_kept(name: str):
    made = by_chance(6, samples=3)
    options = {"radius": 1.0, "prefer": "kinship"} if name == "kin" else {}
    every = build(made, name, options, repeats="keep").pairs
    kept = build(made, name, options)
    nearest: dict[tuple[str, frozenset[str]], float] = {}
    for key, kinship in texts_of(every):
        nearest[key] = max(kinship, nearest.get(key, 0.0))

    assert every.height > kept.pairs.height == len(nearest)
    assert kept.report["pairs"]["dropped"]["repeated texts"] == every.height - len(nearest)
    assert {key for key, _ in texts_of(kept.pairs)} == set(nearest)
    if name == "kin":
        assert dict(texts_of(kept.pairs)) == nearest


def texts_of(pairs: pl.DataFrame) -> list[tuple[tuple[str, frozenset[str]], float]]:
    """Prompt and the two texts of every pair, and its kinship."""
    content = [
        pl.col(side).list.first().struct.field("content").str.strip_chars().alias(side)
        for side in ("chosen", "rejected")
    ]
    rows = pairs.select("prompt_id", *content, "kinship").iter_rows()
    return [((prompt, frozenset((chosen, rejected))), kinship) for prompt, chosen, rejected, kinship in rows]


def test_another_seed_keeps_other_pairs_by_chance():
    made = by_chance(2)
    assert ids(build(made, budget=20, seed=1)) != ids(build(made, budget=20, seed=2))


def test_kinship_is_that_of_the_competency_where_asked():
    kinship = {("a", "b"): 0.5, ("knowledge", "a", "b"): 0.9}
    assert build(tables(TWO, kinship)).pairs["kinship"].to_list() == [0.5]
    assert build(tables(TWO, kinship), kinship="competency").pairs["kinship"].to_list() == [0.9]
    assert build(tables(TWO, {("a", "b"): 0.5}), kinship="competency").pairs["kinship"].to_list() == [None]


def test_two_samples_of_one_model_have_kinship_one():
    answers = [TWO[0], TWO[1] | {"model": "a", "sample": 1}]
    made = build(tables(answers))
    assert made.pairs["kinship"].to_list() == [1.0]
    assert made.report["pairs"]["same_model"] == 1


def test_rows_of_a_metric_that_does_not_act_are_ignored():
    prompts, responses, rewards, kinship = tables(TWO, {("a", "b"): 0.4})
    other = kinship.with_columns(metric=pl.lit("error"), kinship=pl.lit(0.9), primary=pl.lit(False))
    made = build((prompts, responses, rewards, pl.concat([other, kinship])))
    assert made.pairs["kinship"].to_list() == [0.4]


def test_answers_to_held_out_prompts_are_not_paired():
    held_out = [answer | {"prompt": "held"} for answer in TWO]
    made = build(tables([*TWO, *held_out], splits={"held": "heldout"}))
    assert made.report["prompts"] == {"all": 1, "used": 1}
    assert made.report["answers"] == {"all": 4, "failed": 0, "judged": 2}


def test_an_answer_to_an_unknown_prompt_stops():
    prompts, responses, rewards, kinship = tables([*TWO, {"prompt": "q", "model": "a", "reward": 1.0}])
    with pytest.raises(
        TableError, match="of model 'a' is to prompt '0000000000000002', which table prompts does not"
    ):
        build((prompts.head(1), responses, rewards, kinship))


def test_an_id_that_is_no_hash_stops():
    prompts, responses, rewards, kinship = tables(TWO)
    renamed = [
        table.with_columns(response_id=pl.lit("r") + pl.col("response_id")) for table in (responses, rewards)
    ]
    with pytest.raises(TableError, match="response_id 'r0000000000abc000' is not 16 hex digits"):
        build((prompts, *renamed, kinship))


def test_no_pair_left_names_the_rule_and_the_cure():
    with pytest.raises(
        EmptyResultError, match=r"no pair of 1 \(dropped: below margin 1\)\. Lower curriculum\.margin\.$"
    ):
        build(tables(TWO), margin=0.9)
    with pytest.raises(
        EmptyResultError, match=r"kin: beyond radius 1\)\. Loosen curriculum\.pairings\.kin, or"
    ):
        build(tables(TWO, {("a", "b"): 0.1}), "kin")
    with pytest.raises(EmptyResultError, match="1 judged answers to 1 training prompts, no prompt has two"):
        build(tables(TWO[:1]))


LADDER = [
    {"prompt": f"p{i}", "model": model, "reward": reward, "disagreement": 0.1 * i, "judges": "one+two"}
    for i in range(4)
    for model, reward in (("a", 1.0), ("b", 0.8 - 0.2 * i))
]


def test_difficulty_is_spread_over_zero_to_one_and_orders_the_pairs():
    made = build(tables(LADDER))
    assert made.pairs["margin"].to_list() == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert made.pairs["difficulty"].to_list() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert made.pairs["order"].to_list() == [0, 1, 2, 3]
    hard = build(tables(LADDER), order="hard-to-easy")
    assert ids(hard) == ids(made)[::-1]
    assert set(ids(build(tables(LADDER), order="shuffled"))) == set(ids(made))


def test_difficulty_weighs_its_parts():
    made = build(tables(LADDER), difficulty={"margin": 1.0, "disagreement": 3.0})
    levels = dict(
        zip(made.pairs["margin"].round(1).to_list(), made.pairs["difficulty"].to_list(), strict=True)
    )
    # a wide margin is easy and, in this ladder, disagreed on: p3 has 0/1 and 1, p0 has 1 and 0
    assert levels == pytest.approx(
        {0.8: 3 / 4, 0.2: 1 / 4, 0.6: (1 / 3 + 3 * 2 / 3) / 4, 0.4: (2 / 3 + 3 / 3) / 4}
    )


def test_an_unknown_part_is_left_out_and_all_unknown_stops():
    kinship = {("a", "b"): None}
    made = build(tables(LADDER, kinship), difficulty={"margin": 1.0, "kinship": 5.0})
    assert made.pairs["difficulty"].to_list() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    with pytest.raises(
        ParamsError, match="weighs kinship, which is unknown of 4 of 4 pairs. Give margin a weight"
    ):
        build(tables(LADDER, kinship), difficulty={"kinship": 1.0})


def judged_by(judge: str, frames: Tables, perplexities: Sequence[float | None]) -> pl.DataFrame:
    """Judgements of one judge: 1 / perplexity of each answer, failed where that is null."""
    responses = frames[1].sort("prompt_id", "model")
    scores = [None if value is None else 1 / value for value in perplexities]
    return responses.select(
        "prompt_id", "response_id", judge=pl.lit(judge), version=pl.lit("0"),
        score=pl.Series(scores, dtype=pl.Float64),
        status=pl.Series(["failed" if score is None else "ok" for score in scores]),
        reason=pl.lit(None, pl.String),
    )  # fmt: skip


def test_complexity_by_perplexity_is_the_spread_of_a_prompts_perplexities():
    """2D-Curri-DPO's definition; a prompt with one known perplexity has none; other judges do not count."""
    frames = tables(LADDER)
    judgements = pl.concat([
        judged_by("reader", frames, [2.0, 4.0, 3.0, 3.0, 1.0, 9.0, 5.0, None]),
        judged_by("other", frames, [1.5] * 8),
    ])  # fmt: skip
    made = build_judged(frames, judgements, perplexity="reader", difficulty={"margin": 1.0})
    found = dict(made.pairs.select("prompt_id", "complexity").iter_rows())
    assert [found[key] for key in sorted(found)] == [1.0, 0.0, 4.0, None]


@pytest.mark.parametrize("judge", ["readr", "silent"])
def test_a_perplexity_judge_that_scored_nothing_stops(judge: str):
    frames = tables(LADDER)
    with pytest.raises(ParamsError, match=f"no answer was scored by a judge '{judge}'"):
        build_judged(frames, judged_by("silent", frames, [None] * 8), perplexity=judge)


def test_complexity_is_the_spread_of_a_prompts_rewards():
    made = build(tables(LADDER), difficulty={"complexity": 1.0})
    assert made.pairs["complexity"].to_list() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert made.pairs["difficulty"].to_list() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_phases_cut_the_order_into_equal_parts():
    made = build(by_chance(3), phases=3)
    assert made.pairs["phase"].is_sorted()
    sizes = made.pairs["phase"].value_counts().sort("phase")["count"].to_list()
    assert len(sizes) == 3
    assert max(sizes) - min(sizes) <= 1
    assert made.report["phases"] == {str(i): size for i, size in enumerate(sizes)}


def test_ranks_give_each_prompts_pairs_to_successive_phases_as_curri_dpo_does():
    answers = [
        {"prompt": p, "model": m, "reward": reward}
        for p, rewards in (("p", [1.0, 0.7, 0.4, 0.1]), ("q", [0.9, 0.8, 0.6, 0.2]))
        for m, reward in zip("abcd", rewards, strict=True)
    ]
    made = build(tables(answers), "best-worst", {"count": None}, schedule="ranks", phases=3)
    found = made.pairs.select("phase", "chosen_model", "rejected_model", "margin")
    assert found["chosen_model"].unique().to_list() == ["a"]
    assert found.select("phase", "rejected_model").rows() == [
        (0, "d"),
        (0, "d"),
        (1, "c"),
        (1, "c"),
        (2, "b"),
        (2, "b"),
    ]
    assert found["margin"].to_list() == pytest.approx([0.9, 0.7, 0.6, 0.3, 0.3, 0.1])


def test_grid_walks_from_simple_prompts_with_wide_margins_to_complex_ones_with_narrow_margins():
    simple_wide, simple_narrow = [0.6, 0.0], [0.55, 0.35]
    complex_wide, complex_narrow = [1.0, 0.0, 0.5], [0.9, 0.8, 0.0]
    cases = {"sw": simple_wide, "sn": simple_narrow, "cw": complex_wide, "cn": complex_narrow}
    answers = [
        {"prompt": p, "model": m, "reward": reward, "text": f"{p}{m}"}
        for p, rewards in cases.items()
        for m, reward in zip("abc", rewards, strict=False)
    ]
    made = build(tables(answers), schedule="grid", phases=2)
    walked = made.pairs.group_by("phase", maintain_order=True).agg(
        pl.col("complexity").mean(), pl.col("margin").mean()
    )
    assert made.pairs["phase"].is_sorted()
    assert walked["phase"].to_list() == [0, 1, 2, 3]
    assert walked["complexity"][0] < walked["complexity"][3]
    assert walked["margin"][0] > walked["margin"][3]
    assert walked["margin"][1] > walked["margin"][2]  # of the two middle cells the wider margin comes first


def misbehaving(pair) -> Bound[Pairing]:
    return Bound("mine", Pairing(name="mine", pair=pair), Options(), Origin("mine", "1"))


def test_a_pairing_that_breaks_its_contract_is_named():
    def build_with(pair) -> None:
        curriculum.build(
            *tables([*TWO, TWO[0] | {"model": "c", "reward": 0.5, "text": "c"}]),
            misbehaving(pair),
            CurriculumSection(),
        )

    ok = {"dropped": pl.lit(None, pl.String), "priority": pl.lit(0.0)}
    with pytest.raises(PluginError, match=r"'mine \(mine 1\)' gave no column 'dropped'"):
        build_with(lambda table, context, options: table)
    with pytest.raises(PluginError, match="changed the rows"):
        build_with(lambda table, context, options: table.with_columns(**ok).head(1))
    with pytest.raises(PluginError, match="changed the rows"):
        build_with(lambda table, context, options: table.with_columns(**ok).reverse())
    with pytest.raises(PluginError, match="no priority"):
        build_with(lambda table, context, options: table.with_columns(**(ok | {"priority": pl.lit(None)})))


def test_a_pairing_sees_the_candidates_and_the_acting_kinship():
    seen = {}

    def look(table, context, options):
        seen.update(schema=table.schema, kinship=context.kinship, seed=context.seed, target=context.target)
        return pairing("random").plugin.pair(table, context, options)

    curriculum.build(
        *tables(TWO, {("a", "b"): 0.5}), misbehaving(look), CurriculumSection(seed=3, target="a")
    )
    assert seen["schema"] == schemas.CANDIDATES
    assert (seen["seed"], seen["target"], seen["kinship"].height) == (3, "a", 1)


def test_points_of_a_plot():
    found = curriculum.points(build(tables(LADDER)).pairs)
    assert found.columns == ["order", "phase", "difficulty", "margin", "kinship"]
    assert found.height == 4


def test_equal_difficulties_are_said_and_not_ordered_in_silence():
    """Labels alone: every chosen answer has reward 1, every rejected one 0."""
    rows = [
        {"prompt": f"p{i}", "model": model, "reward": reward}
        for i in range(40)
        for model, reward in (("a", 1.0), ("b", 0.0))
    ]
    with pytest.warns(
        UserWarning, match="40 of 40 pairs are equally difficult, so that their order is chance"
    ):
        made = build(tables(rows))
    assert made.report["same_difficulty"] == 40
    assert "40 of 40 pairs are equally difficult" in card(made, CurriculumSection(), Provenance())
    rows = [row | {"reward": row["reward"] * (i + 1) / 80} for i, row in enumerate(rows)]
    told = build(tables(rows))
    assert told.report["same_difficulty"] == 1
    assert "equally difficult" not in card(told, CurriculumSection(), Provenance())


def test_the_card_says_how_often_label_and_score_disagree():
    made = build(tables(TWO))
    row = {
        "measure": "opposite_order",
        "judge": "label",
        "detail": "score",
        "value": 1 / 6,
        "n": 300,
        "fair": 0.0,
    }
    bias = pl.DataFrame([row], schema=schemas.BIAS.columns)
    text = card(made, CurriculumSection(), Provenance(judges={"label": "1"}, bias=bias))
    assert "`label` and `score` prefer opposite answers in 16.7% of 300 pairs" in text


def test_what_others_wrote_is_text_in_the_card_and_nothing_else():
    evil = "<script>alert(1)</script> [x](javascript:y) ![](http://spy) | a"
    made = build(tables(TWO))
    pairs = made.pairs.with_columns(chosen_model=pl.lit(evil))
    told = Provenance(judges={evil: evil}, licences={evil: "mit"})
    text = card(replace(made, pairs=pairs), CurriculumSection(), told)
    assert "<script" not in text
    assert "](javascript" not in text
    assert "![" not in text
    assert html.unescape(text).count(evil) == 4
