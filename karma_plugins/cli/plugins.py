"""`karma plugins`: what is installed."""

from __future__ import annotations

import json
from typing import Any

import click

from karma_plugins.console import say


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="As JSON: a list of plugins and a list of broken ones.")
def command(as_json: bool) -> None:
    """List name, kind, distribution, version and options of each plugin, and those that can't be used.

    A plugin whose packages are absent is shown as not installed, with the command that installs them.
    """
    from karma_plugins.errors import install
    from karma_plugins.registry import absent, manager

    registry = manager.load()
    rows: list[dict[str, Any]] = [
        {
            "kind": kind,
            "name": name,
            "distribution": origin.distribution,
            "version": origin.version,
            "entry_point": origin.entry_point or None,
            "needs": list(plugin.needs),
            "install": install(lacking) if (lacking := absent(plugin)) else None,
            "options": _options(plugin.options),
        }
        for (kind, name), (plugin, origin) in sorted(registry.plugins.items())
    ]
    broken = [
        {"distribution": str(b.origin), "entry_point": b.origin.entry_point, "message": b.message}
        for b in registry.broken
    ]
    if as_json:
        say(json.dumps({"plugins": rows, "broken": broken}, indent=1))
        return
    for kind in sorted({str(row["kind"]) for row in rows}):
        click.secho(kind.replace("_", " "), bold=True)
        for row in (row for row in rows if row["kind"] == kind):
            options = ", ".join(f"{k}={v['default']}" for k, v in row["options"].items())
            if row["install"]:
                options = f"not installed: {row['install']}"
            say(f"  {row['name']:<20} {row['distribution']} {row['version']:<8} {options}")
    for fault in broken:
        click.secho(f"can't be used: {fault['message']}", fg="yellow", err=True)


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
