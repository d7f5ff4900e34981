"""YAML as DVC reads it: version 1.2, places in messages, bounds for what a few bytes can claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml as version_1_1

from karma_plugins import params
from karma_plugins.errors import ModelError, ParamsError
from karma_plugins.lineage import LineageError
from karma_plugins.lineage.pipelines import read_params
from karma_plugins.models import load
from karma_plugins.params import yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        "{on: yes, no: off, y: n, 010: 0o14, 1e-5: 1E3, 0x1f: 1_000, .inf: -.5, ~: null, true: False}",
        "a: &x {b: 1}\nc: {<<: *x, d: [*x, *x]}",
        "%YAML 1.1\n---\na: no\nb: 010",
        "a: 12:30\nb: 1:30:00\nc: '2024-01-01'\nd: |\n  no\n  yes\n",
        "\ufeffa: 1\r\nb: [2,\r\n 3]\r\n",
        "text: é 日本語 🙂",
        "[a, {b: [c]}, !!str 1, !!float 1]",
    ],
)
def test_a_document_is_what_dvc_says_it_is(text: str) -> None:
    serialize = pytest.importorskip("dvc.utils.serialize")
    assert yaml.parse(text) == serialize.parse_yaml(text, "params.yaml")


@pytest.mark.parametrize("text", ["", "# nothing", "---\n"])
def test_an_empty_document_is_null(text: str) -> None:
    assert yaml.parse(text) is None


def test_dates_stay_the_texts_that_they_were() -> None:
    text = "a: 2024-01-01\nb: [2024-01-01T10:00:00Z]\nc: {d: 2024-01-01 10:00:00}"
    assert yaml.parse(text) == {
        "a": "2024-01-01",
        "b": ["2024-01-01T10:00:00Z"],
        "c": {"d": "2024-01-01 10:00:00"},
    }


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1", 'duplicate key "a"'),
        ("a: {b: 1,\n  b: 2}", "line 2, column 3", 'duplicate key "b"'),
        ("1e3: a\n1_000: b", "line 2, column 1", "duplicate key"),
        ("a: [1\nb: 2", "line 2", "expected ',' or ']'"),
        ("a: 1\n\tb: 2", "line 2", "\\t"),
        ("a: *nowhere", "line 1, column 4", "undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2", "line 2", "another document"),
        ("a: 1\nb: !!python/object:os.system {}", "line 2, column 4", "python/object:os.system"),
        ("a: !include other.yaml", "line 1, column 4", "!include"),
        ("a: 1\nb: &b [*b]", "line 2", "holds itself"),
        ("a: 1\n? [b]\n: {? {c: 1} : 2}", "line 3", "unhashable"),
        (LAUGHS, "line 7", "more than 1000000 values"),
        ("[" * 5000, "", "nested deeper than 100"),
        ("{a: " * 300 + "1" + "}" * 300, "line 1", "nested deeper than 100"),
        ("a: \x00", "", "#x0000"),
        ("a: !!int one", "", "'one'"),
        ("a: !!bool maybe", "", "maybe"),
        ("a: " + "9" * 5000, "", "4300 digits"),
    ],
)
def test_what_can_not_be_read_is_said_in_one_line_with_its_place(text: str, place: str, problem: str) -> None:
    with pytest.raises(yaml.YamlError) as error:
        yaml.parse(text)
    told = str(error.value)
    assert told.startswith(place)
    assert problem in told
    assert "\n" not in told
    assert len(told) < 260


def test_bytes_that_are_no_text_have_a_place(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(yaml.YamlError, match="line 2: not UTF-8"):
        yaml.read(tmp_path / "params.yaml")


def test_a_caller_may_change_what_it_was_given() -> None:
    yaml.parse("a: {b: 1}")["a"]["b"] = 2
    assert yaml.parse("a: {b: 1}") == {"a": {"b": 1}}


@pytest.mark.parametrize(
    "value",
    [
        {"language": ["no", "on", "y", "NO"], "no": {"off": "1e5"}},
        ["2024-01-01", "12:30", "010", "1_000", "0x1f", ".5", "=", "<<", "~", "null", "", " a", "a: b", "#"],
        {"a": [1, 1.5, True, None, "é🙂", "n>1T", "apache-2.0", "two\nlines"], "b": {}, "c": []},
    ],
)
def test_what_is_written_reads_the_same_in_both_versions(value: Any) -> None:
    text = yaml.dump(value)
    assert yaml.parse(text) == value
    assert version_1_1.safe_load(text) == value


# --- where documents are read -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "said"),
    [("13", "13"), ("2024-01-01", "2024-01-01"), ("~", "null"), ("true", "true"), ("1.5", "1.5")],
)
def test_a_model_that_dvc_would_leave_out_is_refused_with_its_line(
    tmp_path: Path, key: str, said: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"models:\n  on: {{path: a}}\n  no: {{path: b}}\n  {key}: {{path: c}}\n")
    with pytest.raises(ParamsError, match=f"line 4, models: key {said} is no text, and DVC ignores it"):
        params.load_models(path)
    path.write_text(
        f"models:\n  on: {{path: a}}\n  no: {{path: b}}\n  '{said.replace('.', '')}': {{path: c}}\n"
    )
    assert list(params.load_models(path)) == sorted(["on", "no", said.replace(".", "")])


def test_a_key_deep_in_a_section_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("other: {1: 2}\njudge:\n  judges:\n    7: {weight: 1}\n    reference: {}\n")
    with pytest.raises(ParamsError, match=r"line 4, judge.judges: key 7 is no text"):
        params.load("judge", params.JudgeSection, path)


def test_a_descriptor_that_can_not_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("hub: a\nhub: b\n")
    with pytest.raises(ModelError, match=r"m.yaml: not readable as YAML \(line 2, column 1"):
        load("m", tmp_path / "m.yaml")


def test_a_number_is_a_number_to_lineage_as_to_dvc() -> None:
    assert read_params("train: {lr: 1e-5, on: [no]}") == {"train.lr": 1e-5, "train.on": ["no"]}
    with pytest.raises(LineageError, match=r"params.yaml: can't be read \(line 1"):
        read_params("a: [")
