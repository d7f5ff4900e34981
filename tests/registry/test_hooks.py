"""Every hook is documented with its exact signature, has a built-in that uses it, and a contract test."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from karma_plugins import hookspecs, testing
from karma_plugins.contracts import KINDS
from karma_plugins.registry import manager

HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("karma_register_"))


def test_hooks_are_exactly_the_kinds() -> None:
    assert sorted(f"karma_register_{kind}" for kind in KINDS) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_is_documented_with_its_signature(hook: str, repository: Path) -> None:
    text = (repository / "docs" / "plugin_hooks.md").read_text(encoding="utf-8")
    signature = f"{hook}{inspect.signature(getattr(hookspecs, hook))}".replace("'", "")
    assert re.search(rf"^### `{re.escape(signature)}`$", text, re.MULTILINE), (
        f"docs/plugin_hooks.md lacks {signature}"
    )
    assert inspect.getdoc(getattr(hookspecs, hook))


def test_docs_describe_no_hook_that_is_not_there(repository: Path) -> None:
    text = (repository / "docs" / "plugin_hooks.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^### `(karma_\w+)\(", text, re.MULTILINE)) == HOOKS


@pytest.mark.parametrize("kind", KINDS)
def test_kind_has_a_built_in_and_a_contract_test(kind: str, repository: Path) -> None:
    registry = manager.load([])
    assert any(not origin.entry_point for (k, _), (_, origin) in registry.plugins.items() if k == kind)
    contract = f"{KINDS[kind].__name__}Contract"
    assert hasattr(testing, contract)
    users = [
        p
        for p in (repository / "tests").rglob("test_*.py")
        if re.search(rf"^class \w+\((\w+, )*{contract}\)", p.read_text(), re.M)
    ]
    assert users, f"no test subclasses {contract}"
