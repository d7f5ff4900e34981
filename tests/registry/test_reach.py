"""Which modules a digest counts: those that an import statement reaches, found again here by grimp."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import grimp
import pytest

from karma_plugins.registry import manager, reach
from karma_plugins.registry.reach import DECLARATIONS, INERT, PACKAGE, Home, digest, reached
from karma_plugins.registry.stages import STAGES

PLUGINS = sorted(
    (kind, name, origin.module) for (kind, name), (_, origin) in manager.load([]).plugins.items()
)


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, exclude_type_checking_imports=True)


def expected(module: str) -> set[str]:
    """The modules downstream of one, by grimp's graph, without the rooms that decide no byte."""
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        inert = name == PACKAGE or any(name == room or name.startswith(f"{room}.") for room in INERT)
        if name in seen or inert or name in DECLARATIONS:
            continue
        seen.add(name)
        waiting += graph().find_modules_directly_imported_by(name)
    return seen


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The package once more, to be changed."""
    folder = tmp_path_factory.mktemp("copy") / PACKAGE
    shutil.copytree(Path(reach.__file__).parent.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return Home({PACKAGE: [folder]})


def all_digests(home: Home) -> dict[str, str]:
    roots = {module for *_, module in PLUGINS} | {s.module for s in STAGES.values() if s.name != "code"}
    return {module: digest(reached([module], Home(home.places))) for module in sorted(roots)}


@pytest.mark.parametrize("module", sorted({module for *_, module in PLUGINS}))
def test_reached_is_what_grimp_finds(module: str) -> None:
    assert set(reached([module], reach.ours()).modules) == expected(module)


def test_a_comment_changes_exactly_the_digests_of_what_imports_the_module(copy: Home) -> None:
    before = all_digests(copy)
    for _, name, module in PLUGINS:
        file = Home(copy.places).file(module)
        assert file is not None
        text = file.read_text(encoding="utf-8")
        file.write_text(f"{text}\n# a comment\n", encoding="utf-8")
        after = all_digests(copy)
        file.write_text(text, encoding="utf-8")
        changed = {root for root in before if before[root] != after[root]}
        assert changed == {root for root in before if module in expected(root)}, name
        assert module in changed
    assert all_digests(copy) == before


def test_a_new_file_beside_a_plugin_changes_none(copy: Home) -> None:
    before = all_digests(copy)
    for folder in sorted({module.rpartition(".")[0] for *_, module in PLUGINS}):
        (copy.places[PACKAGE][0].joinpath(*folder.split(".")[1:]) / "new_one.py").write_text("X = 1\n")
    assert all_digests(copy) == before


def test_line_ends_of_other_systems_change_none(copy: Home) -> None:
    before = all_digests(copy)
    for file in copy.places[PACKAGE][0].rglob("*"):
        if file.suffix in (".py", ".md"):
            file.write_bytes(file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert all_digests(copy) == before


def write(folder: Path, **files: str) -> Home:
    for name, text in files.items():
        path = folder / f"{name.replace('__init', '/__init__').replace('_in_', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Home({"pkg": [folder / "pkg"]})


def modules(folder: Path, **files: str) -> set[str]:
    return set(reached(["pkg.root"], write(folder, **files)).modules)


@pytest.mark.parametrize(
    ("statement", "counted"),
    [
        ("from pkg.sub.a import f", {"pkg.sub.a"}),
        ("from pkg.sub import a", {"pkg.sub.a"}),
        ("from pkg.sub import g", {"pkg.sub"}),
        ("from pkg.sub import a, g", {"pkg.sub", "pkg.sub.a"}),
        ("from .sub import a as b", {"pkg.sub.a"}),
        ("from . import sub", {"pkg.sub"}),
        ("import pkg.sub.a", {"pkg", "pkg.sub.a"}),
        ("import pkg.sub.a as b", {"pkg.sub.a"}),
        ("from pkg.sub import *", {"pkg.sub", "pkg.sub.b"}),
        ("from pkg.sub import both", {"pkg.sub", "pkg.sub.both"}),
        ("def f():\n    from pkg.sub import a", {"pkg.sub.a"}),
        (
            "try:\n    from pkg.sub import a\nexcept ImportError:\n    from pkg.sub import b",
            {"pkg.sub.a", "pkg.sub.b"},
        ),
        ("from importlib import import_module\nimport_module('pkg.sub.a')", {"pkg.sub.a"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg.sub import a", set()),
        ("TEXT = '''\nfrom pkg.sub import a\n'''", set()),
        ("import json, numpy\nfrom os import path", set()),
        ("from pkg.sub import missing_module", {"pkg.sub"}),
    ],
)
def test_what_a_statement_counts(tmp_path: Path, statement: str, counted: set[str]) -> None:
    files = {
        "pkg__init": "", "pkg_in_root": statement, "pkg_in_sub_in_a": "", "pkg_in_sub_in_b": "",
        "pkg_in_sub__init": "__all__ = ['b']\ndef g(): ...\nboth = 1\n", "pkg_in_sub_in_both": "",
    }  # fmt: skip
    assert modules(tmp_path, **files) == {"pkg.root"} | counted


def test_a_circle_ends(tmp_path: Path) -> None:
    found = modules(
        tmp_path, pkg__init="", pkg_in_root="from pkg import other", pkg_in_other="from pkg import root"
    )
    assert found == {"pkg.root", "pkg.other"}


def test_data_files_count_where_they_are_named(tmp_path: Path) -> None:
    home = write(tmp_path, pkg__init="", pkg_in_root="NAME = 'rubric.md'\nFOLDER = 'templates'\n")
    for name in ("rubric.md", "other.md", "templates/a.txt"):
        (tmp_path / "pkg" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "pkg" / name).write_text("old")
    before = digest(reached(["pkg.root"], home))
    (tmp_path / "pkg" / "other.md").write_text("newer")
    assert digest(reached(["pkg.root"], home)) == before
    for name in ("rubric.md", "templates/a.txt"):
        (tmp_path / "pkg" / name).write_text("newer")
        changed = digest(reached(["pkg.root"], home))
        assert changed != before
        before = changed


def test_source_of_a_newer_python_is_counted_as_text(tmp_path: Path) -> None:
    home = write(tmp_path, pkg__init="", pkg_in_root="from pkg import new", pkg_in_new="type X[ = int\n")
    assert set(reached(["pkg.root"], home).modules) == {"pkg.root", "pkg.new"}


@pytest.mark.parametrize("room", sorted(INERT | DECLARATIONS))
def test_rooms_that_are_named_are_there(room: str) -> None:
    assert reach.ours().file(room) is not None or room.endswith(".pictures")


def test_of_declarations_the_classes_that_are_used_count(copy: Home) -> None:
    curriculum, train = (
        {
            name
            for module, name in reached([f"{PACKAGE}.{room}"], copy).definitions
            if module.endswith(".params")
        }
        for room in ("curriculum", "training")
    )
    assert {"CurriculumSection", "Section", "DifficultyPart"} <= curriculum
    assert "TrainSection" in train - curriculum
    assert "EvaluateSection" not in curriculum | train
