"""Builds the plugin registry: built-ins and entry points of group `karma`, all through the same hooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import pluggy

from karma_plugins import __version__, hookspecs
from karma_plugins.contracts import API_VERSION, KINDS, Options, Plugin
from karma_plugins.errors import install
from karma_plugins.registry import Broken, Origin, Registry

GROUP = "karma"
OURS = Origin("karma-plugins", __version__)
#: One plugin a file, by the room of its kind; modules here import their heavy libraries only where called.
BUILT_INS = {
    "profiling.profilers": ("lm_eval", "recorded"),
    "kinship.metrics": (
        "capability", "capa", "error_consistency", "rare_errors", "weights", "style", "answers", "blend",
    ),
    "generation.generators": ("transformers", "recorded", "endpoint"),
    "judging.judges": (
        "reference", "competence", "recorded", "instructions", "reward_model", "likelihood", "llm_rubric",
        "llm_pairwise",
    ),
    "curriculum.pairings": ("kin", "random", "best_worst", "distant", "target_kin", "delta"),
    "training.objectives": ("dpo", "kto", "orpo", "ppo", "rloo"),
    "importers.layouts": (
        "alpaca_eval", "argilla", "arena", "hh_rlhf", "helpsteer", "label_studio", "nectar", "open_assistant",
        "pairs", "shp", "ultrafeedback", "unpaired",
    ),
    "exporters.layouts": ("argilla", "hub", "jsonl", "label_studio", "trl"),
    "runtime.runners": ("local", "ray"),
}  # fmt: skip


def load(extra: Iterable[EntryPoint] | None = None) -> Registry:
    """A fresh registry of built-ins and installed plugins; `extra` stands in for the installed ones in tests.

    What can't be loaded is kept in `Registry.broken` with the distribution, the entry point and the cure;
    nothing depends on the order in which distributions are found.
    """
    registry = Registry()
    for kind, plugin, module in _built_ins():
        registry.add(kind, plugin, replace(OURS, module=module))
    for entry in sorted(
        _installed() if extra is None else extra,
        key=lambda e: (e.dist.name if e.dist else "", e.name, e.value),
    ):
        distribution, version = (entry.dist.name, entry.dist.version) if entry.dist else ("?", "?")
        origin = Origin(distribution, version, entry.name, entry.value.partition(":")[0].strip())
        place = f"{origin}, entry point '{entry.name} = {entry.value}'"
        try:
            module = entry.load()
        except (Exception, SystemExit) as error:  # an import may fail in any way, and takes no other down
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            cure = "Upgrade or uninstall it"
            if isinstance(error, ModuleNotFoundError) and error.name:
                cure = f"Install what it needs: {install(error.name.partition('.')[0])}"
            registry.broken.append(Broken(origin, f"{place} can't be imported ({reason}). {cure}"))
            continue
        try:
            _register(registry, module, origin)
        except (pluggy.PluginValidationError, TypeError, ValueError) as error:
            registry.broken.append(Broken(origin, f"{place}: {error}"))
    return registry


@cache
def shared() -> Registry:
    """The registry of a process that computes pieces for another: what is installed does not change in it."""
    return load()


@cache
def _built_ins() -> Sequence[tuple[str, Plugin, str]]:
    """Our own plugins, their kinds and modules, through the same hooks; they do not change in a process."""
    plugins: list[tuple[str, Plugin, str]] = []
    for room, names in BUILT_INS.items():
        for name in names:
            module = f"karma_plugins.{room}.{name}"
            manager = pluggy.PluginManager("karma")
            manager.add_hookspecs(hookspecs)
            manager.register(import_module(module))
            manager.check_pending()
            plugins += [(kind, p, module) for kind in KINDS for p in _call(manager, f"karma_register_{kind}")]
    return plugins


@cache
def _installed() -> Sequence[EntryPoint]:
    """The entry points of our group; looking for them reads the metadata of every distribution."""
    return tuple(entry_points(group=GROUP))


def _register(registry: Registry, module: ModuleType | Any, origin: Origin) -> None:
    """Call one module's hooks through a manager of its own, so that its faults are its own."""
    manager = pluggy.PluginManager("karma")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ValueError(
            _misspelt(module) or f"{' '.join(str(error).split())}. See docs/plugin_hooks.md"
        ) from error
    if not manager.get_hookcallers(module):
        raise ValueError(
            f"it implements no hook. Decorate a function karma_register_… with @hookimpl ({_hooks()})"
        )
    for kind, cls in KINDS.items():
        for plugin in _call(manager, f"karma_register_{kind}"):
            if not isinstance(plugin, cls):
                raise TypeError(
                    f"karma_register_{kind} must return {cls.__name__} objects, found {type(plugin).__name__}"
                )
            if plugin.api != API_VERSION:
                side = "Upgrade karma-plugins" if plugin.api > API_VERSION else "Upgrade that distribution"
                message = (
                    f"{origin}, entry point '{origin.entry_point}': '{plugin.name}' was made for version "
                    f"{plugin.api} of the plugin contract, this is version {API_VERSION}. {side}"
                )
                registry.broken.append(Broken(origin, message, kind, plugin.name))
                continue
            if not (isinstance(plugin.options, type) and issubclass(plugin.options, Options)):
                raise TypeError(
                    f"options of '{plugin.name}' must be a subclass of karma_plugins.Options, which refuses "
                    "unknown keys"
                )
            registry.add(kind, plugin, origin)


def _call(manager: pluggy.PluginManager, hook: str) -> Sequence[Plugin]:
    try:
        return [plugin for plugins in getattr(manager.hook, hook)() for plugin in plugins]
    except (Exception, SystemExit) as error:  # the author's code runs here
        raise ValueError(
            f"{hook} raised {type(error).__name__}: {' '.join(str(error).split())}. Upgrade or uninstall it"
        ) from error


def _misspelt(module: Any) -> str | None:
    known = [f"karma_register_{kind}" for kind in KINDS]
    for name in dir(module):
        if hasattr(getattr(module, name, None), "karma_impl") and name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.3)
            return f"unknown hook '{name}'. Did you mean '{near[0] if near else known[0]}'?"
    return None


def _hooks() -> str:
    return ", ".join(f"karma_register_{kind}" for kind in KINDS)
