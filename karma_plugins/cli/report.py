"""`karma report`: a pipeline's run on one page."""

from __future__ import annotations

from pathlib import Path

import click

from karma_plugins.console import say


@click.command("report")
@click.option("--rev", metavar="REV", help="A commit, branch, tag or experiment [default: the workspace].")
@click.option(
    "--against", metavar="REV", help="Compare with the run of this commit, branch, tag or experiment."
)
@click.option("--out", type=Path, default=Path("report.html"), show_default=True, help="The page.")
def command(rev: str | None, against: str | None, out: Path) -> None:
    """Write how the pipeline's run ended on one page that needs no network.

    On its first screen: who is kin to whom, what was dropped, whether it helped and where, what got worse,
    whether a judge is biased, and which bytes made it. Below: pairs and held-out answers to filter.
    Stage `report` keeps the same page with the run in MLflow.
    """
    from karma_plugins.errors import require
    from karma_plugins.study import reporting

    require("karma report", "vl_convert")
    here = Path()
    run = reporting.collect(here, rev)
    other = reporting.collect(here, against) if against else None
    text = reporting.page(run, other)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    for lacking in dict.fromkeys([*run.lacks, *(other.lacks if other else [])]):
        say(f"Not read: {lacking}")
    say(f"Written: {out} ({out.stat().st_size / 1e6:.1f} MB)")
