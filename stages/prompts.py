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
    inputs = [Path(settings.path)] if settings.path else []
    with running("prompts", settings, inputs=inputs, outs=[out]) as run:
        table = prompts.read(settings)
        tables.write(table, out, schemas.PROMPTS)
        run.metrics(dict(table["split"].value_counts().iter_rows()))


if __name__ == "__main__":
    main()
