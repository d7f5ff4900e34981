"""The task files of a folder, looked at before lm-eval reads them: which are broken, and which run Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karma_plugins.errors import ParamsError

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

#: The tag by which a task file names a Python function, which lm-eval imports and calls.
FUNCTION = "!function"
SUFFIXES = (".yaml", ".yml")


def check(folder: Path, *, functions: bool) -> dict[Path, str]:
    """The files of a folder that are no YAML, each with what is wrong.

    Raises ParamsError where one of the others, or what one includes, would run Python though `functions` is
    false.
    """
    broken: dict[Path, str] = {}
    waiting = [file for file in sorted(folder.rglob("*")) if file.suffix in SUFFIXES and file.is_file()]
    known = set(waiting)
    while waiting:
        file = waiting.pop(0)
        try:
            nodes = list(_nodes(file))
        except _BrokenError as error:
            broken[file] = str(error)
            continue
        for node in nodes:
            if node.tag == FUNCTION and not functions:
                line = node.start_mark.line + 1
                raise ParamsError(
                    f"{file}, line {line}: runs Python (`{FUNCTION} {str(node.value)[:60]}`). Read it; where "
                    "you trust it, set profile.profilers.lm-eval.functions: true."
                )
        fresh = [path for path in _included(nodes, file.parent) if path not in known]
        known.update(fresh)
        waiting += fresh
    return broken


class _BrokenError(Exception):
    """Why a file is no YAML."""


def _nodes(file: Path) -> Iterator[Node]:
    """Every node of a file, none of which is made into a value: lm-eval has tags of its own."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        root = YAML(typ="safe", pure=True).compose(file.read_text(encoding="utf-8"))
    except (YAMLError, ValueError, AttributeError, OSError, RecursionError) as error:
        raise _BrokenError(" ".join(str(error).split())[:200] or type(error).__name__) from error
    waiting, seen = [root] if root is not None else [], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        children: Any = node.value if isinstance(node.value, list) else []
        waiting += [part for child in children for part in (child if isinstance(child, tuple) else (child,))]


def _included(nodes: list[Node], folder: Path) -> Iterator[Path]:
    """The files that the key `include` names, where they are there."""
    for node in nodes:
        if not isinstance(node.value, list):
            continue
        for pair in node.value:
            if isinstance(pair, tuple) and pair[0].value == "include":
                values = pair[1].value if isinstance(pair[1].value, list) else [pair[1]]
                for value in values:
                    path = folder / str(getattr(value, "value", ""))
                    if path.is_file():
                        yield path.resolve()
