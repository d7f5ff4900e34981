"""`karma export`: the preference data in another layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from karma_plugins.cli.plugin_commands import PluginCommands
from karma_plugins.cli.plugin_options import given, options_of
from karma_plugins.console import say

if TYPE_CHECKING:
    import polars as pl

OUT = click.Argument(["out"], type=Path, metavar="OUT")
PAIRS = click.Option(
    ["--pairs"], type=Path, default=Path("data/pairs"), show_default=True,
    help="Folder that stage curriculum wrote.",
)  # fmt: skip
DATA = click.Option(
    ["--data"], type=Path, default=Path("data"), show_default=True,
    help="Folder of the stages' other tables.",
)  # fmt: skip


class Exporters(PluginCommands):
    """The exporters, by name."""

    kind = "exporters"

    def command_of(self, name: str, plugin: Any) -> click.Command:
        """A command that writes a file or folder."""
        return click.Command(
            name,
            params=[OUT, PAIRS, DATA, *options_of(plugin.options)],
            help=f"{plugin.summary}\n\n{(plugin.write.__doc__ or '').split(chr(10) * 2)[0]}",
            short_help=plugin.summary,
            callback=lambda out, pairs, data, **values: _export(name, plugin, out, pairs, data, values),
        )


@click.group("export", cls=Exporters)
def command() -> None:
    """Write the preference data in another layout.

    OUT is a file or folder that is not there yet; nothing is overwritten.
    """


def _export(name: str, plugin: Any, out: Path, pairs: Path, data: Path, values: Mapping[str, Any]) -> None:
    from karma_plugins.contracts import Tables
    from karma_plugins.params import validate

    options = validate(plugin.options, given(plugin.options, values), where=f"karma export {name}")
    say(plugin.write(Tables(lambda table: _read(table, pairs, data)), out, options))


def _read(name: str, pairs: Path, data: Path) -> pl.DataFrame:
    """A table by name, from the folders that the stages write by default."""
    from karma_plugins import schemas, tables
    from karma_plugins.curriculum import dataset
    from karma_plugins.errors import TableError

    jury = data / "jury"
    places = {
        "pairs": (pairs / dataset.TRAIN, schemas.PAIRS),
        "prompts": (data / "prompts.parquet", schemas.PROMPTS),
        "rewards": (jury / "rewards.parquet", schemas.REWARDS),
        "judges": (jury / "judges.parquet", schemas.JUDGES),
        "bias": (jury / "bias.parquet", schemas.BIAS),
    }
    parts = {
        "responses": ("responses/*.parquet", schemas.RESPONSES),
        "judgements": ("verdicts/*/judgements.parquet", schemas.JUDGEMENTS),
        "comparisons": ("verdicts/*/comparisons.parquet", schemas.COMPARISONS),
    }
    if name in parts:
        pattern, schema = parts[name]
        files = sorted(data.glob(pattern))
        if not files:
            raise TableError(f"{data / pattern}: no table {name}. Run `dvc repro`.")
        return tables.read_all(files, schema)
    if name not in places:
        raise TableError(f"no table '{name}' can be exported. There are: {', '.join([*places, *parts])}.")
    path, schema = places[name]
    return tables.read(path, schema)
