"""karma.lock.json: which code produced the data.

DVC hashes data and params but does not follow imports, so a plugin's new version would silently reuse old
results. The lock holds, for each stage, its core (the modules that its script reaches) and every installed
plugin of its kind: distribution, version, digest of the code. A stage depends on its core and on the entries
of the plugins that its params name. `karma lock` rewrites the file; a stage whose installed code differs from
it stops.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from karma_plugins import __version__
from karma_plugins.contracts import Plugin
from karma_plugins.errors import LockError
from karma_plugins.registry import Bound, Origin, Registry, kind_name
from karma_plugins.registry.digests import core_digest, plugin_digest, stage_digest
from karma_plugins.registry.stages import STAGES, home_of
from karma_plugins.runtime.files import keep_out_of_git, replacing
from karma_plugins.runtime.shards import karma_folder, locked

__all__ = [
    "CORE",
    "LOCK",
    "Section",
    "accept",
    "compute",
    "core_digest",
    "plugin_digest",
    "read",
    "unlocked",
    "verify",
    "write",
]

LOCK = Path("karma.lock.json")
CORE = "core"

#: A stage's entries by the name of the plugin (or `core`): distribution, version, digest.
Section = dict[str, dict[str, str]]


def compute(registry: Registry) -> dict[str, Section]:
    """The whole lock of what is installed: for each stage its core and the plugins of its kind."""
    lock = {name: {CORE: _core(name)} for name in STAGES}
    for (kind, name), (plugin, origin) in registry.plugins.items():
        if (home := home_of(kind)) is not None:  # of importers and exporters no stage's bytes depend
            lock[home][name] = plugin_entry(plugin, origin)
    return {stage: dict(sorted(section.items())) for stage, section in lock.items()}


def verify(stage: str, used: Iterable[Bound[Any]], path: Path = LOCK) -> None:
    """Stop where the installed code of a stage or plugin is not the locked one, or is not in the lock at all.

    Raises LockError with what differs and `karma lock` as the cure. Nothing is written.
    """
    document = read(path)
    installed = {(stage, CORE): _core(stage)}
    installed |= {(_home(b), b.plugin.name): plugin_entry(b.plugin, b.origin) for b in used}
    for (section, name), entry in installed.items():
        accepted = document.get(section, {}).get(name)
        if accepted is None:
            raise LockError(f"{path}, {section}: holds no '{name}' ({_version(entry)}). Run `karma lock`.")
        if accepted != entry:
            raise LockError(
                f"{path}, {section}: {_difference(name, accepted, entry)}. Results would mix two codes: "
                "run `karma lock` to accept the new one, then `dvc repro`."
            )


def unlocked(registry: Registry, path: Path = LOCK) -> list[str]:
    """The installed plugins that the lock does not hold, which `dvc exp run -S` therefore can't name."""
    document = read(path)
    return [
        f"{home}.{name} ({origin.distribution} {origin.version})"
        for (kind, name), (_, origin) in sorted(registry.plugins.items(), key=lambda item: item[0])
        if (home := home_of(kind)) is not None and name not in document.get(home, {})
    ]


def named(
    used: Mapping[str, Iterable[Bound[Any]]], path: Path = LOCK
) -> dict[str, dict[str, dict[str, str]]]:
    """For each stage that may name several plugins, what the lock says of those in `used`, by key.

    Raises LockError where the lock lacks one, or where the installed code is another.
    """
    document = read(path)
    notes: dict[str, dict[str, dict[str, str]]] = {}
    for stage in STAGES.values():
        if stage.noted and stage.name in used:
            keys = [(_home(b), b.plugin.name) for b in used[stage.name]]
            verify(stage.name, used[stage.name], path)
            notes[stage.name] = {f"{home}.{name}": document[home][name] for home, name in sorted(keys)}
    return notes


def accept(registry: Registry, path: Path = LOCK) -> tuple[list[str], bool]:
    """Rewrite the lock from what is installed, whatever state the file is in.

    Returns the stages whose section changed, and whether the file was readable before. Raises LockError where
    something that is no file is in its place.
    """
    folder = karma_folder() / "lock"
    keep_out_of_git(folder)
    with locked(folder):
        try:
            before, readable = read(path), True
        except LockError:
            before, readable = {}, not path.exists()
        after = compute(registry)
        write(after, path)
    return [stage for stage in after if before.get(stage) != after[stage]], readable


def read(path: Path = LOCK) -> dict[str, Section]:
    """The lock file; LockError where it is missing or broken."""
    if not path.is_file():
        what = "is no file. Move it away and run" if path.exists() else "no such file. Run"
        raise LockError(f"{path}: {what} `karma lock`.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise LockError(f"{path}: not JSON ({' '.join(str(error).split())}). Run `karma lock`.") from error
    if not isinstance(document, dict):
        raise LockError(f"{path}: must hold a mapping of stages. Run `karma lock`.")
    for stage, section in document.items():
        if not isinstance(section, dict) or not all(_is_entry(entry) for entry in section.values()):
            raise LockError(
                f"{path}, {stage}: must map each plugin to its distribution, version and digest. "
                "Run `karma lock`."
            )
    return document


def write(lock: Mapping[str, Section], path: Path = LOCK) -> None:
    """Write the lock whole or not at all; LockError where something that is no file is in its place."""
    if path.exists() and not path.is_file():
        raise LockError(f"{path}: is no file. Move it away and run `karma lock`.")
    with replacing(path.resolve()) as partial:  # an example's lock is a link to the repository's
        text = json.dumps(lock, indent=1, sort_keys=True) + "\n"
        partial.write_text(text, encoding="utf-8", newline="\n")


def plugin_entry(plugin: Plugin, origin: Origin) -> dict[str, str]:
    """What the lock says of a plugin."""
    return _entry(origin, plugin_digest(plugin, origin))


def _home(bound: Bound[Any]) -> str:
    return home_of(kind_name(type(bound.plugin))) or ""


def _core(stage: str) -> dict[str, str]:
    return _entry(Origin("karma-plugins", __version__), stage_digest(STAGES[stage]))


def _entry(origin: Origin, digest: str) -> dict[str, str]:
    return {"distribution": origin.distribution, "version": origin.version, "digest": digest}


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(key), str) for key in ("distribution", "version", "digest")
    )


def _version(entry: Mapping[str, str]) -> str:
    return f"{entry['distribution']} {entry['version']}"


def _difference(name: str, accepted: Mapping[str, str], installed: Mapping[str, str]) -> str:
    for key in ("distribution", "version"):
        if accepted[key] != installed[key]:
            return f"{key} of '{name}' is {installed[key]}, locked is {accepted[key]}"
    return f"the code of '{name}' ({_version(installed)}) is not the locked one"
