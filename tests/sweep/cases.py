"""What a case of the sweep is: a command, what is odd about its folder, and what it must say.

A new case is one line in one of the tables beside this module:

    stops("prompts", "line 7: not JSON", appended("prompts.jsonl", "\\n{broken"))
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

#: Changes the folder that a command runs in.
Change = Callable[[], object]
#: Removes a key of params.
GONE = object()


@dataclass(frozen=True)
class Case:
    """`command` is a stage with its arguments, or begins with `karma`; `status` 1: a stop, 2: wrong usage."""

    command: tuple[str, ...]
    says: str
    changes: tuple[Change, ...] = ()
    status: int = 1
    #: The stop names several things in a line each, as `karma check` does.
    many: bool = False

    @property
    def name(self) -> str:
        words = " ".join(word[:60] for word in self.command)
        odd = ", ".join(getattr(change, "odd", "") for change in self.changes)
        return f"{words} | {odd}".encode("ascii", "backslashreplace").decode()[:200]


def stops(command: str | tuple[str, ...], says: str, *changes: Change) -> Case:
    """The command must end with status 1 and one line that holds `says`."""
    return Case(_words(command), says, changes)


def goes(command: str | tuple[str, ...], says: str = "", *changes: Change) -> Case:
    """The command must end well, and say this."""
    return Case(_words(command), says, changes, status=0)


def usage(command: str | tuple[str, ...], says: str, *changes: Change) -> Case:
    """The command is not one: status 2, the usage, and a last line that holds `says`."""
    return Case(_words(command), says, changes, status=2)


def finds(says: str, *changes: Change) -> Case:
    """`karma check` must name it among its errors or warnings."""
    return Case(("karma", "check"), says, changes, status=-1, many=True)


def _words(command: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(command.split()) if isinstance(command, str) else command


# --- what may be odd about a folder -------------------------------------------------------------------------


def change(odd: str) -> Callable[[Callable[[], object]], Change]:
    """Name a change."""

    def name(function: Change) -> Change:
        function.odd = odd  # type: ignore[attr-defined]
        return function

    return name


def param(path: str, value: Any) -> Change:
    """A key of params.yaml at a dotted path."""

    @change(f"{path}={str(value)[:90] if value is not GONE else 'gone'}")
    def apply() -> None:
        document = deepcopy(yaml.safe_load(Path("params.yaml").read_text()))
        *parents, last = path.split(".")
        place = document
        for key in parents:
            place = place.setdefault(key, {})
        if value is GONE:
            del place[last]
        else:
            place[last] = value
        Path("params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))

    return apply


def holds(path: str, content: Any) -> Change:
    """A file with this text, these bytes, or this value as JSON."""
    shown = content if isinstance(content, str) else repr(content)

    @change(f"{path}: {shown[:30]!r}…{shown[-50:]!r} of {len(shown)}")
    def apply() -> None:
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            place.write_bytes(content)
        else:
            place.write_text(content if isinstance(content, str) else json.dumps(content))

    return apply


def rows(path: str, *records: Any) -> Change:
    """A file of JSON lines."""
    return holds(path, "\n".join(map(json.dumps, records)) + "\n")


def appended(path: str, text: str) -> Change:
    """A file with a text added at its end."""

    @change(f"{path} + {text[:40]!r} of {len(text)}")
    def apply() -> None:
        with Path(path).open("a") as file:
            file.write(text)

    return apply


def gone(path: str) -> Change:
    """No file."""
    return _named(f"no {path}", lambda: Path(path).unlink())


def folder(path: str) -> Change:
    """A folder where a file should be, or a new one."""

    @change(f"{path}/")
    def apply() -> None:
        Path(path).unlink(missing_ok=True)
        Path(path).mkdir(parents=True)

    return apply


def pipe(path: str) -> Change:
    """A named pipe that nobody writes to."""

    @change(f"{path} is a pipe")
    def apply() -> None:
        Path(path).unlink(missing_ok=True)
        os.mkfifo(path)

    return apply


def link(path: str, target: str) -> Change:
    """A symbolic link."""

    @change(f"{path} -> {target}")
    def apply() -> None:
        Path(path).unlink(missing_ok=True)
        Path(path).symlink_to(target)

    return apply


def cut(path: str, share: float = 0.5) -> Change:
    """The first part of a file's bytes."""

    def apply() -> None:
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: int(len(content) * share)])

    return _named(f"{path} cut to {share:.0%}", apply)


def changed(path: str, edit: Callable[[Any], Any], odd: str = "changed") -> Change:
    """A JSON file with its value edited, or a parquet file with its frame edited."""

    def apply() -> None:
        import polars as pl

        if path.endswith(".parquet"):
            edit(pl.read_parquet(path)).write_parquet(path)
        else:
            Path(path).write_text(json.dumps(edit(json.loads(Path(path).read_text()))))

    return _named(f"{path} {odd}", apply)


def variable(name: str, value: str) -> Change:
    """An environment variable."""

    def apply() -> None:
        os.environ[name] = value

    return _named(f"{name}={value[:40]}", apply)


def _named(odd: str, function: Callable[[], object]) -> Change:
    @change(odd)
    def apply() -> object:
        return function()

    return apply
