"""`karma verify`: whether bytes, code and MLflow are as dvc.lock claims."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import asdict
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
@click.option("--all", "everything", is_flag=True, help="Pipelines that are not karma's, too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON: counts, differences, what was not compared.")
def command(everything: bool, as_json: bool) -> None:
    """Hash anew what dvc.lock and MLflow claim, and name every difference; exit status 1 where there is one.

    Compares what `dvc status` compares, with every file hashed anew, then the installed plugin code and
    MLflow's runs with dvc.lock. Changes nothing. Where a pipeline of karma's lies in the repository, only its
    stages and what they read are compared; in any other repository all are.
    """
    from karma_plugins import lineage
    from karma_plugins.lineage import verifying
    from karma_plugins.tracking import access

    require("karma verify", "dvc", "mlflow")
    root = lineage.project_root(Path())
    verified = verifying.verify(root, None if everything else OURS.code)
    pipelines: Sequence[LockedPipeline] = lineage.locked(root, settings=OURS)
    if verified.others:
        pipelines = [pipeline for pipeline in pipelines if pipeline.own]
    differences = {*verified.differences, *(d for pipeline in pipelines for d in _code(pipeline, root))}
    untold: list[str] = []
    if has_store := access.is_there(root):
        with access.opened(root, OURS) as store:
            from karma_plugins.tracking.verifying import differences as differences_of_runs

            of_runs, untold = differences_of_runs(store, pipelines)
        differences |= set(of_runs)
    if as_json:
        document = {
            "hashes": verified.hashes,
            "stages": verified.stages,
            "stages_of_other_pipelines": verified.others,
            "differences": [asdict(difference) for difference in sorted(differences)],
            "not_compared": verified.unknown,
            "mlflow": {"compared": has_store, "never_told_of": untold},
        }
        say(json.dumps(document, indent=1))
        sys.exit(1 if differences else 0)
    for what in verified.unknown:
        click.echo(f"Not compared: {what}", err=True)
    if untold:
        click.echo(f"MLflow was never told of {', '.join(untold)} (`karma sync` does).", err=True)
    if not has_store:
        click.echo("MLflow holds nothing yet, so it was not compared. Run `karma sync`.", err=True)
    for difference in sorted(differences):
        click.secho(str(difference), fg="red")
    others = f" ({verified.others} stages of other pipelines left out)" if verified.others else ""
    say(
        f"{verified.hashes} hashes of {verified.stages} stages checked{others}: "
        f"{len(differences)} difference{'' if len(differences) == 1 else 's'}."
    )
    sys.exit(1 if differences else 0)


def _code(pipeline: LockedPipeline, root: Path) -> Iterator[Difference]:
    """Code that made the data but is not what karma.lock.json holds, or that is not what is installed."""
    from karma_plugins.lineage.verifying import Difference
    from karma_plugins.registry import lock, manager

    if not any(stage.code for stage in pipeline.stages):
        return
    with chdir(root / pipeline.folder):
        locked, installed = lock.read(), lock.compute(manager.load())
    for stage in pipeline.stages:
        for label, recorded in stage.code.items():
            section, _, plugin = label.partition(".")
            base = stage.name.partition("@")[0]
            name = f"{base}, {plugin if section == base else label}"
            accepted, now = locked.get(section, {}).get(plugin), installed.get(section, {}).get(plugin)
            if recorded != accepted:
                text = (
                    f"{_code_of(recorded)} made the data, {lock.LOCK} holds {_code_of(accepted)}; `dvc repro`"
                )
                yield Difference(name, "code", text)
            if accepted != now:
                text = f"{_code_of(now)} is installed, {lock.LOCK} holds {_code_of(accepted)}; `karma lock`"
                yield Difference(name, "code", text)


def _code_of(entry: Mapping[str, str] | None) -> str:
    return f"{entry['distribution']} {entry['version']} {entry['digest'][:8]}" if entry else "nothing"
