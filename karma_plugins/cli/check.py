"""`karma check`: what would fail or be expensive, before anything runs."""

from __future__ import annotations

import json
import sys

import click

from karma_plugins.console import say


@click.command("check")
@click.option("--json", "as_json", is_flag=True, help="As JSON: lists of errors, warnings and forecasts.")
def command(as_json: bool) -> None:
    """Read params, plugins, prompts, models, keys, tracking server and disk; say all that is wrong.

    Exit status 1 where a stage would stop. Nothing is run and nothing is changed.
    """
    from karma_plugins import checking
    from karma_plugins.registry import manager

    findings = checking.check(manager.load())
    if as_json:
        lists = {"errors": findings.errors, "warnings": findings.warnings, "forecast": findings.forecast}
        say(json.dumps(lists, indent=1))
        sys.exit(1 if findings.errors else 0)
    for error in findings.errors:
        click.secho(f"Error: {error}", fg="red", err=True)
    for warning in findings.warnings:
        click.secho(f"Warning: {warning}", fg="yellow", err=True)
    for line in findings.forecast:
        say(f"To expect: {line}")
    say(f"{_counted(findings.errors, 'error')}, {_counted(findings.warnings, 'warning')}.")
    sys.exit(1 if findings.errors else 0)


def _counted(lines: list[str], noun: str) -> str:
    return f"{len(lines)} {noun}{'' if len(lines) == 1 else 's'}"
