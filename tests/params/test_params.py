"""Sections of params.yaml: validated one at a time, every mistake named with the nearest right name."""

from __future__ import annotations

from pathlib import Path

import pytest

from karma_plugins import params
from karma_plugins.errors import ParamsError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_unknown_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, "curriculum: {pairng: kin, margin: -1}")
    with pytest.raises(ParamsError) as error:
        params.load("curriculum", params.CurriculumSection, path)
    assert "params.yaml, curriculum" in str(error.value)
    assert "unknown key 'pairng'. Did you mean 'pairing'?" in str(error.value)
    assert "margin: input should be greater than or equal to 0 (found -1)" in str(error.value)


def test_a_nested_unknown_key_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "train: {base: x, lora: {rank: 8}}")
    with pytest.raises(ParamsError, match=r"unknown key 'lora.rank'"):
        params.load("train", params.TrainSection, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("judge: {judges: {}}", "judges"),
        ("- a", "must hold a mapping"),
        ("a: [", "not readable as YAML"),
        ("jugde: {}", "section 'judge' is missing. Did you mean 'jugde'?"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ParamsError) as error:
        params.load("judge", params.JudgeSection, written(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["llama-3.1", "a@b", "org/model", ""])
def test_a_name_that_dvc_cannot_carry_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, f"models: {{'{name}': {{path: x}}}}")
    with pytest.raises(ParamsError, match="DVC can't carry the name"):
        params.load_models(path)


def test_judges_keep_their_plugins_options(tmp_path: Path) -> None:
    path = written(tmp_path, "judge: {judges: {gpt: {plugin: recorded, reads: said, annotator: gpt4}}}")
    entry = params.load("judge", params.JudgeSection, path).judges["gpt"]
    assert (entry.reads, entry.plugin, entry.options) == ("said", "recorded", {"annotator": "gpt4"})
