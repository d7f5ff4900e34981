"""Stage zoo: trains the embedded family of tiny models and writes their prompts and benchmarks."""

from pathlib import Path

import click

from karma_plugins import console, params, zoo
from karma_plugins.staging import running


@click.command(cls=console.Guarded)
@click.option("--out", type=Path, default=Path("data/zoo"))
def main(out: Path) -> None:
    """Train the zoo that section `zoo` of params.yaml describes."""
    settings = params.load("zoo", zoo.ZooSettings)
    with running("zoo", settings, inputs=[], outs=[out]) as run:
        report = zoo.build(out, settings, run.progress)
        run.metrics(
            {f"{model}.{name}": value for model, row in report.items() for name, value in row.items()}
        )


if __name__ == "__main__":
    main()
