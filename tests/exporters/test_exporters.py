from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from huggingface_hub import DatasetCard

from karma_plugins import exporters, schemas, tables
from karma_plugins.cli.export import command
from karma_plugins.contracts import Options, Tables
from karma_plugins.curriculum import Curriculum, dataset
from karma_plugins.errors import ParamsError, TableError
from karma_plugins.exporters.layouts import jsonl, trl
from karma_plugins.params import CurriculumSection
from karma_plugins.registry import manager
from karma_plugins.testing import ExporterContract
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


def tables_of(made: Curriculum) -> Tables:
    """What an exporter is handed."""
    return Tables({"pairs": made.pairs}.__getitem__)


def loaded(folder: Path, cache: Path):
    """A folder as `datasets` loads it."""
    from datasets import load_dataset

    return load_dataset(str(folder), split="train", cache_dir=str(cache))


def test_trl_layouts_are_those_of_trl(made: Curriculum, tmp_path: Path):
    from trl.data_utils import is_conversational, maybe_extract_prompt, maybe_unpair_preference_dataset

    for layout in ("preference", "implicit-prompt", "unpaired"):
        trl.write(tables_of(made), tmp_path / layout, trl.TrlOptions(layout=layout))
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
    turned = Tables(lambda name: made.pairs.reverse())
    said = jsonl.write(turned, tmp_path / "new" / "pairs.jsonl", Options())
    assert said.endswith(f"pairs.jsonl: {made.pairs.height} lines.")
    lines = (tmp_path / "new" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == made.pairs.to_dicts()


def test_hub_folder_is_sharded_and_loads_in_order(repository: Path, made: Curriculum, tmp_path: Path):
    said = run("hub", "hub", "--shard", "10")
    assert f"data files: {-(-made.pairs.height // 10)}," in said
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


def built_in(name: str) -> Any:
    return manager.load([]).plugins["exporters", name][0]


class TestJsonl(ExporterContract):
    plugin = built_in("jsonl")


class TestTrl(ExporterContract):
    plugin = built_in("trl")


class TestLabelStudio(ExporterContract):
    plugin = built_in("label-studio")


class TestArgilla(ExporterContract):
    plugin = built_in("argilla")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics/curriculum.json", "[]", "not the report of stage curriculum (it holds a list)"),
        ("metrics/curriculum.json", "{}", "not the report of stage curriculum (KeyError: 'pairs')"),
        ("metrics/curriculum.json", '{"pairs": 1}', "not the report of stage curriculum (KeyError"),
        ("metrics/curriculum.json", "[" * 200_000, "nested more than 500 deep"),
        ("dvc.lock", "{", "dvc.lock: not readable as YAML"),
        ("dvc.lock", "[]", "dvc.lock: is no lock file of DVC"),
        ("dvc.lock", "stages: {x: 5}", "dvc.lock: is no lock file of DVC"),
        ("dvc.lock", "stages: {x: {outs: [{path: 3}]}}", "dvc.lock: is no lock file of DVC"),
    ],
)
def test_a_broken_report_or_lock_is_one_line(repository: Path, file: str, content: str, message: str):
    (repository / file).write_text(content)
    with pytest.raises(TableError, match=re.escape(message)):
        run("hub", "out")
    assert not (repository / "out").exists()


@pytest.mark.parametrize("name", ["hub", "trl"])
def test_the_hubs_own_library_reads_the_card(name: str, repository: Path) -> None:
    more = ["--language", "en"] if name == "hub" else []
    run(name, "out", "--licence", "cc-by-4.0", *more)
    data = DatasetCard.load(Path("out/README.md")).data
    assert (data.license, data.pretty_name) == ("cc-by-4.0", "Kinship-aware preference pairs")
    assert data.task_categories == ["text-generation"]
    assert data.size_categories == ["n<1K"]
    assert "dpo" in data.tags
    assert data.language == (["en"] if name == "hub" else None)
    (split,) = data.configs[0]["data_files"]
    assert list(Path("out").glob(split["path"]))


@pytest.mark.parametrize("name", ["hub", "trl"])
def test_a_licence_that_the_hub_does_not_know_is_refused(name: str, repository: Path) -> None:
    with pytest.raises(ParamsError, match="the hub knows no licence 'nonsense'"):
        run(name, "out", "--licence", "nonsense")
    with pytest.raises(ParamsError, match="Did you mean 'cc-by-4.0'"):
        run(name, "out", "--licence", "CC-BY-4")
    assert not Path("out").exists()


def test_a_source_of_unknown_licence_or_language_is_refused(repository: Path) -> None:
    with pytest.raises(ParamsError, match="--source-licence prompts: the hub knows no licence"):
        run("hub", "out", "--source-licence", "prompts=nonsense")
    with pytest.raises(ParamsError, match="--language English: is no code"):
        run("hub", "out", "--language", "English")
