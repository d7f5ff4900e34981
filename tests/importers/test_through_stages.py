"""Imported preference sets go through the stages to pairs: nothing is generated, nothing is judged anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from karma_plugins import tables
from karma_plugins.importers import hh_rlhf, ultrafeedback, ultrafeedback_binarized
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.schemas import PAIRS
from tests import recorded_pipeline


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
        ultrafeedback.read(source), tmp_path, repository, list(ultrafeedback.ASPECTS),
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
    found = pairs(hh_rlhf.read(source), tmp_path, repository, ["human"], pairing="random")
    said = [(c[0]["content"], r[0]["content"]) for c, r in found.select("chosen", "rejected").iter_rows()]
    assert sorted(said) == [(f"good {i}", f"bad {i}") for i in range(5)]
    assert all(len(prompt) == 3 for prompt in found["prompt"])
    assert found["kinship"].null_count() == 5


@pytest.mark.filterwarnings("ignore:judge 'ultrafeedback'")
def test_binarized_pairs_go_from_easy_to_hard_and_ties_drop_out(tmp_path: Path, repository: Path) -> None:
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
        ultrafeedback_binarized.read(source), tmp_path, repository, ["ultrafeedback"], pairing="random"
    )
    assert [prompt[0]["content"] for prompt in found["prompt"]] == ["1?", "3?", "0?"]
