"""The sdist and the wheel, built as a release builds them."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from karma_plugins.cli.templates import TEMPLATES


def built(tree: Path, target: str, folder: Path) -> Path:
    """What hatchling makes of a tree: its sdist or its wheel, in `folder`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True)
    return next(folder.glob("*.tar.gz" if target == "sdist" else "*.whl"))


def contents(wheel: Path) -> dict[str, int]:
    """The files of a wheel with their checksums; RECORD says the same once more."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            entry.filename: entry.CRC
            for entry in archive.infolist()
            if not entry.filename.endswith("/RECORD") and "__pycache__" not in entry.filename
        }


@pytest.fixture(scope="module")
def sdist(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built(repository, "sdist", folder)) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout."""
    return built(repository, "wheel", tmp_path_factory.mktemp("wheel"))


def test_a_wheel_of_the_sdist_holds_the_same_files(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    assert contents(built(sdist, "wheel", tmp_path)) == contents(wheel)


def test_the_wheel_holds_the_package_and_what_karma_init_writes(repository: Path, wheel: Path) -> None:
    names = contents(wheel).keys()
    package = {
        path.relative_to(repository).as_posix()
        for path in (repository / "karma_plugins").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package <= names
    stages = {f"karma_plugins/_pipelines/stages/{p.name}" for p in (repository / "stages").glob("*.py")}
    assert stages <= names
    for folder in ("", "examples/hub/", "examples/endpoint/", "examples/recorded/"):
        assert {f"karma_plugins/_pipelines/{folder}{name}.yaml" for name in ("dvc", "params")} <= names
    assert {f"karma_plugins/_pipelines/examples/{name}/README.md" for name in TEMPLATES} <= names


def test_the_sdist_holds_what_a_test_of_it_needs(repository: Path, sdist: Path) -> None:
    for name in ("stages/judge.py", "examples/recorded/stages/judge.py", "tests/conftest.py", "Makefile"):
        assert (sdist / name).read_bytes() == (repository / name).read_bytes()


def test_no_link_of_the_index_page_leads_nowhere(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        page = archive.read(name).decode().partition("\n\n")[2]
    assert "# karma-plugins" in page
    assert "docs/architecture.md" in page
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
