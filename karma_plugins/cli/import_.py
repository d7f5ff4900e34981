"""`karma import`: read data sets of others into a folder for the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from karma_plugins.cli.plugin_commands import PluginCommands
from karma_plugins.cli.plugin_options import given, options_of
from karma_plugins.console import say
from karma_plugins.contracts import Importer

SOURCES = click.Argument(["sources"], type=Path, nargs=-1, required=True, metavar="SOURCE...")
OUT = click.Option(["--out"], type=Path, required=True, metavar="FOLDER", help="Folder to write.")


class Importers(PluginCommands):
    """The importers, by name."""

    kind = "importers"

    def command_of(self, name: str, plugin: Any) -> click.Command:
        """A command that reads sources and writes a folder."""
        return click.Command(
            name,
            params=[SOURCES, OUT, *options_of(plugin.options)],
            help=f"{plugin.summary}\n\n{_first_paragraph(plugin)}",
            short_help=plugin.summary,
            callback=lambda sources, out, **values: _import(name, plugin, sources, out, values),
        )


@click.group("import", cls=Importers)
def command() -> None:
    """Read data sets of others.

    SOURCE is .json, .jsonl, .csv (all three maybe .gz) or .parquet, or a folder of them; name several to read
    them as one. Writes a folder with prompts.jsonl, models/NAME/, verdicts/, a report of what was dropped and
    why, and models.yaml, the block to paste into params.yaml.
    """


@command.command("auto", params=[SOURCES, OUT])
def auto_command(sources: Sequence[Path], out: Path) -> None:
    """Recognise the layout, say which it is, and read it."""
    from karma_plugins.contracts import Importer
    from karma_plugins.importers.recognising import recognised
    from karma_plugins.registry import manager

    registry = manager.load()
    importers = {n: p for (k, n), (p, _) in registry.plugins.items() if k == "importers"}
    name = recognised(sources, {n: p for n, p in importers.items() if isinstance(p, Importer)})
    say(f"layout: {name} (to read it as another: karma import NAME …)")
    _import(name, importers[name], sources, out, {})


def _import(name: str, plugin: Any, sources: Sequence[Path], out: Path, values: Mapping[str, Any]) -> None:
    """Read, write the folder, and say the counts and what to do next."""
    from karma_plugins.params import validate

    importer: Importer = plugin
    options = validate(importer.options, given(importer.options, values), where=f"karma import {name}")
    folder = importer.read(sources, options)
    folder.write(out)
    report = folder.report()
    counts = ", ".join(
        f"{name.replace('_', ' ')} {count}" for name, count in report["counts"].items() if count
    )
    say(f"{out}: {counts}")
    for judge, statuses in report["judges"].items():
        say(f"verdicts of {judge}: " + ", ".join(f"{name} {count}" for name, count in statuses.items()))
    for note in report.get("notes", ()):
        say(note)
    if (out / "models.yaml").is_file():
        say(f"Paste {out / 'models.yaml'} into params.yaml; report: {out / 'report.json'}.")
    else:
        say(f"Judges with `plugin: recorded, reads: {out}` say this again; report: {out / 'report.json'}.")


def _first_paragraph(plugin: Any) -> str:
    return (plugin.read.__doc__ or "").split("\n\n")[0]
