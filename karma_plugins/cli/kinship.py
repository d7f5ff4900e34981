"""`karma kinship`: how alike some models are, from recorded profiles, without a pipeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from karma_plugins.cli import profiled
from karma_plugins.console import say
from karma_plugins.errors import ParamsError

if TYPE_CHECKING:
    import polars as pl

#: Pairs that are printed of each metric.
SHOWN = 5


@click.command("kinship")
@profiled.options
@click.option("--out", type=Path, metavar="FILE", help="Table of kinship, .parquet or .csv.")
@click.option(
    "--picture", type=Path, metavar="FILE", help="Heatmap, .png, .svg or .pdf [default: beside --out]."
)
@click.option(
    "--spreadsheet", is_flag=True, help="Write a .csv in which no model's name is taken for a formula."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print both tables as JSON, and the counts of what was read."
)
def command(
    files: Sequence[Path],
    metrics: Sequence[str],
    settings: Sequence[str],
    competencies: Sequence[str],
    places: Sequence[str],
    seed: int,
    out: Path | None,
    picture: Path | None,
    spreadsheet: bool,
    as_json: bool,
) -> None:
    """Measure how alike some models are, without a pipeline.

    FILE is a CSV of choices (columns question_id, answer, and one for each model), a CSV of scores (column
    model, and one for each benchmark), a results_*.json of lm-eval or its folder, a table scores or items
    (.parquet), or answers: a folder of AlpacaEval results, or .jsonl, .json, .csv or .parquet with columns
    prompt, model and answer.

    Prints what was read, and by each metric the nearest pairs and the families; --out keeps the whole table,
    with its picture, and the table of families beside it.
    """
    import polars as pl

    from karma_plugins import schemas, tables
    from karma_plugins.kinship import families, pictures, sentences
    from karma_plugins.runtime import canvas

    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise ParamsError(f"--out {out}: name a .parquet or .csv file.")
    if picture is not None:
        canvas.check_picture(picture, "--picture")
    profiles = profiled.read(files, competencies)
    names = list(metrics) or profiled.usual_metrics(profiles)
    table = profiled.measure(profiles, names, settings, places, seed)
    counts = ", ".join(
        f"{name.replace('_', ' ')} {count}" for name, count in profiles.counts.items() if count
    )
    kin = families(table, seed)
    if as_json:
        document = {"read": profiles.counts, "kinship": table.to_dicts(), "families": kin.to_dicts()}
        say(json.dumps(document, indent=1))
    else:
        if counts:
            say(f"Read: {counts}.")
        for name in names:
            _show(table.filter(pl.col("competency").is_null(), metric=name))
            for line in sentences(kin.filter(metric=name)):
                say(f"  {line}")
    if out is not None:
        beside = out.with_name(f"{out.stem}_families{out.suffix}")
        for frame, schema, path in ((table, schemas.KINSHIP, out), (kin, schemas.FAMILIES, beside)):
            if out.suffix == ".csv":
                whole = tables.check(frame, schema, where=str(path))
                tables.write_csv(whole, path, spreadsheet=spreadsheet)
            else:
                tables.write(frame, path, schema)
        if not as_json:
            say(f"Tables: {out}, {beside}")
        picture = picture or out.with_suffix(".png")
    if picture is not None:
        canvas.save(pictures.kinship_heatmap(table), picture)
        if not as_json:
            say(f"Picture: {picture}")


def _show(rows: pl.DataFrame) -> None:
    """The nearest pairs of a metric, and why others are unknown."""
    known = rows.drop_nulls("kinship").sort("kinship", "model_a", "model_b", descending=[True, False, False])
    say(f"{rows['metric'][0] if rows.height else 'nothing'}: {rows.height} pairs, nearest first")
    for row in known.head(SHOWN).iter_rows(named=True):
        interval = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
        doubt = " uncertain" if row["uncertain"] else ""
        say(f"  {row['kinship']:.3f}{interval}  {row['model_a']} - {row['model_b']}{doubt}")
    unknown = rows.filter(rows["kinship"].is_null())
    for reason, count in unknown["reason"].value_counts(sort=True).iter_rows():
        say(f"  unknown: {count} ({reason})")
