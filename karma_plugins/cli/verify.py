"""`karma verify`: whether bytes, code and MLflow are as dvc.lock claims."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

import click

from karma_plugins.console import say
from karma_plugins.errors import require
from karma_plugins.staging import OURS

if TYPE_CHECKING:
    from karma_plugins.lineage import LockedPipeline
    from karma_plugins.lineage.verifying import Difference


@click.command("verify")
def command() -> None:
    """Hash anew what dvc.lock and MLflow claim, and name every difference; exit status 1 where there is one.

    Compares what `dvc status` compares, with every file hashed anew, then the installed plugin code and
    MLflow's runs with dvc.lock. Changes nothing.
    """
    from karma_plugins import lineage
    from karma_plugins.lineage import verifying
    from karma_plugins.tracking import access

    require("karma verify", "dvc", "mlflow")
    root = lineage.project_root(Path())
    verified = verifying.verify(root)
    pipelines = lineage.locked(root, settings=OURS)
    found = [*verified.differences, *(d for pipeline in pipelines for d in _code(pipeline, root))]
    for what in verified.unknown:
        click.echo(f"Not compared: {what}", err=True)
    if access.is_there(root):
        with access.opened(root, OURS) as store:
            from karma_plugins.tracking.verifying import differences

            of_runs, untold = differences(store, pipelines)
        found += of_runs
        if untold:
            click.echo(f"MLflow was never told of {', '.join(untold)} (`karma sync` does).", err=True)
    else:
        click.echo("MLflow holds nothing yet, so it was not compared. Run `karma sync`.", err=True)
    for difference in sorted(set(found)):
        click.secho(str(difference), fg="red")
    say(f"{verified.hashes} hashes of {verified.stages} stages checked: {len(set(found))} differences.")
    sys.exit(1 if found else 0)


def _code(pipeline: LockedPipeline, root: Path) -> Iterator[Difference]:
    """Code that made the data but is not what karma.lock.json holds, or that is not what is installed."""
    from karma_plugins.lineage.verifying import Difference
    from karma_plugins.registry import lock, manager

    if not any(stage.code for stage in pipeline.stages):
        return
    with chdir(root / pipeline.folder):
        locked, installed = lock.read(), lock.compute(manager.load())
    for stage in pipeline.stages:
        for label, made in stage.code.items():
            section, _, plugin = label.partition(".")
            base = stage.name.partition("@")[0]
            name = f"{base}, {plugin if section == base else label}"
            accepted, now = locked.get(section, {}).get(plugin), installed.get(section, {}).get(plugin)
            if made != accepted:
                told = f"{_code_of(made)} made the data, {lock.LOCK} holds {_code_of(accepted)}; `dvc repro`"
                yield Difference(name, "code", told)
            if accepted != now:
                told = f"{_code_of(now)} is installed, {lock.LOCK} holds {_code_of(accepted)}; `karma lock`"
                yield Difference(name, "code", told)


def _code_of(entry: Mapping[str, str] | None) -> str:
    return f"{entry['distribution']} {entry['version']} {entry['digest'][:8]}" if entry else "nothing"
