"""A template's files in a user's folder: written where nothing lies, and brought up to date around edits."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from karma_plugins.errors import KarmaError
from karma_plugins.runtime.files import replacing

#: What was written, beside dvc.yaml: the template's name, the version that wrote it, and each file's text.
#: It is the base of three-way merges, also in a colleague's clone, so git carries it.
RECORD = Path("karma.template.json")
#: What the new text of a file is called where it can't be merged into an edited one.
BESIDE = ".karma-new"


@dataclass(frozen=True, slots=True)
class Written:
    """What a folder was made from: a template, the version that wrote it, the text of each file."""

    template: str
    version: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Changes:
    """What an update did, by file: written, merged around edits, removed, or left to be merged by hand."""

    new: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def recorded(folder: Path) -> Written | None:
    """What `karma init` noted in a folder; null where it noted nothing.

    Raises KarmaError where the note is broken.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        return Written(
            str(noted["template"]), str(noted["version"]), {k: str(v) for k, v in noted["files"].items()}
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise KarmaError(
            f"{path}: not what `karma init` wrote ({' '.join(str(error).split())}). Restore it from git."
        ) from error


def record(folder: Path, written: Written) -> None:
    """Note what a folder was made from."""
    document = {"template": written.template, "version": written.version, "files": dict(written.files)}
    with replacing(folder / RECORD) as partial:
        partial.write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def write(folder: Path, wanted: Mapping[Path, str]) -> None:
    """Write files that are not there; those that are must hold the very text.

    Raises KarmaError where one holds another, before anything is written.
    """
    differing = [str(folder / name) for name, text in wanted.items() if not _may_hold(folder / name, text)]
    if differing:
        raise KarmaError(
            f"{', '.join(differing)}: there already, with other content; nothing was written. Name an empty "
            "folder (`karma init --into FOLDER`), or, after an upgrade, run `karma init --update`."
        )
    for name, text in wanted.items():
        _put(folder / name, text)


def update(folder: Path, base: Mapping[str, str], wanted: Mapping[Path, str]) -> Changes:
    """Bring a folder from `base` to `wanted`, three-way: an edit is kept, and merged with where git can.

    A file that can't be merged stays as it is, with the new text in `NAME.karma-new` beside it.
    """
    changes = Changes()
    after = {name.as_posix(): text for name, text in wanted.items()}
    for name in sorted({*base, *after}):
        if base.get(name) != after.get(name):
            _update_file(folder / name, name, base.get(name), after.get(name), changes)
    return changes


def _update_file(path: Path, name: str, before: str | None, after: str | None, changes: Changes) -> None:
    mine = _text(path)
    if mine == after:
        return
    if after is None:
        if mine == before:
            path.unlink()
            changes.removed.append(name)
        else:
            changes.left[name] = "edited, and no part of the template any more"
    elif mine is None and not path.exists():
        if before is None:
            _put(path, after)
            changes.new.append(name)
        else:
            changes.left[name] = "removed here, and changed in the template"
    elif mine == before:
        _put(path, after)
        changes.updated.append(name)
    elif mine is not None and before is not None and (both := merged(mine, before, after)) is not None:
        _put(path, both)
        changes.merged.append(name)
    else:
        beside = path.with_name(path.name + BESIDE)
        _put(beside, after)
        changes.left[name] = f"edited where the template changed; {beside.name} holds the new text"


def merged(mine: str, before: str, after: str) -> str | None:
    """Both sides' changes to a text, as git merges them; null where they touch the same lines."""
    with TemporaryDirectory() as scratch:
        paths = [Path(scratch) / name for name in ("mine", "before", "after")]
        for path, text in zip(paths, (mine, before, after), strict=True):
            path.write_text(text, encoding="utf-8", newline="")
        done = subprocess.run(["git", "merge-file", "-p", *map(str, paths)], capture_output=True, check=False)
    return done.stdout.decode("utf-8") if done.returncode == 0 else None


def ignore(path: Path, wanted: str) -> None:
    """Add the lines that a .gitignore lacks, after its own."""
    present = path.read_text(encoding="utf-8") if path.exists() else ""
    missing = [line for line in wanted.splitlines() if line not in present.splitlines()]
    if missing:
        joint = "" if not present or present.endswith("\n") else "\n"
        path.write_text(present + joint + "\n".join(missing) + "\n", encoding="utf-8")


def _may_hold(path: Path, text: str) -> bool:
    return (not path.exists() and not path.is_symlink()) or _text(path) == text


def _text(path: Path) -> str | None:
    """What a file holds; null where it is none, or no text."""
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _put(path: Path, text: str) -> None:
    """Write a text as it is, unless it is there."""
    if _text(path) != text:
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8", newline="")
