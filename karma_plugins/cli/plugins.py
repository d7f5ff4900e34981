"""`karma plugins`: what is installed."""

from __future__ import annotations

import json
from typing import Any

import click

from karma_plugins.console import say
from karma_plugins.contracts import KINDS

#: Columns of the list.
WIDTH = 110


@click.command("plugins")
@click.argument("kind", required=False, type=click.Choice(list(KINDS)), metavar="[KIND]")
@click.option("--json", "as_json", is_flag=True, help="As JSON: a list of plugins and a list of broken ones.")
def command(kind: str | None, as_json: bool) -> None:
    """List each plugin with what it does, its distribution and its options, and those that can't be used.

    KIND (judges, kinship_metrics, …) shows one kind alone. A plugin whose packages are absent is shown as not
    installed, with the command that installs them.
    """
    from karma_plugins.cli.plugin_names import described
    from karma_plugins.errors import install
    from karma_plugins.registry import absent, manager

    registry = manager.load()
    rows: list[dict[str, Any]] = [
        {
            "kind": of,
            "name": name,
            "summary": described(plugin, origin),
            "distribution": origin.distribution,
            "version": origin.version,
            "entry_point": origin.entry_point or None,
            "needs": list(plugin.needs),
            "install": install(lacking) if (lacking := absent(plugin)) else None,
            "options": _options(plugin.options),
        }
        for (of, name), (plugin, origin) in sorted(registry.plugins.items())
        if kind in (None, of)
    ]
    broken = [
        {"distribution": str(b.origin), "entry_point": b.origin.entry_point, "message": b.message}
        for b in registry.broken
    ]
    if as_json:
        say(json.dumps({"plugins": rows, "broken": broken}, indent=1))
        return
    for of in sorted({str(row["kind"]) for row in rows}):
        click.secho(of.replace("_", " "), bold=True)
        _show([row for row in rows if row["kind"] == of])
    for fault in broken:
        click.secho(f"can't be used: {fault['message']}", fg="yellow", err=True)


def _show(rows: list[dict[str, Any]]) -> None:
    """Each plugin's name and what it does; below, where it is from and its options, none of it cut."""
    lines = []
    for row in rows:
        options = ", ".join(f"{name}={_brief(option['default'])}" for name, option in row["options"].items())
        origin = f"{row['distribution']} {row['version']}{': ' if options else ''}{options}"
        lines.append((row["name"], row["summary"] or "(says nothing of itself)"))
        lines.append(("", f"not installed: {row['install']}" if row["install"] else origin))
    formatter = click.HelpFormatter(width=WIDTH)
    formatter.indent()
    formatter.write_dl(lines)
    say(formatter.getvalue().rstrip("\n"))


def _brief(default: Any) -> str:
    """A default in a word; of a structured one --json holds the whole."""
    empty = "{}" if isinstance(default, dict) else "[]"
    if isinstance(default, dict | list):
        return f"{empty[0]}…{empty[1]}" if default else empty
    return "null" if default is None else str(default)


def _options(model: Any) -> dict[str, dict[str, Any]]:
    """Each option with its type, default and description."""
    properties = model.model_json_schema().get("properties", {})
    return {
        name: {
            "type": str(field.annotation).replace("typing.", "")
            if not isinstance(field.annotation, type)
            else field.annotation.__name__,
            "default": "required" if field.is_required() else properties.get(name, {}).get("default"),
            "description": field.description or "",
        }
        for name, field in model.model_fields.items()
    }
