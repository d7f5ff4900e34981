"""`karma init`: start a pipeline in one's own repository, and bring it up to date after an upgrade."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path

import click

from karma_plugins.cli import pipeline_files, templates
from karma_plugins.console import say
from karma_plugins.errors import KarmaError

#: What the README is called where the folder has one of its own.
OTHER_README = Path("README.karma.md")


@click.command("init")
@click.option(
    "--template",
    type=click.Choice([*templates.TEMPLATES, "list"]),
    help="The pipeline to start from; 'list' says what each is for. [default: zoo]",
)
@click.option(
    "--into",
    type=Path,
    default=Path(),
    metavar="FOLDER",
    help="Folder of the repository for the pipeline, made where there is none [default: this one].",
)
@click.option(
    "--update", is_flag=True,
    help="After an upgrade: bring files that `karma init` wrote up to date, around what was edited in them.",
)  # fmt: skip
def command(template: str | None, into: Path, update: bool) -> None:
    """Write dvc.yaml, params.yaml, stages/, README.md and .gitignore into this git and DVC repository.

    A repository that has a pipeline of its own gets this one beside it with --into FOLDER; nothing outside of
    FOLDER is touched, and `dvc repro` runs it in there.

    No file is written over: where one of them differs from what would be written, nothing is written at all.
    With --update, edits stay: what changed in the template is merged into them, and what can't be is written
    beside, as NAME.karma-new, with exit status 1. FOLDER/karma.template.json holds what was written.
    """
    if template == "list":
        width = max(map(len, templates.TEMPLATES))
        for name, described in templates.TEMPLATES.items():
            say(f"{name:<{width}}  {described.summary}")
        return
    _refuse_outside(into)
    if update:
        _update(into, template)
        return
    name = template or "zoo"
    wanted = _named(into, templates.files(name))
    pipeline_files.write(into, wanted)
    pipeline_files.ignore(into / ".gitignore", templates.gitignore(name))
    _note(into, name, wanted)
    lock = _lock(into)
    written = ", ".join(sorted({target.parts[0] for target in wanted}))
    place = "" if into == Path() else f" into {into}"
    say(f"Wrote {written}, .gitignore, {pipeline_files.RECORD} and {lock}{place}.")
    steps = [*([] if into == Path() else [f"cd {into}"]), *templates.TEMPLATES[name].steps]
    say(f"Next: {', '.join(f'`{step}`' for step in steps)}. {_readme(wanted)} says more.")


def _refuse_outside(folder: Path) -> None:
    """Stop where a folder is not in a git and DVC repository, or is no folder."""
    if folder.exists() and not folder.is_dir():
        raise KarmaError(f"--into {folder}: is no folder. Name another.")
    here = folder.absolute().resolve()
    for name, made_by in ((".git", "git init"), (".dvc", "dvc init")):
        if not any((parent / name).exists() for parent in (here, *here.parents)):
            raise KarmaError(f"{here}: no {name} here. Run `{made_by}` first.")


def _update(folder: Path, template: str | None) -> None:
    """Bring a folder up to date with the template that it was made from, and say what was done."""
    from_before = pipeline_files.recorded(folder)
    if from_before is None and template is None:
        raise KarmaError(
            f"{folder / pipeline_files.RECORD}: no such file, so nobody knows which template is there. Name "
            "it: `karma init --update --template NAME`."
        )
    if from_before and template not in (None, from_before.template):
        raise KarmaError(f"{folder}: was made from template '{from_before.template}', not '{template}'.")
    name = template or (from_before.template if from_before else "")
    if name not in templates.TEMPLATES:
        raise KarmaError(
            f"{folder / pipeline_files.RECORD}: there is no template '{name}' any more. There are: "
            f"{', '.join(templates.TEMPLATES)}."
        )
    base = from_before.files if from_before else {}
    wanted = _named(folder, templates.files(name), base)
    changes = pipeline_files.update(folder, base, wanted)
    pipeline_files.ignore(folder / ".gitignore", templates.gitignore(name))
    _note(folder, name, wanted)
    for text, names in (
        ("New", changes.new),
        ("Brought up to date", changes.updated),
        ("Merged with edits", changes.merged),
        ("Removed, as the template has them no more", changes.removed),
    ):
        if names:
            say(f"{text}: {', '.join(names)}.")
    for file, reason in changes.left.items():
        click.secho(f"Left as it is: {folder / file} ({reason}).", fg="yellow", err=True)
    if not any((changes.new, changes.updated, changes.merged, changes.removed, changes.left)):
        say(f"Up to date with template '{name}' of karma-plugins {version('karma-plugins')}.")
    else:
        say("Next: `git diff`, `karma lock`, `karma check`.")
    sys.exit(1 if changes.left else 0)


def _named(
    folder: Path, wanted: Mapping[Path, str], base: Mapping[str, str] | None = None
) -> dict[Path, str]:
    """The files with the README under another name where the folder has one of its own."""
    mine = folder / templates.README
    ours = templates.README.as_posix() in base if base else not mine.exists()
    if ours or (mine.is_file() and mine.read_text(encoding="utf-8") == wanted[templates.README]):
        return dict(wanted)
    return {OTHER_README if name == templates.README else name: text for name, text in wanted.items()}


def _readme(wanted: Mapping[Path, str]) -> Path:
    return next(name for name in (OTHER_README, templates.README) if name in wanted)


def _note(folder: Path, template: str, wanted: Mapping[Path, str]) -> None:
    texts = {name.as_posix(): text for name, text in wanted.items()}
    pipeline_files.record(folder, pipeline_files.Written(template, version("karma-plugins"), texts))


def _lock(folder: Path) -> Path:
    """Lock the installed code in a folder that has no lock yet."""
    from karma_plugins.registry import lock, manager

    with chdir(folder):
        if not lock.LOCK.exists():
            lock.accept(manager.load())
    return lock.LOCK
