"""Export for TRL: only the columns that its trainers read, in its conversational formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl
from pydantic import AliasChoices, Field

from karma_plugins.contracts import Exporter, Options, Tables, hookimpl
from karma_plugins.curriculum.card import PRETTY_NAME, front_matter
from karma_plugins.exporters import fresh
from karma_plugins.exporters.licences import checked

#: preference: prompt, chosen, rejected. implicit-prompt: chosen and rejected as whole conversations, as in
#: UltraFeedback's binarised sets. unpaired: prompt, completion, label, two rows a pair, for KTO.
COLUMNS = {
    "prompt": "the conversation so far, as messages",
    "chosen": "the better answer, as messages",
    "rejected": "the worse answer, as messages",
    "completion": "one answer, as messages",
    "label": "whether it is the better one of its pair",
}
Layout: TypeAlias = Literal["preference", "implicit-prompt", "unpaired"]


class TrlOptions(Options):
    """Which of TRL's formats."""

    layout: Layout = Field(
        "preference",
        description="preference: prompt, chosen, rejected; implicit-prompt: chosen and rejected as whole "
        "conversations; unpaired: prompt, completion, label, for KTO",
    )
    licence: str | None = Field(
        None,
        validation_alias=AliasChoices("licence", "license"),
        description="licence of the dataset, such as cc-by-4.0, named in the card",
    )


def write(tables: Tables, out: Path, options: TrlOptions) -> str:
    """Write `data/train.parquet` in a folder that `datasets` reads, in curriculum order, and its card."""
    licence = checked(options.licence, "--licence") if options.licence else None
    table = arranged(tables.read("pairs"), options.layout)
    (fresh(out) / "data").mkdir(parents=True)
    table.write_parquet(out / "data" / "train.parquet", compression="zstd")
    (out / "README.md").write_text(_card(table, options.layout, licence), encoding="utf-8")
    call = f"datasets.load_dataset('{out}', split='train')"
    return f"{out}: {table.height} rows, layout {options.layout}, for {call}."


def _card(table: pl.DataFrame, layout: Layout, licence: str | None) -> str:
    """What the hub reads (front matter), and what each column holds."""
    columns = "".join(f"- `{name}`: {COLUMNS[name]}\n" for name in table.columns)
    head = front_matter(table.height, licence)
    title = f"# {PRETTY_NAME}\n\n{table.height} rows, TRL's layout `{layout}`, from easy to hard:"
    return f"{head}\n{title}\n\n{columns}"


def arranged(pairs: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Table pairs in one of TRL's layouts."""
    pairs = pairs.sort("order")
    if layout == "preference":
        return pairs.select("prompt", "chosen", "rejected")
    if layout == "implicit-prompt":
        return pairs.select(
            pl.col("prompt").list.concat("chosen").alias("chosen"),
            pl.col("prompt").list.concat("rejected").alias("rejected"),
        )
    both = [
        pairs.select("order", "prompt", completion=side, label=pl.lit(side == "chosen"))
        for side in ("chosen", "rejected")
    ]
    return pl.concat(both).sort("order", "label", descending=[False, True]).drop("order")


@hookimpl
def karma_register_exporters() -> Sequence[Exporter]:
    """Register exporter `trl`."""
    summary = "The columns that TRL's trainers read, in its conversational formats."
    return [Exporter(name="trl", write=write, options=TrlOptions, summary=summary)]
