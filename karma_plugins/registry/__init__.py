"""From a name in params to a plugin with validated options. A collision is an error, an unknown name suggests
the nearest.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from karma_plugins.contracts import KINDS, Judge, Options, Plugin
from karma_plugins.errors import PluginError, did_you_mean, installed, require
from karma_plugins.params import JudgeEntry, validate

P = TypeVar("P", bound=Plugin)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a plugin comes from: distribution and version, entry point (empty for built-ins), and the module
    that registers it.
    """

    distribution: str
    version: str
    entry_point: str = ""
    module: str = ""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class Broken:
    """An entry point, or one name of it, that can't be used, and why. `name` is empty where nobody can know
    it.
    """

    origin: Origin
    message: str
    kind: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Bound(Generic[P]):
    """A plugin as a section names it: the entry's name, the plugin, its validated options, its origin."""

    name: str
    plugin: P
    options: Options
    origin: Origin

    @property
    def files(self) -> list[Path]:
        """The files and folders whose bytes decide what the plugin does with these options."""
        return [] if self.plugin.reads is None else list(self.plugin.reads(self.options))

    def __reduce__(self) -> tuple[Callable[..., Bound[Any]], tuple[Any, ...]]:
        """Pickled by name: another process takes the plugin from its own registry."""
        return registered, (kind_name(type(self.plugin)), self.plugin.name, self.name, self.options)

    def check_installed(self) -> None:
        """Raise NotInstalledError where a package is absent that the plugin needs."""
        kind = _singular(kind_name(type(self.plugin)))
        require(f"{kind.capitalize()} '{self.plugin.name}'", *self.plugin.needs)

    @property
    def version(self) -> str:
        """What tables and runs record: plugin, distribution and version."""
        return f"{self.plugin.name} ({self.origin})"


@dataclass
class Registry:
    """All plugins by kind and name, and what could not be loaded."""

    plugins: dict[tuple[str, str], tuple[Plugin, Origin]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)

    def add(self, kind: str, plugin: Plugin, origin: Origin) -> None:
        """Register a plugin; a name that is taken makes both unusable, whatever came first."""
        known = self.plugins.get((kind, plugin.name))
        if known is None and not any((b.kind, b.name) == (kind, plugin.name) for b in self.broken):
            self.plugins[kind, plugin.name] = (plugin, origin)
            return
        other = (
            known[1]
            if known
            else next(b.origin for b in self.broken if (b.kind, b.name) == (kind, plugin.name))
        )
        first, second = sorted((_describe(origin), _describe(other)))
        self.plugins.pop((kind, plugin.name), None)
        message = f"{_singular(kind)} '{plugin.name}' is registered twice"
        message += f", by {first} and by {second}. Uninstall or rename one"
        self.broken.append(Broken(origin, message, kind, plugin.name))

    def names(self, kind: str) -> list[str]:
        """The usable names of a kind, sorted."""
        return sorted(name for k, name in self.plugins if k == kind)

    def bind(
        self,
        kind: type[P],
        name: str,
        options: Mapping[str, Any] | None = None,
        *,
        where: str = "a call of bind",
        alias: str = "",
        place: str = "",
    ) -> Bound[P]:
        """The plugin of that name with its options validated.

        Raises PluginError for an unknown or broken name, ParamsError for an unknown or wrong option; `where`
        is the key in params that names it, `place` the one that holds its options, where that is another.
        """
        label = kind_name(kind)
        plugin, origin = self.known(label, name, where=where)
        checked = validate(
            plugin.options,
            dict(options or {}),
            where=f"{place or where}, options of {_singular(label)} '{name}' ({origin})",
        )
        return Bound(alias or name, cast(P, plugin), checked, origin)

    def known(self, kind: str, name: str, *, where: str) -> tuple[Plugin, Origin]:
        """The plugin of that name, and where it comes from; PluginError for an unknown or broken one."""
        if (kind, name) not in self.plugins:
            raise PluginError(self._unknown(kind, name, where))
        return self.plugins[kind, name]

    def refuse_unknown(self, kind: type[Plugin], name: str, *, where: str) -> None:
        """Raise PluginError for a name that is neither registered nor that of a broken plugin."""
        label = kind_name(kind)
        broken = any(b.name in ("", name) and b.kind in ("", label) for b in self.broken)
        if (label, name) not in self.plugins and not broken:
            raise PluginError(self._unknown(label, name, where))

    def warn_about_broken(self) -> None:
        """One warning for each entry point that can't be used; nothing that is used needs it, or `bind` would
        stop.
        """
        for broken in self.broken:
            warnings.warn(f"{broken.message} (not used here; see 'karma plugins').", stacklevel=2)

    def _unknown(self, label: str, name: str, where: str) -> str:
        same = [b for b in self.broken if (b.kind, b.name) == (label, name)]
        if same:
            return f"{where}: {same[0].message}."
        names = self.names(label)
        text = f"Unknown {_singular(label)} '{name}' in {where}.{did_you_mean(name, names)}"
        text += f" Installed: {', '.join(names)}"
        nameless = [b for b in self.broken if not b.name]
        if nameless:
            text += (
                f". It may be in a plugin that could not be loaded: {'; '.join(b.message for b in nameless)}"
            )
        return f"{text} (see 'karma plugins')."


def registered(kind: str, name: str, alias: str, options: Options) -> Bound[Any]:
    """A plugin of this process's own registry under options that another process checked.

    Raises PluginError where there is none of that name here.
    """
    from karma_plugins.registry.manager import shared

    plugin, origin = shared().known(kind, name, where="a piece of work")
    return Bound(alias, plugin, options, origin)


def absent(plugin: Plugin) -> str | None:
    """The first package that a plugin needs and that is not installed; null where all are."""
    return next((package for package in plugin.needs if not installed(package)), None)


def kind_name(kind: type[Plugin]) -> str:
    """The name of a kind, such as `judges` for Judge."""
    return next(name for name, cls in KINDS.items() if cls is kind)


def _singular(kind: str) -> str:
    return kind.removesuffix("s").replace("_", " ")


def _describe(origin: Origin) -> str:
    return f"{origin} (entry point '{origin.entry_point}')" if origin.entry_point else f"{origin} (built in)"


@dataclass(frozen=True, slots=True)
class Juror:
    """A judge, and what its entry in params says beside the options."""

    judge: Bound[Judge]
    entry: JudgeEntry = field(default_factory=JudgeEntry)
