"""`karma new-plugin`: a distribution of one's own, with a plugin of each wanted kind and its tests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click

from karma_plugins.console import say
from karma_plugins.contracts import KINDS
from karma_plugins.errors import KarmaError, installed

#: For each kind the singular that --kind takes, in the order of a pipeline.
SINGULAR: Final = {kind.removesuffix("s").replace("_", "-"): kind for kind in KINDS}
ALL: Final = "all"
#: How a plugin of a kind is put to use, as lines for a shell.
USES: Final[Mapping[str, str]] = {
    "judge": "dvc exp run -S '+judge.judges.@NAME@={plugin: @NAME@, reads: data/prompts.parquet}' "
    "-S '+jury.weights.@NAME@=0.5'",
    "kinship-metric": "dvc exp run -S kinship.metric=@NAME@",
    "generator": "dvc exp run -S models.MODEL.generator=@NAME@",
    "profiler": "dvc exp run -S profile.profiler=@NAME@",
    "pairing": "dvc exp run -S curriculum.pairing=@NAME@",
    "objective": "dvc exp run -S train.objective=@NAME@",
    "importer": "karma import @NAME@ FILE --out imported",
    "exporter": "karma export @NAME@ OUT",
}


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    required=True,
    type=click.Choice([*SINGULAR, ALL]),
    help="What it is to hold; may be repeated.",
)
@click.option(
    "--into", type=Path, default=Path(), metavar="FOLDER",
    help="Where the folder NAME is made [default: here].",
)  # fmt: skip
def command(name: str, kinds: Sequence[str], into: Path) -> None:
    """Write a distribution NAME with a working plugin of each KIND, its tests, and a README.

    NAME is lower-case letters, digits and '-'; the plugins bear it in params.yaml and on command lines.
    Writes NAME/pyproject.toml with the entry points, and a module and a file of contract tests for each kind.
    Nothing is overwritten.
    """
    wanted = list(SINGULAR) if ALL in kinds else [kind for kind in SINGULAR if kind in kinds]
    folder = into / name
    if folder.exists():
        raise KarmaError(
            f"{folder}: is there already. Name another, or add a module by hand: its README says how."
        )
    package = _package(name)
    _refuse_taken(name, wanted)
    for path, text in _files(name, package, wanted).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8", newline="\n")
    modules = ", ".join(f"src/{package}/{_module(kind)}.py" for kind in wanted)
    say(f"Wrote {folder}: {modules}, and their tests.")
    say(f"Next: `pip install -e '{folder}[dev]'`, `python -m pytest {folder}`, `karma lock`.")


def _package(name: str) -> str:
    """The name that is imported; KarmaError where it can't be one, or where something else has it."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise KarmaError(
            f"'{name}' can't name a plugin: write lower-case letters, digits and '-', a letter first."
        )
    package = name.replace("-", "_")
    if installed(package):
        raise KarmaError(
            f"'{name}': there is a package '{package}' already, which would be hidden. Take another name."
        )
    return package


def _refuse_taken(name: str, kinds: Sequence[str]) -> None:
    """Stop where an installed plugin has the name: two of one name can't be used."""
    from karma_plugins.registry import manager

    registry = manager.load()
    for kind in kinds:
        if known := registry.plugins.get((SINGULAR[kind], name)):
            raise KarmaError(f"{kind} '{name}' is taken, by {known[1]}. Take another name.")


def _files(name: str, package: str, kinds: Sequence[str]) -> dict[Path, str]:
    """Every file of the distribution by its path in the folder."""
    words = {
        "NAME": name,
        "PACKAGE": package,
        "VERSION": version("karma-plugins"),
        "KINDS": ", ".join(kind.replace("-", " ") for kind in kinds),
        "ENTRIES": "\n".join(f'{name}-{kind} = "{package}.{_module(kind)}"' for kind in kinds),
        "USES": "\n".join(f"    {USES[kind]}" for kind in kinds).replace("@NAME@", name),
    }
    filled = {
        Path("pyproject.toml"): _filled("pyproject", words),
        Path("README.md"): _filled("readme", words),
        Path(f"src/{package}/__init__.py"): f'"""Plugins for karma: {words["KINDS"]}."""\n',
    }
    for kind in kinds:
        filled[Path(f"src/{package}/{_module(kind)}.py")] = _filled(f"{_module(kind)}.py", words)
        filled[Path(f"tests/test_{_module(kind)}.py")] = _filled(f"{_module(kind)}_test.py", words)
    return filled


def _filled(starter: str, words: Mapping[str, str]) -> str:
    text = resources.files("karma_plugins.cli.starters").joinpath(f"{starter}.tmpl").read_text("utf-8")
    return re.sub(r"@([A-Z]+)@", lambda match: words[match[1]], text)


def _module(kind: str) -> str:
    return kind.replace("-", "_")
