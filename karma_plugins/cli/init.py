"""`karma init`: start a pipeline in one's own repository."""

from __future__ import annotations

from pathlib import Path

import click

from karma_plugins.console import say
from karma_plugins.errors import KarmaError


@click.command("init")
@click.option(
    "--template",
    type=click.Choice(["zoo", "hub", "endpoint", "recorded"]),
    default="zoo",
    show_default=True,
    help="zoo: tiny models trained on the spot; hub: Hugging Face models; endpoint: models behind an "
    "OpenAI-compatible server; recorded: answers that exist already.",
)
def command(template: str) -> None:
    """Write dvc.yaml, params.yaml, stages/ and .gitignore into this git and DVC repository.

    No file is written over: where one of them differs from what would be written, nothing is written at all.
    """
    from karma_plugins.cli import templates
    from karma_plugins.registry import lock, manager

    for folder, made_by in ((".git", "git init"), (".dvc", "dvc init")):
        if not any((parent / folder).exists() for parent in (Path.cwd(), *Path.cwd().parents)):
            raise KarmaError(f"{Path.cwd()}: no {folder} here. Run `{made_by}` first.")
    wanted = {target: source.read_bytes() for target, source in templates.files(template).items()}
    differing = [str(t) for t, text in wanted.items() if t.exists() and t.read_bytes() != text]
    if differing:
        raise KarmaError(
            f"{', '.join(differing)}: there already, with other content. Move it away, or run "
            "`karma init` in an empty folder; nothing was written."
        )
    for target, text in wanted.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text)
    _ignore(Path(".gitignore"), templates.gitignore(template))
    if not lock.LOCK.exists():
        lock.accept(manager.load())
    written = ", ".join(sorted({target.parts[0] for target in wanted}))
    say(f"Wrote {written}, .gitignore and {lock.LOCK}. Next: `karma check`, then `dvc repro`.")


def _ignore(path: Path, wanted: str) -> None:
    """Add the lines that a .gitignore lacks, after its own."""
    present = path.read_text(encoding="utf-8") if path.exists() else ""
    missing = [line for line in wanted.splitlines() if line not in present.splitlines()]
    if missing:
        joint = "" if not present or present.endswith("\n") else "\n"
        path.write_text(present + joint + "\n".join(missing) + "\n", encoding="utf-8")
