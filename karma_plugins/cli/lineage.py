"""`karma lineage`: what something was made from, and what was made from it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from karma_plugins.console import say
from karma_plugins.errors import require
from karma_plugins.staging import OURS


@click.command("lineage")
@click.argument("what")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--picture", type=Path, metavar="FILE", help="Draw it, too: a .png, .svg or .pdf.")
def command(what: str, as_json: bool, picture: Path | None) -> None:
    """Show what WHAT was made from, what was made from it, and how to bring it back.

    WHAT is a version of a registered model (name/1, name@alias), the id of a model or run, a hash in dvc.lock
    or the first digits of one, or a path.
    """
    from karma_plugins import lineage
    from karma_plugins.lineage import tree
    from karma_plugins.runtime import canvas
    from karma_plugins.tracking import access

    if picture:
        canvas.check_picture(picture, "--picture")
    require("karma lineage", "dvc", "mlflow")
    root = lineage.project_root(Path())
    if not access.is_there(root):
        raise access.TrackingError(f"{root}: MLflow holds nothing yet. Run `karma sync`.")
    with access.opened(root, OURS) as store:
        from karma_plugins.tracking import tracing

        traced = tracing.trace(store, what, root)
    note = tracing.notes(root, OURS)
    say(json.dumps(tree.as_json(traced, note), indent=1) if as_json else tree.text(traced, note))
    if picture:
        from karma_plugins.lineage.picture import draw

        canvas.save(draw(traced), picture)
        if not as_json:
            say(f"Drawn in {picture}.")
