from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import yaml
from click.testing import CliRunner

from karma_plugins import exporters, schemas, tables
from karma_plugins.cli.export import command
from karma_plugins.curriculum import Curriculum, dataset
from karma_plugins.curriculum.card import Provenance
from karma_plugins.errors import ParamsError, TableError
from karma_plugins.exporters import hub, jsonl, trl
from karma_plugins.params import CurriculumSection
from tests.curriculum.curriculum_cases import build, by_chance


@pytest.fixture(scope="module")
def made() -> Curriculum:
    return build(by_chance(5), "random", per_prompt=1)


@pytest.fixture
def repository(made: Curriculum, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds what the stages leave behind."""
    monkeypatch.chdir(tmp_path)
    dataset.write(made, tmp_path / "data/pairs", CurriculumSection())
    seat = {"judge": "one", "version": "one (karma-plugins 0.1.0)", "weight": 1.0}
    judges = pl.DataFrame([seat | {"verdicts": 1, "skipped": 0, "failed": 0}], schema=schemas.JUDGES.columns)
    bias = pl.DataFrame(
        [{"measure": "length", "judge": "one", "value": 0.68, "fair": 0.5, "n": 9}],
        schema=schemas.BIAS.columns,
    )
    tables.write(judges, tmp_path / "data/jury/judges.parquet", schemas.JUDGES)
    tables.write(bias, tmp_path / "data/jury/bias.parquet", schemas.BIAS)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/curriculum.json").write_text(json.dumps(made.report))
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"curriculum": {"pairing": "random", "per_prompt": 1}})
    )
    stage = {
        "cmd": "x",
        "deps": [{"path": "data/prompts.parquet", "md5": "aaa"}],
        "outs": [{"path": "data/pairs", "md5": "bbb.dir"}],
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"curriculum": stage}}))
    return tmp_path


def run(*arguments: str) -> str:
    """What a command says; an error is raised."""
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


def loaded(folder: Path, cache: Path):
    """A folder as `datasets` loads it."""
    from datasets import load_dataset

    return load_dataset(str(folder), split="train", cache_dir=str(cache))


def test_trl_layouts_are_those_of_trl(made: Curriculum, tmp_path: Path):
    from trl.data_utils import is_conversational, maybe_extract_prompt, maybe_unpair_preference_dataset

    for layout in ("preference", "implicit-prompt", "unpaired"):
        trl.write(made.pairs, tmp_path / layout, layout)
    whole = loaded(tmp_path / "preference", tmp_path / "cache")
    implicit = loaded(tmp_path / "implicit-prompt", tmp_path / "cache")
    unpaired = loaded(tmp_path / "unpaired", tmp_path / "cache")

    assert whole.column_names == ["prompt", "chosen", "rejected"]
    assert whole["chosen"][:] == made.pairs["chosen"].to_list()
    assert is_conversational(whole[0])
    assert implicit.column_names == ["chosen", "rejected"]
    assert maybe_extract_prompt(implicit[3]) == whole[3]
    assert unpaired[:2]["label"] == [True, False]
    plain = maybe_unpair_preference_dataset(whole)
    assert sorted(map(str, plain)) == sorted(map(str, unpaired))


def test_jsonl_holds_every_column_in_order(made: Curriculum, tmp_path: Path):
    assert jsonl.write(made.pairs.reverse(), tmp_path / "new" / "pairs.jsonl") == made.pairs.height
    lines = (tmp_path / "new" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == made.pairs.to_dicts()


def test_hub_folder_is_sharded_and_loads_in_order(made: Curriculum, tmp_path: Path):
    shards = hub.write(made, tmp_path / "hub", CurriculumSection(), Provenance(), shard=10)
    assert shards == -(-made.pairs.height // 10)
    assert loaded(tmp_path / "hub", tmp_path / "cache")["order"][:] == list(range(made.pairs.height))


def test_the_commands_card_tells_judges_bias_hashes_languages_and_licences(repository: Path):
    said = run(
        "hub", "out", "--licence", "cc-by-4.0", "--source-licence", "prompts=apache-2.0", "--note", "Made up."
    )
    assert "hf upload --repo-type dataset NAME out" in said
    card = (repository / "out/README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    for told in (
        "| one | one (karma-plugins 0.1.0) |", "| length | one |", "0.68", "| data/prompts.parquet | `aaa` |",
        "| data/pairs | `bbb.dir` |", "| prompts | apache-2.0 |", "Detected languages of", "- Made up.",
    ):  # fmt: skip
        assert told in card
    assert str(repository) not in card


def test_the_other_commands(repository: Path, made: Curriculum):
    assert f"kto: {2 * made.pairs.height} rows, layout unpaired" in run("trl", "kto", "--layout", "unpaired")
    assert f"pairs.jsonl: {made.pairs.height} lines" in run("jsonl", "pairs.jsonl")


def test_nothing_is_overwritten_and_wrong_input_is_named(repository: Path):
    (repository / "mine.jsonl").write_text("mine")
    with pytest.raises(TableError, match="mine.jsonl: there is something already"):
        run("jsonl", "mine.jsonl")
    assert (repository / "mine.jsonl").read_text() == "mine"
    with pytest.raises(ParamsError, match="--source-licence 'apache': write NAME=LICENCE"):
        run("hub", "out", "--source-licence", "apache")
    with pytest.raises(TableError, match="nowhere/data/train.parquet: no such table"):
        run("trl", "out", "--pairs", "nowhere")
    with pytest.raises(TableError, match="other.json: not the report of stage curriculum"):
        run("hub", "out", "--report", "other.json")
    assert not (repository / "out").exists()


def test_fresh_takes_an_empty_folder(tmp_path: Path):
    assert exporters.fresh(tmp_path) == tmp_path
