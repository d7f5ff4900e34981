"""What stages and plugins of others import is what docs/api.md says is stable, and it is all there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import karma_plugins
from karma_plugins.registry.syntax import facts

PLUGIN_MODULES = {"karma_plugins.importers", "karma_plugins.schemas", "karma_plugins.testing"}


def face(repository: Path) -> dict[str, set[str]]:
    """Module -> names, as the table of docs/api.md lists them."""
    text = (repository / "docs" / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(karma_plugins[\w.]*)` \| (.*) \|$", text, re.MULTILINE)
    return {module: set(re.findall(r"`(\w+)`", names)) for module, names in rows}


def imported(file: Path) -> Iterator[tuple[str, str]]:
    """Each name of ours that a file uses, with the module it takes it from."""
    said = facts(file)
    for statement in said.imports:
        if statement.names is None and statement.module.startswith("karma_plugins"):
            yield statement.module, "(as a whole)"
    for alias, behind in said.aliases.items():
        if behind.startswith("karma_plugins"):
            home, _, name = behind.rpartition(".")
            used = said.attributes.get(alias)
            yield from ((behind, attribute) for attribute in used) if used else [(home, name)]


def test_stages_import_the_face_alone(repository: Path) -> None:
    listed, used = face(repository), set()
    for file in sorted((repository / "stages").glob("*.py")):
        for module, name in imported(file):
            assert name in listed.get(module, ()), f"{file.name}: {module}.{name} is not in docs/api.md"
            used.add(module)
    assert len(used) > 15


def test_the_demo_plugin_imports_the_face_alone(repository: Path) -> None:
    files = sorted((repository / "tests" / "plugins" / "karma-demo").rglob("*.py"))
    assert len(files) >= 3
    for file in files:
        for module, name in imported(file):
            names = karma_plugins.__all__ if module == "karma_plugins" else None
            assert module in PLUGIN_MODULES or (names and name in names), f"{file.name}: {module}.{name}"


def test_the_face_is_there(repository: Path) -> None:
    for module, names in face(repository).items():
        for name in names:
            assert hasattr(import_module(module), name), f"{module}.{name}"
    for name in karma_plugins.__all__:
        assert getattr(karma_plugins, name) is not None
