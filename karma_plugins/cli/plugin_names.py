"""Names of installed plugins on a command line: completed by the shell, and described in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click
from click.shell_completion import CompletionItem

from karma_plugins.contracts import Plugin

Complete = Callable[[click.Context, click.Parameter, str], Sequence[CompletionItem]]


def completing(kind: str, *, options: bool = False) -> Complete:
    """What completes the name of a plugin of a kind; with `options` also NAME:KEY=, after the colon."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Sequence[CompletionItem]:
        from karma_plugins.registry import manager

        registry = manager.load()
        name, colon, written = incomplete.partition(":")
        if colon and options and (kind, name) in registry.plugins:
            before, comma, key = written.rpartition(",")
            fields = registry.plugins[kind, name][0].options.model_fields
            return [
                CompletionItem(f"{name}:{before}{comma}{field}=", help=of.description)
                for field, of in fields.items()
                if field.startswith(key)
            ]
        return [
            CompletionItem(known, help=described(*registry.plugins[kind, known]))
            for known in registry.names(kind)
            if known.startswith(incomplete)
        ]

    return complete


def described(plugin: Plugin, origin: object) -> str:
    """One line on what a plugin does: its summary, or what the module that registers it says of it.

    A module whose docstring begins 'Judge `NAME`: …' says it of NAME; else it is the docstring of the
    plugin's function.
    """
    if summary := getattr(plugin, "summary", ""):
        return " ".join(str(summary).split())
    module = sys.modules.get(str(getattr(origin, "module", "")))
    lead, colon, rest = _first_paragraph(module).partition(": ")
    if colon and plugin.name in lead.replace("`", " ").replace("'", " ").split():
        return rest[:1].upper() + rest[1:]
    files = (plugin.reads,) if plugin.reads else ()
    functions = [function for function in plugin.functions if function not in files]
    return next((text for function in functions if (text := _first_paragraph(function))), "")


def _first_paragraph(thing: object) -> str:
    return " ".join((getattr(thing, "__doc__", "") or "").strip().partition("\n\n")[0].split())
