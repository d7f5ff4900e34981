"""What `karma check` says of candidates with weights before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from karma_plugins import models
from karma_plugins.checking import weights
from karma_plugins.checking.findings import Findings
from tests.tiny import CHAT_TEMPLATE, write_model

ASKED = [
    [{"role": "user", "content": "hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
]
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


def looked(folder: Path, asked: list[list[dict[str, str]]] | None = None) -> Findings:
    findings = Findings()
    table = None if asked is None else pl.DataFrame({"messages": asked})
    weights.look({"m": findings.attempt(models.load, "m", folder), "later": None}, table, findings)
    return findings


def test_a_whole_model_and_prompts_that_its_template_takes_are_no_matter(tmp_path: Path) -> None:
    findings = looked(write_model(tmp_path / "m"), ASKED)
    assert (findings.errors, findings.warnings) == ([], [])


def test_weights_that_are_cut_short_or_a_pointer(tmp_path: Path) -> None:
    file = write_model(tmp_path / "m") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    (error,) = looked(tmp_path / "m").errors
    assert "ends before its last tensor" in error
    file.write_text("version https://git-lfs.github.com/spec/v1\n")
    (error,) = looked(tmp_path / "m").errors
    assert "git lfs pull" in error


def test_a_tokenizer_that_can_not_pad(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"pad_token": None, "eos_token": None, "unk_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (error,) = looked(folder).errors
    assert "no token to pad with" in error


def test_no_chat_template(tmp_path: Path) -> None:
    (error,) = looked(write_model(tmp_path / "m", chat_template=None)).errors
    assert "has no chat template" in error


@pytest.mark.parametrize(
    ("asked", "said"), [(ASKED, "1 of the first 2 prompts"), (ASKED[1:], "every prompt")]
)
def test_prompts_that_the_template_refuses(
    asked: list[list[dict[str, str]]], said: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "m", chat_template=STRICT + CHAT_TEMPLATE)
    findings = looked(folder, asked)
    (line,) = findings.errors + findings.warnings
    assert f"{said} would fail" in line
    assert "System role not supported" in line
    assert bool(findings.errors) == (said == "every prompt")
