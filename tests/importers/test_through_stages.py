"""Imported preference sets go through the stages to pairs: nothing is generated, nothing is judged anew."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from karma_plugins import tables
from karma_plugins.importers import RecordedFolder
from karma_plugins.importers.layouts import ultrafeedback
from karma_plugins.schemas import PAIRS
from tests import recorded_pipeline
from tests.importers.reading import imported


def pairs(
    found: RecordedFolder, folder: Path, repository: Path, judges: list[str], **curriculum: Any
) -> pl.DataFrame:
    """Table `pairs` that the stages make of an import, with the block of models that the import wrote."""
    with recorded_pipeline.inside(folder, repository):
        found.write(Path("imported"))
        models = yaml.safe_load(Path("imported/models.yaml").read_text())["models"]
        settings = {
            "prompts": {"path": "imported/prompts.jsonl"},
            "models": models,
            "profile": {"profiler": "recorded"},
            "kinship": {"metric": "capability"},
            "generate": {"samples": 1},
            "judge": {"judges": {j: {"plugin": "recorded", "reads": "imported/verdicts"} for j in judges}},
            "jury": {},
            "curriculum": curriculum,
        }
        commands = [
            "python -m stages.prompts",
            *(f"python -m stages.profile {model}" for model in models),
            "python -m stages.kinship",
            *(f"python -m stages.generate {model}" for model in models),
            *(f"python -m stages.judge {judge}" for judge in judges),
            "python -m stages.jury",
            "python -m stages.curriculum",
        ]
        recorded_pipeline.run(commands, settings)
        return tables.read("data/pairs/data/train.parquet", PAIRS)


def completion(model: str, number: int, rating: str) -> dict[str, Any]:
    annotations = {aspect: {"Rating": rating} for aspect in ultrafeedback.ASPECTS}
    return {
        "model": model,
        "response": f"{model} says {number}",
        "annotations": annotations,
        "overall_score": 10,
    }


@pytest.mark.filterwarnings("ignore:judge 'honesty'")
def test_ultrafeedback_pairs_kin_by_their_ratings(tmp_path: Path, repository: Path) -> None:
    """Models a and b are alike in all aspects, c is not; N/A leaves an answer without one of its judges."""
    ratings = {"a": (4, 5), "b": (5, 4), "c": (1, 1)}
    records: list[dict[str, Any]] = [
        {
            "instruction": f"Question {i}?",
            "completions": [completion(model, i, str(rating[i % 2])) for model, rating in ratings.items()],
        }
        for i in range(4)
    ]
    records[0]["completions"][0]["annotations"]["honesty"]["Rating"] = "N/A"
    source = tmp_path / "x.json"
    source.write_text(json.dumps(records))
    found = pairs(
        imported("ultrafeedback", source), tmp_path, repository, list(ultrafeedback.ASPECTS),
        pairing="kin", pairings={"kin": {"radius": 0.2}},
    )  # fmt: skip
    assert set(found.select("chosen_model", "rejected_model").rows()) == {("a", "b"), ("b", "a")}
    # Question 0 gives none: the judges of its two kin answers differ, as one rating is N/A.
    assert found.height == 3
    assert found["margin"].to_list() == [0.25] * 3


def test_hh_pairs_stay_as_they_are(tmp_path: Path, repository: Path) -> None:
    turns = "\n\nHuman: {i}?\n\nAssistant: So {i}.\n\nHuman: And?\n\nAssistant: "
    records = [
        {"chosen": turns.format(i=i) + f"good {i}", "rejected": turns.format(i=i) + f"bad {i}"}
        for i in range(5)
    ]
    source = tmp_path / "x.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = pairs(imported("hh-rlhf", source), tmp_path, repository, ["human"], pairing="random")
    said = [(c[0]["content"], r[0]["content"]) for c, r in found.select("chosen", "rejected").iter_rows()]
    assert sorted(said) == [(f"good {i}", f"bad {i}") for i in range(5)]
    assert all(len(prompt) == 3 for prompt in found["prompt"])
    assert found["kinship"].null_count() == 5


def test_binarized_pairs_go_from_easy_to_hard_and_the_label_decides_between_equal_scores(
    tmp_path: Path, repository: Path
) -> None:
    scores = [(9.0, 8.0), (10.0, 1.0), (7.0, 7.0), (6.0, 3.0), (2.0, 5.0)]
    records = [
        {
            "prompt": f"{i}?",
            "chosen": f"good {i}",
            "rejected": f"bad {i}",
            "score_chosen": high,
            "score_rejected": low,
        }
        for i, (high, low) in enumerate(scores)
    ]
    source = tmp_path / "x.json"
    source.write_text(json.dumps(records))
    found = pairs(
        imported("ultrafeedback-binarized", source),
        tmp_path,
        repository,
        ["label", "score"],
        pairing="random",
    )
    assert [prompt[0]["content"] for prompt in found["prompt"]] == ["1?", "3?", "0?", "2?", "4?"]


def area_under_curve(values: pl.Series, positive: pl.Series) -> float:
    """The chance that a positive row has the greater value than a negative one; ties count half."""
    ranks = values.rank("average")
    ones, zeros = int(positive.sum()), int((~positive).sum())
    return (float(ranks.filter(positive).sum()) - ones * (ones + 1) / 2) / (ones * zeros)


def test_label_and_score_together_find_the_flipped_labels(tmp_path: Path, repository: Path) -> None:
    """300 pairs, 50 of them labelled the wrong way round; the scores are noisy but know nothing of labels."""
    rng = random.Random(7)
    flipped = set(rng.sample(range(300), 50))
    records = []
    for i in range(300):
        good, bad = (min(10.0, max(1.0, rng.gauss(mean, 1.6))) for mean in (8, 4))
        sides = [("right", good), ("wrong", bad)]
        chosen, rejected = sides[::-1] if i in flipped else sides
        records.append(
            {
                "prompt": f"{i}?", "chosen": f"{chosen[0]} {i}", "rejected": f"{rejected[0]} {i}",
                "score_chosen": chosen[1], "score_rejected": rejected[1],
            }
        )  # fmt: skip
    source = tmp_path / "x.json"
    source.write_text(json.dumps(records))
    folder = imported("ultrafeedback-binarized", source)
    table = pairs(folder, tmp_path, repository, ["label", "score"], pairing="random")
    number = pl.col("prompt").list.last().struct.field("content").str.strip_suffix("?").cast(pl.Int64)
    is_flipped = table.select(number.is_in(sorted(flipped))).to_series()
    by_difficulty = area_under_curve(table["difficulty"], is_flipped)
    by_disagreement = area_under_curve(table["disagreement"], is_flipped)
    assert table.height == 300
    assert by_difficulty > 0.98, f"AUC of difficulty {by_difficulty:.3f}"
    assert by_disagreement > 0.93, f"AUC of disagreement {by_disagreement:.3f}"
    text = Path(tmp_path, "data/pairs/README.md").read_text(encoding="utf-8")
    assert "`label` and `score` prefer opposite answers in" in text


def test_aspects_find_ultrafeedback_s_wrong_overall_scores(tmp_path: Path, repository: Path) -> None:
    """In 30 of 200 prompts the bad answer has an overall score of 10 that its aspects contradict."""
    rng = random.Random(7)
    wrong = set(rng.sample(range(200), 30))
    records = []
    for i in range(200):
        completions = []
        for model, mean in (("good", 4.3), ("bad", 2.2)):
            rating = min(5, max(1, round(rng.gauss(mean, 0.5))))
            overall = (
                10 if model == "bad" and i in wrong else min(10, max(1, rating * 2 + rng.choice((-1, 0, 1))))
            )
            annotations = {aspect: {"Rating": str(rating)} for aspect in ultrafeedback.ASPECTS}
            completions.append(
                {
                    "model": model,
                    "response": f"{model} {i}",
                    "annotations": annotations,
                    "overall_score": overall,
                }
            )
        records.append({"instruction": f"{i}?", "completions": completions})
    source = tmp_path / "x.json"
    source.write_text(json.dumps(records))
    judges = ["helpfulness", ultrafeedback.OVERALL]
    table = pairs(imported("ultrafeedback", source), tmp_path, repository, judges, pairing="random")
    number = pl.col("prompt").list.last().struct.field("content").str.strip_suffix("?").cast(pl.Int64)
    is_wrong = table.select(number.is_in(sorted(wrong))).to_series()
    by_disagreement = area_under_curve(table["disagreement"], is_wrong)
    by_difficulty = area_under_curve(table["difficulty"], is_wrong)
    assert by_disagreement > 0.95 and by_difficulty > 0.85
