"""The world's items: right answers, and sets that share nothing they should not share."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from karma_plugins.zoo import ZooSettings
from karma_plugins.zoo.world import Item, World, build_world


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(ZooSettings(lessons=800))


def test_no_question_is_in_two_sets(world: World) -> None:
    for competency in ("knowledge", "reasoning", "instruction"):
        sets = [{item.question for item in items[competency]} for items in world.splits.values()]
        assert all(a.isdisjoint(b) for a, b in combinations(sets, 2))


def test_lessons_and_sets_share_no_combination_of_numbers_in_any_order(world: World) -> None:
    def combined(items: list[Item]) -> set[tuple[str, ...]]:
        return {(re.sub(r"[ ]?\d+", "", i.question), *sorted(re.findall(r"\d+", i.question))) for i in items}

    sets = [world.lessons["reasoning"], *(items["reasoning"] for items in world.splits.values())]
    found = [combined(items) for items in sets]
    assert all(a.isdisjoint(b) for a, b in combinations(found, 2))
    assert [len(some) for some in found[1:]] == [len(items) for items in sets[1:]]
    assert all({some[0] for some in kinds} == {some[0] for some in found[0]} for kinds in found)


def test_lessons_and_sets_share_no_word_that_is_to_be_formatted(world: World) -> None:
    for competency in ("reasoning", "instruction"):
        taught = {item.question for item in world.lessons[competency]}
        asked = {item.question for items in world.splits.values() for item in items[competency]}
        assert taught.isdisjoint(asked)

    def words(questions: set[str]) -> set[str]:
        return {word for question in questions for word in re.findall(r"\b[a-z]+\b", question)} - set(
            world.words
        )

    asked = [world.lessons, *world.splits.values()]
    sets = [words({item.question for item in items["instruction"]}) for items in asked]
    assert all(sets)
    assert all(a.isdisjoint(b) for a, b in combinations(sets, 2))


def test_heldout_asks_facts_of_train_in_wordings_that_train_does_not_hold(world: World) -> None:
    def wordings(split: str) -> set[str]:
        items = world.splits[split]["knowledge"]  # type: ignore[index]
        return {re.sub(rf"\b(?:{'|'.join(names)})\b", "_", item.question) for item in items}

    names = [word for word in world.words if word[0].isupper() and len(word) > 3 and word not in OPENINGS]
    assert wordings("train").isdisjoint(wordings("heldout"))
    assert all("_" in wording for wording in wordings("heldout"))


OPENINGS = {"Name", "Sort", "What", "Where", "Which", "Write"}


def test_reasoning_answers_are_right(world: World) -> None:
    for items in (world.lessons, *world.splits.values()):
        for item in items["reasoning"]:
            numbers = [int(n) for n in re.findall(r"\d+", item.question)]
            if "plus" in item.question:
                expected = str(sum(numbers))
            elif "minus" in item.question:
                expected = str(numbers[0] - numbers[1])
            elif "larger" in item.question:
                expected = str(max(numbers))
            else:
                expected = " ".join(map(str, sorted(numbers)))
            assert item.answer == expected


def test_a_fact_has_one_answer_in_every_wording(world: World) -> None:
    answers = {item.question: item.answer for item in world.lessons["knowledge"]}
    for items in world.splits.values():
        assert all(answers[item.question] == item.answer for item in items["knowledge"])


def test_instruction_answers_follow_the_format(world: World) -> None:
    answers = {
        item.question.replace(
            item.question.rstrip(".").split()[-1 if "letter" in item.question else 1], "_"
        ): item
        for item in world.lessons["instruction"]
    }
    assert len(answers) == 8
    for wording, item in answers.items():
        word = item.question.rstrip(".").split()[-1 if "letter" in wording else 1]
        expected = {
            "Write _ in capitals.": word.upper(),
            "Write _ backwards.": word[::-1],
            "Write _ with dashes.": "-".join(word),
            "Write _ twice.": f"{word} {word}",
            "Write _ in brackets.": f"[{word}]",
            "Write _ twice in capitals.": f"{word.upper()} {word.upper()}",
            "Write _ with dashes in brackets.": f"[{'-'.join(word)}]",
            "Write the first letter of _.": word[0],
        }
        assert item.answer == expected[wording]


def test_options_are_distinct_and_hold_the_answer(world: World) -> None:
    for items in world.splits.values():
        for item in (*items["knowledge"], *items["reasoning"]):
            assert item.answer in item.options
            assert len(set(item.options)) == len(item.options) >= 2
        assert not any(item.options for item in items["instruction"])


def test_another_seed_makes_another_world(world: World) -> None:
    assert build_world(ZooSettings(seed=8, lessons=800)).splits != world.splits
    assert build_world(ZooSettings(lessons=800)) == world
