from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from karma_plugins import prompts, schemas
from karma_plugins.errors import TableError
from karma_plugins.texts import filters
from tests.curriculum.curriculum_cases import build, tables


def asked(*texts: str, splits: Sequence[str] = ()) -> pl.DataFrame:
    """Table prompts of single user messages."""
    rows = [
        {
            "prompt_id": prompts.prompt_id([{"role": "user", "content": text}]),
            "messages": [{"role": "user", "content": text}],
            "competency": "knowledge",
            "split": splits[i] if splits else "train",
        }
        for i, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, schema=schemas.PROMPTS.columns)


def overlaps(texts: Sequence[str], items: Sequence[str], ngram: int) -> list[float]:
    """The overlap of each text, in the order given."""
    table = asked(*texts)
    found = dict(filters.overlap(table, items, ngram=ngram).iter_rows())
    return [found[i] for i in table["prompt_id"]]


def share(text: str, items: Sequence[str], n: int) -> float:
    """The overlap by plain sets."""

    def runs(text: str) -> list[tuple[str, ...]]:
        words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
        return [tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))] if words else []

    known = {run for item in items for run in runs(item)}
    mine = runs(text)
    return sum(run in known for run in mine) / len(mine) if mine else 0.0


@pytest.mark.parametrize("ngram", [1, 2, 3, 5, 13])
def test_overlap_is_the_share_of_runs_of_words_that_an_item_holds(ngram: int):
    items = ["The quick brown fox jumps over the lazy dog.", "Größe und Gewicht!", "", "one two"]
    texts = [
        "the QUICK brown fox, jumps over the lazy dog",
        "A quick brown fox jumps over a lazy dog near the river bank",
        "größe und gewicht",
        "two one two one two",
        "one two",
        "fox",
        "?!",
        "nothing of it here",
    ]
    assert overlaps(texts, items, ngram) == pytest.approx([share(text, items, ngram) for text in texts])


def test_all_user_messages_of_a_prompt_count_and_no_others():
    messages = [
        {"role": "system", "content": "alpha beta gamma"},
        {"role": "user", "content": "one two three"},
        {"role": "assistant", "content": "delta epsilon zeta"},
        {"role": "user", "content": "four five six"},
    ]
    table = asked("x").with_columns(messages=pl.Series([messages], dtype=schemas.MESSAGES))
    for item, expected in (
        ("alpha beta gamma delta epsilon zeta", 0.0),
        ("one two three", 1 / 4),
        ("four five six", 1 / 4),
    ):
        assert filters.overlap(table, [item], ngram=3)["overlap"].to_list() == [expected]


def test_training_prompts_seen_in_evaluation_are_dropped_and_held_out_ones_stay():
    question = "What is the capital of the country that borders both France and Portugal"
    table = asked(
        question + "?",
        "Tell me a story about a dog.",
        question + ", I wonder",
        splits=["train", "train", "heldout"],
    )
    kept, dropped = filters.drop_seen(table, [question], ngram=8, share=0.5)
    assert kept.equals(table[1:])
    assert dropped.to_dicts() == [{"prompt_id": table["prompt_id"][0], "overlap": 1.0}]
    nothing, none = filters.drop_seen(table, [], ngram=8, share=0.0)
    assert nothing.equals(table)
    assert none.is_empty()


def test_items_are_read_from_every_kind_of_file(tmp_path: Path):
    nested = {"question": "q1", "choices": ["a", "b"], "answer": 1, "messages": [{"content": "c"}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(nested) + "\n\n" + json.dumps({"question": "q2"}) + "\n")
    (tmp_path / "b.json").write_text(json.dumps([nested]))
    (tmp_path / "c.txt").write_text("line one\n\nline two\n")
    pl.DataFrame({"q": ["x", None], "n": [1, 2]}).write_parquet(tmp_path / "d.parquet")
    (tmp_path / "e.csv").write_text("q,n\ny,1\n")
    assert filters.read_items(tmp_path / "a.jsonl") == ["q1", "a", "b", "c", "q2"]
    assert filters.read_items(tmp_path / "b.json") == ["q1", "a", "b", "c"]
    assert filters.read_items(tmp_path / "c.txt") == ["line one", "line two"]
    assert filters.read_items(tmp_path / "e.csv") == ["y", "1"]


@pytest.mark.parametrize(
    ("name", "text"), [("a.jsonl", "{broken"), ("b.bin", "x"), ("c.parquet", "x"), ("d.json", None)]
)
def test_items_that_cannot_be_read_are_named(tmp_path: Path, name: str, text: str | None):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(TableError, match=name):
        filters.read_items(tmp_path / name)


def test_languages_are_counted_and_the_count_repeats():
    texts = pl.Series([
        "Where was the second meeting of the council held last year?",
        "How many apples are left in the basket when three are taken?",
        "Wo fand im letzten Jahr die zweite Sitzung des Rates statt?",
        "1 + 1 =",
    ])  # fmt: skip
    assert filters.languages(texts) == {"en": 2, "de": 1, "unknown": 1}
    assert filters.languages(texts) == filters.languages(texts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m sorry but that is not possible", True),
        ("As an AI language model, I have no opinions.", True),
        ("Sure! I cannot provide more, but here it is.", True),
        ("Paris is the capital of France.", False),
        ("She said she was sorry.", False),
        ("x" * 300 + " I cannot help with that.", False),
        (None, None),
    ],
)
def test_refusals(text: str | None, expected: bool | None):
    frame = pl.DataFrame({"text": [text]}, schema={"text": pl.String})
    assert frame.select(filters.refuses(pl.col("text"))).item() is expected


def test_lengths_and_refusals_of_pairs_stand_in_the_curriculums_report():
    made = build(
        tables([
            {"prompt": "p", "model": "a", "reward": 1.0, "text": "a long answer"},
            {"prompt": "p", "model": "b", "reward": 0.0, "text": "I cannot help you with it."},
            {"prompt": "q", "model": "a", "reward": 1.0, "text": "longer"},
            {"prompt": "q", "model": "b", "reward": 0.0, "text": "short"},
        ])
    )  # fmt: skip
    assert made.report["texts"] == {
        "chosen": {"least": 6, "quarter": 6, "median": 6, "three_quarters": 6, "greatest": 13},
        "rejected": {"least": 5, "quarter": 5, "median": 5, "three_quarters": 5, "greatest": 26},
        "refusals": {"chosen": 0, "rejected": 1},
        "chosen_longer": 0.5,
    }
