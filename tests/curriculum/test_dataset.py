from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

import polars as pl
import pytest
import yaml

from karma_plugins import schemas, tables
from karma_plugins.curriculum import Curriculum, dataset
from karma_plugins.curriculum.card import Provenance
from karma_plugins.params import CurriculumSection
from karma_plugins.staging import hashes
from tests.curriculum.curriculum_cases import build, by_chance

SETTINGS = CurriculumSection(
    pairing="kin", phases=2, licence="cc-by-4.0", difficulty={"margin": 1, "kinship": 0.5}
)


@pytest.fixture(scope="module")
def made() -> Curriculum:
    return build(by_chance(0), "kin", {"radius": 0.6}, phases=2, difficulty=dict(SETTINGS.difficulty))


@pytest.fixture
def folder(made: Curriculum, tmp_path: Path) -> Path:
    provenance = Provenance(
        hashes={"data/prompts.parquet": "0123abcd"},
        judges={"reference": "reference (karma-plugins 0.1.0)"},
        bias=pl.DataFrame({"judge": ["reference"], "bias": ["length"], "value": [0.5312345]}),
        licences={"prompts": "apache-2.0"},
        notes=["Answers were recorded."],
    )
    dataset.write(made, tmp_path, SETTINGS, provenance)
    return tmp_path


def card(folder: Path) -> tuple[dict, str]:
    """Front matter and body of a card."""
    _, front, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


def test_datasets_loads_the_folder_in_the_order_of_the_curriculum(
    made: Curriculum, folder: Path, tmp_path_factory
):
    from datasets import load_dataset

    loaded = load_dataset(str(folder), split="train", cache_dir=str(tmp_path_factory.mktemp("cache")))

    assert loaded["order"][:] == list(range(made.pairs.height))
    assert loaded.column_names == schemas.PAIRS.columns.names()
    assert loaded[0]["chosen"] == made.pairs["chosen"][0].to_list()
    assert tables.read(folder / dataset.TRAIN, schemas.PAIRS).equals(made.pairs)


def test_trl_trains_on_the_loaded_dataset_as_it_is(folder: Path, tmp_path: Path, tmp_path_factory):
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from tests.tiny import write_model

    weights = write_model(tmp_path / "model")
    pairs = load_dataset(str(folder), split="train[:4]", cache_dir=str(tmp_path_factory.mktemp("cache")))
    arguments = DPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=2, report_to="none",
        use_cpu=True, save_strategy="no", disable_tqdm=True, bf16=False,
    )  # fmt: skip
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(weights), args=arguments, train_dataset=pairs,
        processing_class=AutoTokenizer.from_pretrained(weights),
    )  # fmt: skip
    assert trainer.train().global_step == 1


def test_the_front_matter_is_what_the_hub_reads(folder: Path):
    front, _ = card(folder)
    assert front["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train.parquet"}]}
    ]
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["n<1K"]


def test_the_card_says_what_the_data_is_made_of(made: Curriculum, folder: Path):
    _, body = card(folder)
    report = made.report["pairs"]
    for column in made.pairs.columns:
        assert f"| `{column}` |" in body
    for reason, count in report["dropped"].items():
        assert f"| {reason} | {-count} |" in body
    assert f"| kept | {report['kept']} |" in body
    for model in made.pairs["chosen_model"].unique():
        chosen = made.pairs.filter(pl.col("chosen_model") == model).height
        rejected = made.pairs.filter(pl.col("rejected_model") == model).height
        assert f"| {model} | {chosen} | {rejected} |" in body
    assert "| reference | length | 0.5312 |" in body
    assert "| data/prompts.parquet | `0123abcd` |" in body
    assert "| prompts | apache-2.0 |" in body
    assert "difficulty weighs kinship 0.5, margin 1" in body
    assert "- Answers were recorded." in body


def test_histograms_count_every_pair_once(made: Curriculum, folder: Path):
    rows = [
        line.strip("| ").split(" | ")
        for line in card(folder)[1].splitlines()
        if " to 0." in line or " to 1." in line
    ]
    assert len(rows) == 10
    assert sum(int(row[1]) for row in rows) == made.pairs.height
    assert sum(int(row[2]) for row in rows) == made.pairs["kinship"].count()


def test_equal_input_gives_equal_bytes_and_unknown_origins_are_said(made: Curriculum, tmp_path: Path):
    for name in ("one", "two"):
        dataset.write(made, tmp_path / name, CurriculumSection())
    for file in ("README.md", "data/train.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    front, body = card(tmp_path / "one")
    assert "license" not in front
    assert "No licence was named for this dataset." in body
    assert str(tmp_path) not in body


def test_provenance_names_every_judge_with_versions_and_the_inputs_hashes(tmp_path: Path):
    (tmp_path / "rewards.parquet").write_bytes(b"bytes")
    judges = pl.DataFrame(
        [("two", "two (y 1)", 0.0, 1, 0, 0), ("one", "one (x 1), one (x 2)", 1.0, 2, 0, 0)],
        schema=schemas.JUDGES.columns,
        orient="row",
    )
    found = dataset.provenance(judges, schemas.BIAS.empty(), hashes([tmp_path / "rewards.parquet"]))
    assert found.judges == {"one": "one (x 1), one (x 2)", "two": "two (y 1)"}
    assert found.hashes == {"rewards.parquet": hashlib.md5(b"bytes").hexdigest()}


@pytest.mark.parametrize("seed", range(12))
def test_the_card_accounts_for_every_possible_pair(tmp_path: Path, seed: int):
    """What it says was kept and dropped, by reason, is all that was possible, and what is loaded."""
    draw = random.Random(seed)
    name, options = draw.choice(
        [("kin", {"radius": draw.uniform(0.3, 1.0)}), ("random", {}), ("best-worst", {"count": 2})]
    )
    limits = {
        "margin": draw.choice([0.0, 0.25, 0.5]),
        "budget": draw.choice([None, 25]),
        "per_prompt": draw.choice([None, 1]),
        "per_model": draw.choice([None, 9]),
    }
    made = build(by_chance(seed, samples=draw.choice([1, 2])), name, options, **limits)
    dataset.write(made, tmp_path, CurriculumSection(pairing=name, **limits), Provenance())
    _, _, rest = card(tmp_path)[1].partition("## What was kept and dropped")
    rows = re.findall(r"^\| (.+?) \| (-?\d+) \|$", rest.partition("\n## ")[0], flags=re.M)
    numbers = {reason: int(count) for reason, count in rows}
    possible, kept = numbers.pop("possible"), numbers.pop("kept")
    assert len(rows) == len(numbers) + 2
    assert all(count < 0 for count in numbers.values())
    assert possible + sum(numbers.values()) == kept
    assert kept == pl.read_parquet(tmp_path / dataset.TRAIN).height
