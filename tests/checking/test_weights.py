"""What `karma check` says of candidates with weights before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml
from click.testing import CliRunner

from karma_plugins import models
from karma_plugins.checking import weights
from karma_plugins.checking.findings import Findings
from karma_plugins.cli import main as karma
from tests.tiny import CHAT_TEMPLATE, write_model

ASKED = [
    [{"role": "user", "content": "hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
]
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


def looked(folder: Path, asked: list[list[dict[str, str]]] | None = None) -> Findings:
    findings = Findings()
    table = None if asked is None else pl.DataFrame({"messages": asked})
    model = findings.attempt(models.load, "m", folder)
    uses = [] if model is None else [weights.Use("models.m", model.source, weights.Sent.PROMPTS)]
    weights.look(uses, table, findings)
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


# --- the command: wherever params name weights ------------------------------------------------------------

PLACES = ("candidate", "base", "likelihood", "reward-model", "llm-rubric", "evaluate")


@pytest.fixture
def pipeline(initialised: Callable[[str], Path]) -> Path:
    """A fresh pipeline of endpoints, which name no weights of their own."""
    return initialised("endpoint")


def checked(place: str, path: str = "mine", system: bool = False, **options: str) -> list[str]:
    """The lines of `karma check` where `path` is named in this place; its prompts begin with a system
    message or not.
    """
    opening = [{"role": "system", "content": "Be brief."}] if system else []
    rows = [
        {"prompt": [*opening, {"role": "user", "content": split}], "competency": "knowledge", "split": split}
        for split in ("train", "heldout")
    ]
    Path("prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["prompts"]["heldout"] = 0.0
    if place == "candidate":
        document["models"]["mine"] = {"path": path, "generator": "transformers", "sampling": {}}
    elif place == "base":
        document["train"]["base"] = path
    elif place == "evaluate":
        document["evaluate"]["judges"] = {"j": {"plugin": "likelihood", "model": path}}
    else:
        judge = {"plugin": place, "model": path, "reads": path, **options}
        document["judge"]["judges"], document["jury"] = {"j": judge}, {}
    Path("params.yaml").write_text(yaml.safe_dump(document))
    lines = CliRunner().invoke(karma, ["check"]).output.splitlines()
    assert not [line for line in lines if "prompts.jsonl" in line or "unknown key" in line]
    return lines


@pytest.mark.parametrize("place", PLACES)
def test_a_whole_model_is_no_matter_in_any_place(place: str, pipeline: Path) -> None:
    write_model(pipeline / "mine")
    assert not [line for line in checked(place) if "mine" in line and "would fail" in line]
    assert not [line for line in checked(place) if "token to pad" in line or "chat template" in line]


@pytest.mark.parametrize("place", PLACES)
def test_weights_that_are_cut_or_a_pointer_in_any_place(place: str, pipeline: Path) -> None:
    file = write_model(pipeline / "mine") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    assert [line for line in checked(place) if "ends before its last tensor" in line]
    file.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert [line for line in checked(place) if "git lfs pull" in line]


@pytest.mark.parametrize("described", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_a_tokenizer_that_can_not_pad_in_any_place(place: str, described: bool, pipeline: Path) -> None:
    config = write_model(pipeline / "mine") / "tokenizer_config.json"
    tokens = {"pad_token": None, "eos_token": None, "unk_token": None}
    config.write_text(json.dumps(json.loads(config.read_text()) | tokens))
    (pipeline / "models" / "mine.yaml").write_text("folder: mine\n")
    path = "models/mine.yaml" if described else "mine"
    assert [line for line in checked(place, path) if "no token to pad with" in line]


@pytest.mark.parametrize("place", PLACES)
def test_a_template_that_refuses_what_it_will_be_given_in_any_place(place: str, pipeline: Path) -> None:
    write_model(pipeline / "mine", chat_template=STRICT + CHAT_TEMPLATE)
    lines = [line for line in checked(place, system=True) if "would fail" in line]
    assert len(lines) == 1, lines
    assert "System role not supported" in lines[0]


def test_a_template_may_refuse_what_it_is_not_given(pipeline: Path) -> None:
    write_model(pipeline / "mine", chat_template=STRICT + CHAT_TEMPLATE)
    rubric = Path(models.__file__).parents[1] / "judging" / "templates" / "rubric.md"
    words = rubric.read_text(encoding="utf-8").replace("[system]\n", "").replace("[user]\n", "")
    (pipeline / "rubric.md").write_text(f"[system]\n[user]\n{words}")
    lines = checked("llm-rubric", template="rubric.md", system=True)
    assert not [line for line in lines if "would fail" in line or "rubric.md:" in line]


def test_answers_are_part_of_what_a_base_and_a_scoring_judge_are_given(pipeline: Path) -> None:
    strict = "{% if messages[-1].role == 'assistant' %}{{ raise_exception('no answers') }}{% endif %}"
    write_model(pipeline / "mine", chat_template=strict + CHAT_TEMPLATE)
    assert not [line for line in checked("candidate") if "no answers" in line]
    for place in ("base", "likelihood", "reward-model"):
        assert [line for line in checked(place) if "no answers" in line], place


@pytest.mark.parametrize("place", ["candidate", "llm-rubric"])
def test_an_endpoint_that_does_not_answer(place: str, pipeline: Path) -> None:
    (pipeline / "models" / "far.yaml").write_text("endpoint: http://127.0.0.1:9/v1\nmodel: x\n")
    assert [line for line in checked(place, "models/far.yaml") if "127.0.0.1:9/v1: nothing answers" in line]
