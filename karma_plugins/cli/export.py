"""`karma export`: the preference dataset in another layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from karma_plugins.console import say

if TYPE_CHECKING:
    import polars as pl

F = TypeVar("F", bound=Callable[..., Any])


def _pairs(function: F) -> F:
    text = "Folder that stage curriculum wrote."
    return click.option("--pairs", type=Path, default=Path("data/pairs"), show_default=True, help=text)(
        function
    )


@click.group("export")
def command() -> None:
    """Write the preference dataset in another layout, in curriculum order."""


@command.command("trl")
@click.argument("folder", type=Path)
@_pairs
@click.option(
    "--layout",
    type=click.Choice(["preference", "implicit-prompt", "unpaired"]),
    default="preference",
    show_default=True,
    help="preference: prompt, chosen, rejected; implicit-prompt: chosen and rejected as whole conversations; "
    "unpaired: prompt, completion, label, for KTO.",
)
def trl_command(folder: Path, pairs: Path, layout: Any) -> None:
    """The columns that TRL's trainers read, in its conversational formats."""
    from karma_plugins.exporters import trl

    rows = trl.write(_read(pairs), folder, layout)
    say(f"{folder}: {rows} rows, layout {layout}, for datasets.load_dataset('{folder}', split='train').")


@command.command("jsonl")
@click.argument("file", type=Path)
@_pairs
def jsonl_command(file: Path, pairs: Path) -> None:
    """Every column as JSON lines, one pair a line."""
    from karma_plugins.exporters import jsonl

    say(f"{file}: {jsonl.write(_read(pairs), file)} lines.")


@command.command("hub")
@click.argument("folder", type=Path)
@_pairs
@click.option(
    "--judge", type=Path, default=Path("data/judge"), show_default=True, help="Folder that stage judge wrote."
)
@click.option(
    "--report",
    type=Path,
    default=Path("metrics/curriculum.json"),
    show_default=True,
    help="Stage curriculum's report.",
)
@click.option("--licence", help="Licence of the dataset, such as cc-by-4.0 [default: curriculum.licence].")
@click.option(
    "--source-licence",
    "sources",
    multiple=True,
    metavar="NAME=LICENCE",
    help="Licence of a source; repeat it.",
)
@click.option("--note", "notes", multiple=True, help="A sentence to add to the card; repeat it.")
def hub_command(
    folder: Path,
    pairs: Path,
    judge: Path,
    report: Path,
    licence: str | None,
    sources: tuple[str, ...],
    notes: tuple[str, ...],
) -> None:
    """A folder to upload to a hub, with a card that says where the data comes from.

    The card holds counts, distributions, judges with their bias report, languages, licences and dvc.lock's
    hashes.
    """
    from karma_plugins import params
    from karma_plugins.curriculum import Curriculum
    from karma_plugins.curriculum.card import Provenance
    from karma_plugins.exporters import hub
    from karma_plugins.texts.filters import languages

    table = _read(pairs)
    settings = params.load("curriculum", params.CurriculumSection)
    versions, bias = _judges(judge)
    by_id = table.unique("prompt_id").sort("prompt_id")  # ids are hashes: the first are as good as drawn
    provenance = Provenance(
        hashes=_hashes(pairs),
        judges=versions,
        bias=bias,
        licences=dict(_named(source) for source in sources),
        languages=languages(by_id["prompt"].list.last().struct.field("content")),
        notes=notes,
    )
    settings = settings.model_copy(update={"licence": licence}) if licence else settings
    shards = hub.write(Curriculum(table, _report(report)), folder, settings, provenance)
    say(f"{folder}: {table.height} pairs, data files: {shards}, and a card. Read it before you upload:")
    say(f"hf upload --repo-type dataset NAME {folder}")


def _read(pairs: Path) -> pl.DataFrame:
    from karma_plugins import schemas, tables
    from karma_plugins.curriculum import dataset

    return tables.read(pairs / dataset.TRAIN, schemas.PAIRS)


def _report(path: Path) -> dict[str, Any]:
    import json

    from karma_plugins.errors import TableError

    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(
            f"{path}: not the report of stage curriculum ({error}). Run `dvc repro curriculum`."
        ) from error
    return found


def _judges(folder: Path) -> tuple[dict[str, str], pl.DataFrame]:
    """Versions of the judges, and their bias report."""
    from karma_plugins import schemas, tables
    from karma_plugins.curriculum.card import judge_versions

    judgements = tables.read(folder / "judgements.parquet", schemas.JUDGEMENTS)
    comparisons = tables.read(folder / "comparisons.parquet", schemas.COMPARISONS)
    return judge_versions(judgements, comparisons), tables.read(folder / "bias.parquet", schemas.BIAS)


def _hashes(pairs: Path, lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """What dvc.lock records of the stage that made the pairs: its dependencies' hashes and its own."""
    from karma_plugins.errors import ParamsError
    from karma_plugins.params import yaml

    try:
        stages: Mapping[str, Any] = yaml.read(lock)["stages"] if lock.is_file() else {}
    except yaml.YamlError as error:
        raise ParamsError(f"{lock}: not readable as YAML ({error}).") from error
    for stage in stages.values():
        if any(Path(out["path"]) == pairs for out in stage.get("outs", [])):
            return {
                item["path"]: item["md5"]
                for item in [*stage.get("deps", []), *stage["outs"]]
                if "md5" in item
            }
    return {}


def _named(source: str) -> tuple[str, str]:
    from karma_plugins.errors import ParamsError

    name, equals, licence = source.partition("=")
    if not equals or not name or not licence:
        raise ParamsError(f"--source-licence '{source}': write NAME=LICENCE, such as prompts=apache-2.0.")
    return name, licence
