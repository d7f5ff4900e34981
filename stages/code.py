"""Stage code: notes the locked code of the plugins that params name, for stages that may name several.

DVC lets a stage depend on keys of karma.lock.json that it can spell, such as the one of the pairing that
params name, but not on as many as there are metrics or judges. Such a stage depends on its note instead.
"""

from pathlib import Path

import click

from karma_plugins import console, manager, tables
from karma_plugins.registry import lock, selection
from karma_plugins.staging import running


@click.command(cls=console.Guarded)
@click.option("--out", type=Path, default=Path("data/code"))
def main(out: Path) -> None:
    """Write one note for each such stage."""
    notes = {out / f"{stage}.json": e for stage, e in lock.named(selection.used(manager.load())).items()}
    with running("code", inputs=[], outs=list(notes)):
        for note, entries in notes.items():
            tables.write_json(entries, note)


if __name__ == "__main__":
    main()
