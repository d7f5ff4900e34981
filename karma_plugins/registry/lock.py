"""karma.lock.json: which code produced the data.

DVC hashes data and params but does not follow imports, so a plugin's new version would silently reuse old
results. The lock records, for each stage, the core modules that it runs and the plugins that it may use
(distribution, version, digest of the code); stages depend on their own section of it. `karma lock` rewrites
it. A stage whose installed code differs from its section stops; a plugin that the section does not hold yet
is added by its first use.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from karma_plugins import __version__
from karma_plugins.contracts import Plugin
from karma_plugins.errors import LockError
from karma_plugins.registry import Bound, Origin, Registry, kind_name

LOCK = Path("karma.lock.json")
CORE = "core"
#: The domain modules that each stage runs and the kinds of plugin that it may use.
STAGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "zoo": ("karma_plugins.zoo", ()),
    "prompts": ("karma_plugins.prompts", ()),
    "profile": ("karma_plugins.profiling", ("profilers",)),
    "kinship": ("karma_plugins.kinship", ("kinship_metrics",)),
    "generate": ("karma_plugins.generation", ("generators",)),
    "judge": ("karma_plugins.judging.hearing", ("judges",)),
    "jury": ("karma_plugins.judging.deciding", ()),
    "curriculum": ("karma_plugins.curriculum", ("pairings",)),
    "train": ("karma_plugins.training", ("objectives",)),
    "evaluate": ("karma_plugins.evaluation", ("judges", "generators", "profilers")),
}
#: Modules whose change must not run a stage again: they decide no byte of any out (the defaults in `params`
#: change with the version of the distribution, which each entry holds too).
INERT = frozenset(
    f"karma_plugins.{name}"
    for name in (
        "cli", "console", "contracts", "curriculum.pictures", "errors", "hookspecs", "kinship.pictures",
        "lineage", "manager", "params", "registry", "registry.lock", "registry.manager", "registry.selection",
        "runtime.canvas", "tracking", "training.pictures",
    )
)  # fmt: skip

Section = dict[str, dict[str, str]]
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(karma_plugins[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]+)"
    r"|import[ \t]+(karma_plugins[\w.]+))",
    re.MULTILINE,
)


def compute(registry: Registry, used: Mapping[str, Iterable[Bound[Any]]]) -> dict[str, Section]:
    """The whole lock: for each stage its core and every installed plugin that it may use."""
    lock: dict[str, Section] = {}
    for stage, (module, kinds) in STAGES.items():
        section = {CORE: _entry(Origin("karma-plugins", __version__), core_digest(module))}
        for (kind, name), (plugin, origin) in registry.plugins.items():
            if kind in kinds:
                section[_label(stage, kind, name)] = plugin_entry(plugin, origin)
        for bound in used.get(stage, ()):
            section[_label(stage, kind_name(type(bound.plugin)), bound.plugin.name)] = _entry_of(bound)
        lock[stage] = dict(sorted(section.items()))
    return lock


def verify(stage: str, used: Iterable[Bound[Any]], path: Path = LOCK, *, dry: bool = False) -> None:
    """Stop where the installed code of a stage differs from its section; add plugins that it does not hold
    yet.

    Raises LockError with what changed and `karma lock` as the cure.
    """
    document = read(path)
    section = document.get(stage)
    if section is None:
        raise LockError(f"{path}: section '{stage}' is missing. Run `karma lock`.")
    found = {CORE: _entry(Origin("karma-plugins", __version__), core_digest(STAGES[stage][0]))}
    found |= {_label(stage, kind_name(type(b.plugin)), b.plugin.name): _entry_of(b) for b in used}
    for name, entry in found.items():
        if name in section and section[name] != entry:
            raise LockError(
                f"{path}, {stage}: {_difference(name, section[name], entry)}. Results would mix two codes: "
                "run `karma lock` to accept the new one, then `dvc repro`."
            )
    missing = {name: entry for name, entry in found.items() if name not in section}
    if missing and not dry:
        write(document | {stage: dict(sorted((section | missing).items()))}, path)


def read(path: Path = LOCK) -> dict[str, Section]:
    """The lock file; LockError where it is missing or broken."""
    if not path.is_file():
        raise LockError(f"{path}: no such file. Run `karma lock`.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LockError(f"{path}: not JSON ({error}). Run `karma lock`.") from error
    if not isinstance(document, dict):
        raise LockError(f"{path}: must hold a mapping of stages. Run `karma lock`.")
    return document


def write(lock: Mapping[str, Section], path: Path = LOCK) -> None:
    """Write the lock whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(lock, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)


