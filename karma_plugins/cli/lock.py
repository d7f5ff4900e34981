"""`karma lock`: accept the installed plugin code."""

from __future__ import annotations

import click

from karma_plugins.console import say


@click.command("lock")
def command() -> None:
    """Rewrite karma.lock.json from the installed code: each stage's own, and every installed plugin's.

    A stage runs again at the next `dvc repro` where its own code or a plugin that params.yaml names for it
    changed. Whatever the file holds, a merge conflict too, it is written anew.
    """
    from karma_plugins.registry import lock, manager

    changed, readable = lock.accept(manager.load())
    mended = "" if readable else "was not readable and is written anew; "
    say(f"{lock.LOCK}: {mended}{'changed for ' + ', '.join(changed) if changed else 'nothing changed'}.")
