"""Stage prompts: reads the prompts of a file or dataset into table `prompts`, with ids, and checks them."""

from pathlib import Path

import click

from karma_plugins import console, params, prompts, schemas, tables
from karma_plugins.staging import running


@click.command(cls=console.Guarded)
@click.option("--out", type=Path, default=Path("data/prompts.parquet"))
def main(out: Path) -> None:
    """Read the prompts that section `prompts` of params.yaml names."""
    settings = params.load("prompts", params.PromptsSection)
    sources = [settings.path, settings.seen and settings.seen.items]
    inputs = [Path(source) for source in sources if source]
    with running("prompts", settings, inputs=inputs, outs=[out]) as run:
        table, seen = prompts.unseen(prompts.read(settings), settings.seen)
        tables.write(table, out, schemas.PROMPTS)
        run.metrics({**dict(table["split"].value_counts().iter_rows()), "seen": seen})
        console.say(prompts.summary(table, seen))


if __name__ == "__main__":
    main()
