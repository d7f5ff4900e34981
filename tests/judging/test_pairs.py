"""Which pairs a pairwise judge is asked about: of kin models, few to a prompt, spread over the answers."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest

from karma_plugins.judging import answers
from karma_plugins.judging.answers import chunks, index, with_texts
from karma_plugins.judging.pairs import kin_models, kin_pairs, pairs
from karma_plugins.params import JudgeEntry
from tests.judging import jury_cases as cases

MODELS = tuple("abcdefgh")


def pool(prompts: int = 5) -> pl.DataFrame:
    return cases.responses((f"p{i:04d}", m, f"{m} says {i}") for i in range(prompts) for m in MODELS)


def chosen(responses: pl.DataFrame, kin: pl.DataFrame | None = None, **entry: object) -> pl.DataFrame:
    prompts = cases.prompts(5)
    shown = with_texts(index(responses), prompts, responses)
    return pairs(shown, kin, JudgeEntry(both_orders=False, **entry))


def taken(table: pl.DataFrame) -> list[Counter[str]]:
    """By prompt, how many pairs each answer stands in."""
    return [Counter([*rows["response_a"], *rows["response_b"]]) for _, rows in table.group_by("prompt_id")]


@pytest.mark.parametrize("most", [1, 3, 4, 6, 8, 11, 28, 100])
def test_so_many_to_a_prompt_spread_over_its_answers(most: int) -> None:
    for counts in taken(chosen(pool(), compare_per_prompt=most)):
        assert sum(counts.values()) == 2 * min(most, 28)
        every = [counts[answer] for answer in counts] + [0] * (len(MODELS) - len(counts))
        assert max(every) - min(every) <= (1 if most in (4, 8, 28, 100) else 2)


def test_null_takes_every_pair() -> None:
    assert chosen(pool(), compare_per_prompt=None).height == 5 * 28


def test_the_seed_decides_and_the_order_of_rows_does_not() -> None:
    first = chosen(pool(), compare_per_prompt=3)
    assert chosen(pool().sample(fraction=1, shuffle=True, seed=1), compare_per_prompt=3).equals(first)
    assert not chosen(pool(), compare_per_prompt=3, compare_seed=1).equals(first)


def test_other_prompts_change_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = chosen(pool(), compare_per_prompt=3)
    alone = chosen(pool().filter(prompt_id="p0003"), compare_per_prompt=3)
    ids = ["prompt_id", "response_a", "response_b"]
    assert alone.select(ids).equals(whole.filter(prompt_id="p0003").select(ids))


def test_only_kin_are_formed_and_a_model_is_kin_to_itself() -> None:
    twice = pl.concat([pool(), pool().with_columns(sample=pl.lit(1, pl.Int64), text=pl.lit("other"),
                                                   response_id=pl.col("response_id") + "x")])  # fmt: skip
    kinship = cases.kinship({("a", "b"): 0.9, ("a", "c"): 0.2, ("b", "c"): None}, sums={("b", "c"): 0.8})
    kin = kin_models(kinship, twice["model"], pl.Series(["sums"]), 0.3)
    table = chosen(twice, kin, compare_per_prompt=None)
    model = dict(twice.select("response_id", "model").iter_rows())
    met = {frozenset((model[a], model[b])) for a, b in table.select("response_a", "response_b").iter_rows()}
    assert met == {frozenset("ab"), frozenset("bc"), *(frozenset((m,)) for m in MODELS)}
    elsewhere = kin_models(kinship, twice["model"], pl.Series(["rhymes"]), 0.3)
    assert not elsewhere.filter(competency="rhymes", model="b", model_b="c").height


def test_pairs_that_nobody_is_asked_about_come_last() -> None:
    texts = [("p0000", "a", "4"), ("p0000", "b", "4"), ("p0000", "c", None), ("p0000", "d", "5")]
    table = chosen(cases.responses(texts), compare_per_prompt=2)
    assert table["unfit"].to_list() == [None, None]
    table = chosen(cases.responses(texts), compare_per_prompt=3)
    assert sorted(table["unfit"].fill_null("")) == ["", "", "identical answers"]


def test_chunks_hold_whole_prompts_and_change_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(asked: list[object], _: object) -> list[float]:
        return [len(p.a.text + p.a.prompt_id) % 5 / 4 for p in asked]

    jury = [
        cases.juror("pairs", compare=compare),
        cases.juror("points", score=lambda asked, _: [len(a.text) % 7 / 7 for a in asked]),
    ]
    whole = cases.judge(cases.prompts(5), pool(), None, jury, cases.settings(compare_per_prompt=3))
    monkeypatch.setattr(answers, "CHUNK", 20)
    monkeypatch.setattr(answers, "CHUNK_PAIRS", 30)
    cut = list(chunks(index(pool())))
    assert [chunk.height for chunk in cut] == [8] * 5
    again = cases.judge(cases.prompts(5), pool().lazy(), None, jury, cases.settings(compare_per_prompt=3))
    for table in ("judgements", "comparisons", "rewards", "bias"):
        assert getattr(again, table).equals(getattr(whole, table)), table


@pytest.mark.parametrize(
    "entry", [{}, {"compare_per_prompt": None}, {"compare_per_prompt": 2, "both_orders": False}]
)
@pytest.mark.parametrize("radius", [0.3, 1.0])
def test_the_forecast_is_the_number_of_comparisons(entry: dict[str, object], radius: float) -> None:
    kinship = cases.kinship({("a", "b"): 0.9, ("a", "c"): 0.2, ("b", "c"): None}, sums={("b", "c"): 0.8})
    settings = JudgeEntry(kin_radius=radius, **entry)
    prompts = cases.prompts(5)
    kin = kin_models(kinship, pl.Series(MODELS), prompts["competency"], radius) if radius < 1 else None
    rows = pairs(with_texts(index(pool()), prompts, pool()), kin, settings)
    assert kin_pairs(prompts["competency"], MODELS, 1, kinship, settings) == rows.height
