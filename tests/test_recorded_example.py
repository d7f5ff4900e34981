"""examples/recorded from the real AlpacaEval folder to a trained model, with its own params and commands."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from click.testing import CliRunner

from karma_plugins import params, tables
from karma_plugins.cli import main as karma
from karma_plugins.schemas import COMPARISONS, PAIRS, RESPONSES
from tests import recorded_pipeline

STEPS = 2


def commands(folder: Path) -> Iterator[str]:
    """The command of each stage of dvc.yaml, stages with `foreach` once for each item, in order."""
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    settings = yaml.safe_load((folder / "params.yaml").read_text())
    for stage in stages.values():
        if "foreach" in stage:
            items = settings
            for key in stage["foreach"].strip("${}").split("."):
                items = items[key]
            for item in items:
                yield stage["do"]["cmd"].replace("${key}", item)
        else:
            yield stage["cmd"]


@pytest.fixture(scope="module")
def pipeline(repository: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example, run from import to train."""
    folder = tmp_path_factory.mktemp("recorded") / "example"
    source = repository / "examples/recorded"
    wanted = shutil.ignore_patterns("data", "imported", "metrics", "plots", ".*", "mlflow*", "mlruns")
    shutil.copytree(source, folder, ignore=wanted, symlinks=True)
    for name in ("stages", "karma.lock.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "stages").symlink_to(repository / "stages")
    with recorded_pipeline.inside(folder, repository):
        source = shared_data / "alpaca_eval"
        told = CliRunner().invoke(karma, ["import", "alpaca-eval", str(source), "--out", "imported"])
        assert told.exit_code == 0, told.output
        settings = yaml.safe_load(Path("params.yaml").read_text())
        settings["train"] |= {"max_steps": STEPS, "max_length": 256}
        recorded_pipeline.run(commands(folder), settings)
        yield folder


@pytest.fixture(scope="module")
def pairs(pipeline: Path) -> pl.DataFrame:
    return tables.read(pipeline / "data/pairs/data/train.parquet", PAIRS)


def report(pipeline: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((pipeline / f"metrics/{stage}.json").read_text())
    return found


def comparisons(pipeline: Path) -> pl.DataFrame:
    return tables.read_all(sorted((pipeline / "data/verdicts").glob("*/comparisons.parquet")), COMPARISONS)


def test_every_model_and_both_judges_take_part(pipeline: Path, pairs: pl.DataFrame) -> None:
    assert len(list((pipeline / "data/responses").glob("*.parquet"))) == 14
    said = comparisons(pipeline)
    assert set(said["judge"]) == {"alpaca_eval_gpt4", "weighted_alpaca_eval_gpt4_turbo"}
    rewards = pl.read_parquet(pipeline / "data/jury/rewards.parquet")
    files = sorted((pipeline / "data/responses").glob("*.parquet"))
    answers = tables.read_all(files, RESPONSES)
    judged = answers.join(rewards, on="response_id")
    assert judged["model"].n_unique() == 14
    assert pairs.height > 0


def test_imported_block_is_that_of_params(pipeline: Path) -> None:
    block = yaml.safe_load((pipeline / "imported/models.yaml").read_text())["models"]
    assert block == yaml.safe_load((pipeline / "params.yaml").read_text())["models"]
    assert all(params.MODEL_NAME.fullmatch(name) for name in block)


def test_missing_answers_and_failed_verdicts_are_counted(pipeline: Path) -> None:
    imported = json.loads((pipeline / "imported/report.json").read_text())
    assert imported["counts"]["answers_empty"] == 1
    assert imported["judges"]["alpaca_eval_gpt4"] == {"failed": 4, "ok": 1743, "tie": 13}
    counted = report(pipeline, "curriculum")["pairs"]
    assert counted["possible"] == counted["kept"] + sum(counted["dropped"].values())
    assert counted["dropped"]["judged by different judges"] > 0


def test_no_pair_is_empty_or_of_equal_answers(pairs: pl.DataFrame) -> None:
    texts = [(c[0]["content"], r[0]["content"]) for c, r in pairs.select("chosen", "rejected").iter_rows()]
    assert all(chosen.strip() and rejected.strip() for chosen, rejected in texts)
    assert all(chosen != rejected for chosen, rejected in texts)
    assert (pairs["chosen_reward"] > pairs["rejected_reward"]).all()


def test_no_preference_comes_from_a_null(pipeline: Path, pairs: pl.DataFrame) -> None:
    """Each answer of a pair has a verdict that its judge really gave."""
    said = comparisons(pipeline)
    given = said.filter(pl.col("p_a").is_not_null() & pl.col("status").is_in(["ok", "tie"]))
    spoken = set(given["response_a"]) | set(given["response_b"])
    assert set(pairs["chosen_id"]) | set(pairs["rejected_id"]) <= spoken


def test_rewards_are_the_win_rates_of_the_files(pipeline: Path, shared_data: Path) -> None:
    source = shared_data / "alpaca_eval/results/llama-2-7b-chat-hf/alpaca_eval_gpt4/annotations.json"
    expected = [r["preference"] - 1 for r in json.loads(source.read_text())]
    rewards = pl.read_parquet(pipeline / "data/jury/rewards.parquet")
    answers = tables.read(pipeline / "data/responses/llama-2-7b-chat-hf.parquet", RESPONSES)
    found = answers.join(rewards, on="response_id")["reward"]
    assert sorted(found) == sorted(expected)


def test_the_dataset_loads_as_trl_takes_it(pipeline: Path, pairs: pl.DataFrame, tmp_path: Path) -> None:
    from datasets import load_dataset

    loaded = load_dataset(str(pipeline / "data/pairs"), split="train", cache_dir=str(tmp_path))
    assert loaded.num_rows == pairs.height
    row = loaded[0]
    assert [m["role"] for m in row["chosen"]] == [m["role"] for m in row["rejected"]] == ["assistant"]
    assert row["prompt"][-1]["role"] == "user"


def test_the_model_is_trained_and_saved_safely(pipeline: Path) -> None:
    names = {file.name for file in (pipeline / "data/model").iterdir()}
    assert "model.safetensors" in names
    assert not any(re.search(r"\.(bin|pt|pkl)$", name) for name in names)
    before, after = (pipeline / f"data/{name}/model.safetensors" for name in ("base", "model"))
    assert before.read_bytes() != after.read_bytes()
