"""Odd values anywhere in a record end as a count or as one line, whatever the layout."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from karma_plugins.errors import KarmaError
from karma_plugins.importers import RecordedFolder
from tests.importers.reading import imported, written
from tests.importers.test_layouts import SAMPLES

KEY = f"{'a' * 16}.{'b' * 16}.{'c' * 16}"
PEOPLE: dict[str, list[dict[str, Any]]] = {
    "label-studio": [{
        "id": 1, "data": {"task_key": KEY}, "annotations": [
            {"completed_by": {"id": 1}, "was_cancelled": False,
             "result": [{"type": "choices", "value": {"choices": ["Answer 1"]}}]},
        ],
    }],
    "argilla": [{
        "id": KEY,
        "responses": {"preference": [{"value": "answer_1", "user_id": "u", "status": "submitted"}]},
        "preference.responses": ["tie"], "preference.responses.users": ["v"],
        "preference.responses.status": ["submitted"],
    }],
}  # fmt: skip
ODD: list[Any] = [
    None, True, 0, -1, 3.5, 10**300, float("nan"), float("inf"), "", " ", "x", "-", "\u2028", "a\nb: c",
    "9" * 400,
    [], {}, [[]], [None], [{}], {"a": None}, {"role": "user"}, [{"role": "user", "content": None}],
    [{"role": "assistant", "content": "x"}], ["x", 5], "\n\nHuman: x", '["x"', "[" * 600,
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested lists and mappings."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


def changed(record: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The record with another value at a place, or without it where the value is Ellipsis."""
    record = copy.deepcopy(record)
    target = record
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return record


def attempt(name: str, records: list[Any], source: Path) -> RecordedFolder | str:
    """What an importer makes of records, or its error's text."""
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    try:
        return imported(name, source)
    except KarmaError as error:
        return str(error)


@pytest.mark.parametrize("name", [*SAMPLES, *PEOPLE])
def test_one_odd_value_anywhere(tmp_path: Path, name: str) -> None:
    good = (SAMPLES | PEOPLE)[name]
    rng = random.Random(name)
    tried = 0
    for path in places(good):
        for value in [..., *rng.sample(ODD, 8)] if len(path) > 1 else []:
            tried += 1
            made = attempt(name, changed(good, path, value), tmp_path / "x.jsonl")
            if isinstance(made, str):
                assert len(made.splitlines()) == 1
            elif tried % 20 == 0 and name not in PEOPLE:
                written(made, tmp_path / "out")
    assert tried >= 18


@pytest.mark.parametrize("name", [*SAMPLES, *PEOPLE])
def test_many_odd_values_and_good_records_between(tmp_path: Path, name: str) -> None:
    """What is good beside the bad arrives."""
    good = (SAMPLES | PEOPLE)[name]
    rng = random.Random(name)
    records = []
    for _ in range(60):
        record = copy.deepcopy(rng.choice(good))
        for _ in range(rng.randint(1, 4)):
            options = [path for path in places(record) if path]
            if options:
                record = changed(record, rng.choice(options), rng.choice([..., *ODD]))
        records.append(record)
    made = attempt(name, [*records, *good], tmp_path / "x.jsonl")
    if isinstance(made, str):
        assert "would both be named" in made or "own parent" in made
        return
    made.write(tmp_path / "out")
    assert made.comparisons().height or made.judgements().height


#: Why each importer of pairs drops a record; a record is dropped for one reason alone.
DROPPED = {
    "trl": (
        "records_without_pair", "pairs_without_an_answer_at_the_end", "pairs_with_different_prompts",
        "pairs_with_unusable_prompts", "pairs_without_common_prompt", "pairs_with_empty_answer",
        "pairs_with_identical_answers",
    ),
    "hh-rlhf": (
        "records_without_pair", "pairs_with_unbalanced_dialogue", "pairs_with_different_prompts",
        "pairs_with_empty_answer", "pairs_with_identical_answers",
    ),
    "shp": (
        "records_without_pair", "pairs_without_label", "pairs_with_empty_answer",
        "pairs_with_identical_answers",
    ),
    "arena": ("records_without_pair", "pairs_with_different_prompts", "pairs_with_identical_answers"),
    "helpsteer3": (
        "records_without_usable_prompt", "records_without_response", "pairs_with_identical_answers",
    ),
    "unpaired": ("records_without_usable_prompt", "records_without_completion"),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", DROPPED)
def test_what_is_given_is_kept_or_dropped_for_a_reason(tmp_path: Path, name: str, seed: int) -> None:
    """Records given = verdicts kept + verdicts repeated + records dropped by reason."""
    kin = ("trl", "tulu3", "skywork", "ultrafeedback-binarized") if name == "trl" else (name,)
    good = [record for layout in kin for record in SAMPLES[layout]]
    rng = random.Random(seed)
    records = [*good]
    for _ in range(rng.randint(0, 80)):
        record = copy.deepcopy(rng.choice(good))
        for _ in range(rng.randint(0, 3)):
            options = [path for path in places(record) if path]
            if options:
                record = changed(record, rng.choice(options), rng.choice([..., *ODD]))
        records.append(record)
    rng.shuffle(records)
    made = attempt(name, records, tmp_path / "x.jsonl")
    if isinstance(made, str):
        assert "would both be named" in made
        return
    dropped = sum(made.counts[reason] for reason in DROPPED[name])
    kept = made.comparisons().height
    if name == "unpaired":
        kept = made.judgements().height
    repeated = sum(statuses["repeated"] for judge, statuses in made.judges.items() if judge != "score")
    assert kept + repeated + dropped == len(records)
