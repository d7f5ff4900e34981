"""The digest of the code that a plugin or a stage runs: one for all modules that are reached from it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from inspect import isclass, isfunction, ismethod
from types import FunctionType
from typing import Any

from karma_plugins.contracts import Options, Plugin
from karma_plugins.registry import Origin
from karma_plugins.registry.reach import Home, digest, home, ours, reached
from karma_plugins.registry.stages import Stage


def plugin_digest(plugin: Plugin, origin: Origin) -> str:
    """A digest of the modules of its own distribution that a plugin's functions and options reach.

    Wrappers are taken off. What is bound beside code (the arguments of a partial, an instance behind a
    method, what a decorator closed over) was made where the plugin was registered: then that module counts
    too. Of ours, which register one plugin each, it always does.
    """
    where = _home(origin)
    code = [piece for function in plugin.functions for piece in _unwrapped(function)]
    modules = {_module(piece) for piece in code}
    if plugin.options is not Options:
        modules.add(plugin.options.__module__)
    own = {module for module in modules if where.file(module) is not None}
    plain = all(isfunction(piece) and not piece.__closure__ for piece in code)
    if not origin.entry_point or not plain or len(own) < len(modules):
        own.add(origin.module)
    return digest(reached(own, where))


def core_digest(module: str) -> str:
    """A digest of one of our modules and of those of ours that it reaches."""
    return digest(reached([module], ours()))


def stage_digest(stage: Stage) -> str:
    """A digest of the modules of ours that a stage's script reaches; the script itself is a dep in dvc.yaml.

    Where the working folder holds no script of that name, of the stage's domain module.
    """
    where = ours()
    script = f"stages.{stage.name}"
    what = reached([script if where.file(script) else stage.module], where)
    what.modules.pop(script, None)
    return digest(what)


def _home(origin: Origin) -> Home:
    return home(origin.distribution, origin.module) if origin.entry_point else ours()


def _module(piece: Any) -> str:
    return str(getattr(piece, "__module__", None) or type(piece).__module__)


def _unwrapped(function: Any, depth: int = 0) -> Iterator[Any]:
    """The pieces of code behind a callable: itself, and what it wraps, binds or closes over."""
    yield function
    if depth > 10:
        return
    inner: list[Any] = [getattr(function, "__wrapped__", None)]
    if isinstance(function, partial):
        inner += [function.func, *function.args, *function.keywords.values()]
    elif ismethod(function):
        owner = function.__self__
        inner += [function.__func__, owner if isclass(owner) else type(owner)]
    elif isinstance(function, FunctionType):
        inner += [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    elif not isclass(function):
        inner += [type(function)]
    for piece in inner:
        if callable(piece) and piece is not function:
            yield from _unwrapped(piece, depth + 1)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that was never given a value
        return False
