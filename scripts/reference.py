"""The reference, made from the code: docs/reference/*.md.

    python scripts/reference.py            # rewrites the pages
    python scripts/reference.py --check    # exit status 1 where a page is not what the code says

Plugins and their options, sections of params.yaml, tables and their columns, commands, and what plugins
receive. tests/test_reference.py fails where a page differs, or where an option or a column says nothing.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import polars as pl
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import karma_plugins  # noqa: E402
from karma_plugins import cli, contracts, hookspecs, params, schemas  # noqa: E402
from karma_plugins.cli.plugin_names import described  # noqa: E402
from karma_plugins.contracts import KINDS  # noqa: E402
from karma_plugins.registry import manager  # noqa: E402
from karma_plugins.requesting import Limits  # noqa: E402
from karma_plugins.zoo import ZooSettings  # noqa: E402
from scripts.option_tables import options_table, table  # noqa: E402

FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- Made from the code by scripts/reference.py; do not edit. -->\n"
#: Where a plugin of a kind is named, and where its options stand.
PLACES = {
    "profilers": ("profile.profiler", "profile.profilers.NAME"),
    "kinship_metrics": ("kinship.metric", "kinship.metrics.NAME"),
    "generators": ("models.MODEL.generator", "models.MODEL.sampling"),
    "judges": ("judge.judges.ENTRY.plugin", "judge.judges.ENTRY"),
    "pairings": ("curriculum.pairing", "curriculum.pairings.NAME"),
    "objectives": ("train.objective", "train.objectives.NAME"),
    "importers": ("karma import NAME", "options of that command"),
    "exporters": ("karma export NAME", "options of that command"),
    "runners": ("runner.runner", "runner.runners.NAME"),
}
#: Pages that say more, by kind.
MORE = {
    "kinship_metrics": "kinship_metrics.md", "generators": "generators.md", "judges": "judges.md",
    "pairings": "pairings.md", "objectives": "objectives.md", "importers": "data_sets.md",
    "exporters": "data_sets.md", "runners": "scale.md",
}  # fmt: skip
SECTIONS: Mapping[str, type[BaseModel]] = {
    "zoo": ZooSettings,
    "prompts": params.PromptsSection,
    "models.NAME": params.ModelSection,
    "profile": params.ProfileSection,
    "kinship": params.KinshipSection,
    "generate": params.GenerateSection,
    "judge.judges.NAME": params.JudgeEntry,
    "jury": params.JurySection,
    "curriculum": params.CurriculumSection,
    "train": params.TrainSection,
    "evaluate": params.EvaluateSection,
    "runner": params.RunnerSection,
    "tracking": params.TrackingSection,
}
DESCRIPTORS: Mapping[str, type[BaseModel]] = {
    "Weights": contracts.Weights, "A server": contracts.Endpoint, "`limits` of a server": Limits,
}  # fmt: skip


def main() -> None:
    """Write the pages, or compare them."""
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text("utf-8") != text]
    unknown = sorted(
        path for path in FOLDER.rglob("*.md") if path not in pages() and MADE in path.read_text("utf-8")
    )
    if "--check" in sys.argv[1:]:
        for path in [*stale, *unknown]:
            print(f"{path.relative_to(ROOT)}: not what the code says. Run `python scripts/reference.py`.")
        sys.exit(bool(stale or unknown))
    for path in unknown:
        path.unlink()
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{len(stale)} of {len(pages())} pages rewritten, {len(unknown)} removed.")


def pages() -> dict[Path, str]:
    """Every page's text by its path."""
    texts = {"params.md": _params(), "tables.md": _tables(), "cli.md": _cli(), "face.md": _face()}
    texts |= {f"plugins/{kind}.md": _plugins(kind) for kind in KINDS}
    return {FOLDER / name: f"{MADE}\n{text.strip()}\n" for name, text in texts.items()}


def _plugins(kind: str) -> str:
    """A kind of plugin: how it is named, what it implements, every built-in with its options."""
    registry = manager.load([])
    named, options = PLACES[kind]
    plural = kind.replace("_", " ")
    more = f" More: [{MORE[kind]}](../../{MORE[kind]})." if kind in MORE else ""
    stand = f"`{options}`" if "." in options else options
    contract = KINDS[kind].__name__
    text = [
        f"# {plural.capitalize()}\n",
        f"Named in `{named}`; options: {stand}. "
        f"What one of your own implements: [{contract}](../face.md#{contract.lower()}).{more}\n",
    ]
    for name in registry.names(kind):
        plugin, origin = registry.plugins[kind, name]
        needs = f"Needs {', '.join(f'`{need}`' for need in plugin.needs)}.\n" if plugin.needs else ""
        text += [
            f"## `{name}`\n",
            f"{described(plugin, origin)}\n",
            needs,
            options_table(plugin.options) + "\n",
        ]
    return "\n".join(part for part in text if part)


def _params() -> str:
    """Every section of params.yaml, and what a model's descriptor may hold."""
    text = [
        "# params.yaml\n",
        "One section for each stage; an unknown key is an error that names the nearest right one. `NAME` "
        "stands for a name that you choose. Options of plugins stand on the pages of their kinds.\n",
    ]
    for name, model in SECTIONS.items():
        text += [f"## `{name}`\n", f"{_first(model)}\n", options_table(model) + "\n"]
    text += [
        "# Descriptors of models\n",
        "A `.yaml` file at a model's path; see [generators](../generators.md).\n",
    ]
    for name, model in DESCRIPTORS.items():
        text += [f"## {name}\n", f"{_first(model)}\n", options_table(model) + "\n"]
    return "\n".join(text)


