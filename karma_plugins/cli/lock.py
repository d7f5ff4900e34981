"""`karma lock`: accept the installed plugin code."""

from __future__ import annotations

import click

from karma_plugins.console import say


@click.command("lock")
def command() -> None:
    """Rewrite karma.lock.json from the installed code and from the plugins that params.yaml names.

    Stages whose section changed run again at the next `dvc repro`; the others do not.
    """
    from karma_plugins.registry import lock, manager, selection

    registry = manager.load()
    before = lock.read() if lock.LOCK.is_file() else {}
    after = lock.compute(registry, selection.used(registry))
    lock.write(after)
    changed = [stage for stage in after if before.get(stage) != after[stage]]
    say(f"{lock.LOCK}: {'changed for ' + ', '.join(changed) if changed else 'nothing changed'}.")