def plugin_entry(plugin: Plugin, origin: Origin) -> dict[str, str]:
    """What the lock says of a plugin."""
    return _entry(origin, plugin_digest(plugin, origin))


def _entry_of(bound: Bound[Any]) -> dict[str, str]:
    return plugin_entry(bound.plugin, bound.origin)


def plugin_digest(plugin: Plugin, origin: Origin) -> str:
    """A digest of the code that a plugin runs: an outsider's whole package; of ours, its modules and what
    they import.
    """
    modules = sorted({_module_of(function) for function in plugin.functions} | {plugin.options.__module__})
    modules = [name for name in modules if name not in INERT]
    if not origin.entry_point:
        return _digest(path for name in modules for path in _closure(name))
    return _digest(path for name in modules for path in _package_files(name))


def core_digest(module: str) -> str:
    """A digest of one of our modules and of those of ours that it imports."""
    return _digest(_closure(module))


def _entry(origin: Origin, digest: str) -> dict[str, str]:
    return {"distribution": origin.distribution, "version": origin.version, "digest": digest}


def _difference(name: str, locked: Mapping[str, str], found: Mapping[str, str]) -> str:
    for key in ("distribution", "version"):
        if locked.get(key) != found[key]:
            return f"{key} of '{name}' is {found[key]}, locked is {locked.get(key)}"
    return f"the code of '{name}' ({found['distribution']} {found['version']}) is not the locked one"


def _label(stage: str, kind: str, name: str) -> str:
    """In evaluate, which uses three kinds, names of two kinds may be the same (`recorded`)."""
    return f"{kind}.{name}" if stage == "evaluate" else name


def _module_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__module__", None) or type(function).__module__


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for path in sorted(set(paths)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


@cache
def _source(module: str) -> Path | None:
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if file is None:
        try:
            spec = find_spec(module)
        except (ImportError, ValueError):
            return None
        file = spec.origin if spec else None
    return Path(file) if file and file.endswith(".py") and Path(file).is_file() else None


def _package_files(module: str) -> list[Path]:
    """Every Python file of the top-level package (or the one file) that a module belongs to."""
    top = _source(module.partition(".")[0])
    if top is None:
        return []
    return sorted(top.parent.rglob("*.py")) if top.name == "__init__.py" else [top]


@cache
def _closure(module: str) -> frozenset[Path]:
    """The files of one of our modules and of those of ours that it imports, anywhere in it; a package counts
    whole.
    """
    done: dict[str, list[Path]] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in done or name in INERT or name == "karma_plugins":
            continue
        source = _source(name)
        files = [] if source is None else _files(source)
        done[name] = files
        for file in files:
            if file.suffix == ".py":
                waiting += [found for found in _imports(file) if _source(found) is not None]
    return frozenset(path for files in done.values() for path in files)


def _files(source: Path) -> list[Path]:
    """A module's file; a package's every file, data files included."""
    if source.name != "__init__.py":
        return [source]
    return [p for p in source.parent.rglob("*") if p.is_file() and "__pycache__" not in p.parts]


def _imports(file: Path) -> list[str]:
    """The names of ours that a file imports, anywhere in it; by a pattern, as every start of a stage asks."""
    names: list[str] = []
    for home, imported, whole in _IMPORT.findall(file.read_text(encoding="utf-8")):
        if whole:
            names.append(whole)
            continue
        parts = [part.split()[0] for part in imported.strip("()").split(",") if part.split()]
        names += [home, *(f"{home}.{part}" for part in parts)]
    return [name for name in names if name.startswith("karma_plugins.")]
