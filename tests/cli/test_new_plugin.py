"""`karma new-plugin`: what it writes is installed, keeps the contracts, and is found under its name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from karma_plugins.cli import main as karma
from karma_plugins.cli.new_plugin import SINGULAR, USES


def run(*arguments: str) -> Result:
    return CliRunner().invoke(karma, ["new-plugin", *arguments])


def python(*arguments: str, path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(path), *sys.path])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution with a plugin of every kind."""
    folder = tmp_path_factory.mktemp("new")
    done = run("of-mine", "--kind", "all", "--into", str(folder))
    assert done.exit_code == 0, done.output
    return folder / "of-mine"


@pytest.fixture(scope="module")
def site(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is installed, as pip does it."""
    site = tmp_path_factory.mktemp("site")
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, *pip, str(written)], check=True)
    return site


def test_every_kind_is_found_under_its_name(site: Path) -> None:
    listed = json.loads(python("-m", "karma_plugins", "plugins", "--json", path=site, cwd=site).stdout)
    mine = {row["kind"] for row in listed["plugins"] if row["distribution"] == "of-mine"}
    assert mine == set(SINGULAR.values())
    assert {row["name"] for row in listed["plugins"] if row["distribution"] == "of-mine"} == {"of-mine"}
    assert not [broken for broken in listed["broken"] if broken["distribution"].startswith("of-mine")]


def test_its_tests_pass(site: Path, written: Path) -> None:
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", path=site, cwd=written)
    assert done.returncode == 0, done.stdout
    for kind in SINGULAR:
        assert (written / f"tests/test_{kind.replace('-', '_')}.py").is_file()


def test_it_is_formatted_and_names_every_use(written: Path) -> None:
    config = ["--line-length", "110", "--isolated"]
    for check in (["format", "--check"], ["check", "--select", "E,F,W,UP,B"]):
        done = subprocess.run(
            ["ruff", *check, *config, str(written)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
    readme = (written / "README.md").read_text(encoding="utf-8")
    assert set(USES) == set(SINGULAR)
    assert all(use.replace("@NAME@", "of-mine") in readme for use in USES.values())


def test_one_kind_alone(tmp_path: Path) -> None:
    assert run("brief", "--kind", "judge", "--into", str(tmp_path)).exit_code == 0
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        "brief/README.md", "brief/pyproject.toml", "brief/src/brief/__init__.py", "brief/src/brief/judge.py",
        "brief/tests/test_judge.py",
    }  # fmt: skip
    assert '\nbrief-judge = "brief.judge"\n' in (tmp_path / "brief/pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My_Judge", "'My_Judge' can't name a plugin"),
        ("polars", "there is a package 'polars' already"),
        ("reference", "judge 'reference' is taken, by karma-plugins"),
        ("there", "there: is there already"),
    ],
)
def test_a_name_that_can_not_be_is_one_line(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    done = run(name, "--kind", "judge", "--into", str(tmp_path))
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
