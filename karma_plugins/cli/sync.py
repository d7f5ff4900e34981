"""`karma sync`: complete MLflow."""

from __future__ import annotations

import os
from pathlib import Path

import click

from karma_plugins.console import say
from karma_plugins.errors import require


@click.command("sync")
@click.option("--rev", "revs", multiple=True, metavar="REV", help="A commit, tag or branch; may be repeated.")
@click.option("--all-branches", "-a", "branches", is_flag=True, help="The last commit of every branch.")
@click.option("--all-experiments", "-A", "experiments", is_flag=True, help="Every experiment of DVC's.")
def command(revs: tuple[str, ...], branches: bool, experiments: bool) -> None:
    """Deliver what waits on disk, and complete MLflow from dvc.lock.

    Stages that DVC skipped or restored say nothing to MLflow by themselves. Reads the dvc.lock of the
    workspace unless revisions are named. Doing it again changes nothing. A record that MLflow refuses for
    good is named at the end, with exit status 1.
    """
    from karma_plugins import lineage
    from karma_plugins.tracking import access

    require("karma sync", "dvc", "mlflow")
    root = lineage.project_root(Path())
    chosen = lineage.revisions(root, revs, branches=branches, experiments=experiments)
    if not chosen and (branches or experiments):
        say("No such revision here: nothing to do.")
        return
    with access.opened(root) as store:
        from karma_plugins.tracking.syncing import sync

        done = sync(store, root, chosen)
    for text, names in (
        ("Delivered", done.delivered),
        ("Ended, for they were killed", done.ended),
        ("Completed from dvc.lock", done.completed),
        (
            "Left out, for they ran with other params, code or data (`dvc repro` them)",
            done.stale,
        ),
        (
            "Without metrics, whose files can't be read or are nowhere (`dvc push` them)",
            done.bare,
        ),
    ):
        if names:
            say(f"{text}: {', '.join(names)}.")
    if done.united:
        say(f"United pipeline runs that two machines had begun at once: {done.united}.")
    say(f"MLflow held {done.held} stage runs before.{'' if done.changed else ' Nothing changed.'}")
    if done.refused:
        told = [f"{os.path.relpath(folder)} ({reason[:200]})" for folder, reason in done.refused.items()]
        raise access.TrackingError(
            f"MLflow refuses for good: {', '.join(told)}. All else is delivered; correct record.json there, "
            "or delete the folder to give it up."
        )