def _tables() -> str:
    """Every table with its columns."""
    text = [
        "# Tables\n",
        "Each is a parquet file, checked when it is written and when it is read (`karma_plugins.schemas`). "
        "Rows are sorted by the key, which is unique.\n",
    ]
    for schema in vars(schemas).values():
        if isinstance(schema, schemas.Schema):
            rows = [
                (f"`{name}`", _dtype(kind), "yes" if name in schema.nullable else "", schema.notes[name])
                for name, kind in schema.columns.items()
            ]
            key = ", ".join(f"`{name}`" for name in schema.key)
            text += [f"## `{schema.name}`\n", f"{schema.about} Key: {key}.\n"]
            text += [table(("column", "type", "nulls", "what"), rows) + "\n"]
    return "\n".join(text)


def _dtype(kind: pl.DataType) -> str:
    if isinstance(kind, pl.List):
        return f"list of {_dtype(kind.inner)}"
    if isinstance(kind, pl.Struct):
        return "{" + ", ".join(field.name for field in kind.fields) + "}"
    return {"String": "text", "Float64": "f64", "Int64": "i64", "Boolean": "bool"}[str(kind)]


def _cli() -> str:
    """Every command with its arguments and options."""
    text = [
        "# Commands\n",
        "`karma --help` lists them; every command takes `-h`. Exit status 1: something is wrong.\n",
    ]
    for path, command in commands(cli.main, ("karma",)):
        text += [f"{'#' * min(len(path), 3)}# `{' '.join(path)}`\n"]
        usage = " ".join([*path, *command.collect_usage_pieces(click.Context(command))])
        text += [f"```text\n{usage}\n```\n", _paragraphs(command.help or "")]
        options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        rows = [
            (_flags(option), _choices(option), _cli_default(option), option.help or "") for option in options
        ]
        if rows:
            text += [table(("option", "value", "default", "what"), rows) + "\n"]
    return "\n".join(text)


def commands(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if (inner := command.get_command(context, name)) is not None:
                yield from commands(inner, (*path, name))


def _paragraphs(text: str) -> str:
    """A help text as Markdown: what click would not wrap is a block."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        if part.startswith("\b"):
            parts.append("```text\n" + part.removeprefix("\b").strip("\n") + "\n```")
        else:
            parts.append(" ".join(part.split()).replace("*", r"\*").replace("<", "&lt;"))
    return "\n\n".join(parts) + "\n"


def _flags(option: click.Option) -> str:
    return ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])


def _choices(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return ", ".join(f"`{choice}`" for choice in option.type.choices)
    return f"{option.metavar or option.type.name.lower()}{', repeatable' if option.multiple else ''}"


def _cli_default(option: click.Option) -> str:
    if option.required:
        return "required"
    value = option.to_info_dict()["default"]
    return "" if value in (None, (), [], False, "") or callable(value) else f"`{value}`"


def _face() -> str:
    """What a plugin implements and receives: names of `karma_plugins`."""
    text = [
        "# What plugins implement and receive\n",
        "Names of `karma_plugins`; the columns of tables are [here](tables.md), the hooks in "
        "[plugin hooks](../plugin_hooks.md), the modules that stages import in [as a library](../api.md).\n",
    ]
    for name in karma_plugins.__all__:
        thing = getattr(karma_plugins, name)
        if inspect.isclass(thing):
            text += [f"## {name}\n", f"{_documented(thing)}\n", _fields(thing)]
    text += ["## Hooks\n"]
    hooks = [(n, f) for n, f in vars(hookspecs).items() if n.startswith("karma_register_")]
    text += [table(("hook", "registers"), [(f"`{n}`", _first(f)) for n, f in sorted(hooks)])]
    return "\n".join(text)


def _fields(thing: type) -> str:
    if issubclass(thing, BaseModel):
        return options_table(thing) + "\n" if thing.model_fields else ""
    if not dataclasses.is_dataclass(thing):
        return ""
    own = thing.__annotations__
    rows = [
        (f"`{field.name}`", f"`{field.type}`", _field_default(field))
        for field in dataclasses.fields(thing)
        if field.name in own
    ]
    return table(("field", "type", "default"), rows) + "\n" if rows else ""


def _field_default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()}`"
    if field.default is dataclasses.MISSING:
        return "required"
    return f"`{getattr(field.default, '__name__', field.default)}`" if field.default != "" else "empty"


def _documented(thing: type | Callable[..., Any]) -> str:
    """A docstring as Markdown: its own paragraphs and lists."""
    paragraphs = (inspect.getdoc(thing) or "").split("\n\n")
    return "\n\n".join(part if part.startswith("- ") else " ".join(part.split()) for part in paragraphs)


def _first(thing: Any) -> str:
    text = " ".join(_documented(thing).partition("\n\n")[0].split())
    return re.sub(r"^Section `(\w+)`: (\w)", lambda m: m[2].upper(), text)


if __name__ == "__main__":
    main()
