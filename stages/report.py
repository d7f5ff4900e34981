"""Stage report: the headline figures of all stages, and how the run ended on one page, kept with the run."""

import warnings
from pathlib import Path

import click

from karma_plugins import console, tables
from karma_plugins.staging import running
from karma_plugins.study import reporting


@click.command(cls=console.Guarded)
@click.option("--metrics", type=Path, default=Path(reporting.SUMMARY))
@click.option("--plots", type=Path, default=Path("plots"))
def main(metrics: Path, plots: Path) -> None:
    """Sum up what lies in this folder: data/, metrics/ and plots/."""
    files = {name: plots / f"{name}.csv" for name in reporting.PLOTS}
    with running("report", inputs=reporting.read(Path()), outs=[metrics, *files.values()]) as run:
        collected = reporting.collect(Path())
        tables.write_json(reporting.headline(collected), metrics)
        for name, table in reporting.points(collected).items():
            tables.write_csv(table, files[name])
        run.metrics(reporting.headline(collected))
        if lacking := reporting.lacking():
            warnings.warn(lacking, stacklevel=1)
        else:
            run.page("report.html", reporting.page, collected)


if __name__ == "__main__":
    main()
