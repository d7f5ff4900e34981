"""`karma check` says where dvc.yaml would not see changed code, and where the lock lacks a plugin."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from karma_plugins.cli import main as karma


@pytest.fixture
def pipeline(initialised: Callable[[str], Path]) -> Path:
    return initialised("hub")


def check() -> Result:
    return CliRunner().invoke(karma, ["check"])


def test_a_fresh_pipeline_names_all_of_its_code(pipeline: Path) -> None:
    assert "changed code would not run it again" not in check().stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("      - stages/train.py\n", "dvc.yaml, train: stages/train.py are not among its deps"),
        (
            "      - data/code/kinship.json\n",
            "dvc.yaml, kinship: data/code/kinship.json are not among its deps",
        ),
        (
            '      - karma.lock.json: [curriculum.core, "curriculum.${curriculum.pairing}"]\n',
            "dvc.yaml, curriculum: curriculum.core, curriculum.${curriculum.pairing} of karma.lock.json",
        ),
    ],
)
def test_what_dvc_yaml_does_not_name_is_a_warning(pipeline: Path, line: str, message: str) -> None:
    text = Path("dvc.yaml").read_text()
    place = text.rindex(line)  # where the stage depends on it, not where stage code writes it
    Path("dvc.yaml").write_text(text[:place] + text[place + len(line) :])
    assert message in check().stderr


def test_a_plugin_that_the_lock_lacks_is_an_error_with_the_cure(pipeline: Path) -> None:
    path = Path("karma.lock.json")
    lock = json.loads(path.read_text())
    del lock["curriculum"]["kin"]
    path.write_text(json.dumps(lock))
    result = check()
    assert result.exit_code == 1
    assert (
        "karma.lock.json, curriculum: holds no 'kin' (karma-plugins 0.1.0). Run `karma lock`."
        in result.stderr
    )


def test_an_installed_plugin_that_the_lock_lacks_is_a_warning(pipeline: Path) -> None:
    """Though params don't name it: an experiment may, and DVC would end with its key."""
    path = Path("karma.lock.json")
    lock = json.loads(path.read_text())
    del lock["curriculum"]["distant"], lock["judge"]["recorded"]
    path.write_text(json.dumps(lock))
    message = (
        "holds no judge.recorded (karma-plugins 0.1.0), curriculum.distant (karma-plugins 0.1.0), though"
    )
    assert message in check().stderr
    assert CliRunner().invoke(karma, ["lock"]).exit_code == 0
    assert "holds no" not in check().stderr
