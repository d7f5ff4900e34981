"""`karma sync`: complete MLflow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from karma_plugins.console import say
from karma_plugins.errors import require
from karma_plugins.staging import OURS

if TYPE_CHECKING:
    from karma_plugins.tracking.synced import Synced

#: So many names are said in one line, the others counted.
NAMED = 40


@click.command("sync")
@click.option(
    "--rev",
    "revs",
    multiple=True,
    metavar="REV",
    help="A commit, tag, branch or experiment; may be repeated.",
)
@click.option("--all-branches", "-a", "branches", is_flag=True, help="The last commit of every branch.")
@click.option("--all-tags", "-T", "tags", is_flag=True, help="The commit of every tag.")
@click.option("--all-commits", "commits", is_flag=True, help="Every commit of every branch and tag.")
@click.option("--all-experiments", "-A", "experiments", is_flag=True, help="Every experiment of DVC's.")
@click.option("--since", metavar="WHEN", help="Of these none older than a date (2026-01-31) or a revision.")
@click.option("--again", is_flag=True, help="Look at commits, too, that MLflow is known to hold.")
@click.option(
    "--json", "as_json", is_flag=True, help="As JSON: what was delivered, completed, left out, refused."
)
def command(
    revs: tuple[str, ...],
    branches: bool,
    tags: bool,
    commits: bool,
    experiments: bool,
    since: str | None,
    again: bool,
    as_json: bool,
) -> None:
    """Deliver what waits on disk, and complete MLflow from dvc.yaml and dvc.lock.

    Works in any DVC repository. Stages that DVC skipped or restored say nothing to MLflow by themselves.
    Reads the workspace unless revisions are named. Doing it again changes nothing; what was cut off goes on
    where it was. What MLflow refuses or DVC can't read is named at the end, with exit status 1; all else goes
    on.
    """
    from karma_plugins import lineage
    from karma_plugins.runtime.progress import progress
    from karma_plugins.tracking import access

    require("karma sync", "dvc", "mlflow")
    root = lineage.project_root(Path())
    if not (root / ".dvc").is_dir():
        raise lineage.LineageError(f"{root}: not inside a DVC repository. Run `dvc init` at its root.")
    chosen = lineage.revisions(
        root, revs, branches=branches, experiments=experiments, tags=tags, since=since,
        commits=commits or bool(since and not (revs or branches or tags or experiments)),
    )  # fmt: skip
    if not chosen and (branches or experiments or tags or commits or since):
        if as_json:
            from karma_plugins.tracking.synced import Synced as Nothing

            _tell(Nothing(), as_json)
        else:
            say("No such revision here: nothing to do.")
        return
    from karma_plugins.tracking import synced

    again = again or bool(revs)
    if not again and (done := synced.known(root, chosen, OURS)):
        _tell(done, as_json)
        return
    with access.opened(root, OURS) as store, progress("sync", max(1, len(chosen))) as advance:
        from karma_plugins.tracking.syncing import sync

        done = sync(store, root, chosen, OURS, again=again, advance=advance)
    _tell(done, as_json)
    if done.refused:
        sentences = [
            f"{os.path.relpath(what) if Path(what).is_absolute() else what}{f': {reason}' if reason else ''}"
            for what, reason in done.refused.items()
        ]
        raise access.TrackingError(
            f"{len(sentences)} set aside, all else is delivered: {'; '.join(sentences)[:4000]}. Correct them "
            "(a damaged record in .karma/spool: delete its folder, dvc.lock tells of it), then `karma sync`."
        )


def _tell(done: Synced, as_json: bool) -> None:
    """Say what was done and what was left out."""
    if as_json:
        say(json.dumps({**asdict(done), "never": list(done.never), "changed": done.changed}, indent=1))
        return
    for text, names in (
        ("Delivered", done.delivered),
        ("Ended, for they were killed", done.ended),
        ("Completed from dvc.lock", done.completed),
        (
            "Left out, for they ran with other code, params or data (`dvc repro` them)",
            [f"{name} ({reason})" for name, reason in done.stale.items()],
        ),
        ("Left out, for they have never run", done.never),
        (
            "Without metrics or plots, whose files can't be read or are nowhere (`dvc push` them)",
            [f"{name} ({files})" for name, files in done.bare.items()],
        ),
    ):
        if names:
            say(f"{text}: {_listed(names)}.")
    if done.united:
        say(f"United pipeline runs that two machines had begun at once: {done.united}.")
    say(f"MLflow held {done.held} stage runs before.{'' if done.changed else ' Nothing changed.'}")


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f", and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return f"{', '.join(every[:NAMED])}{more}"
