"""A plugin's options as options of a command: `--scores FILE` for the field `scores`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from karma_plugins.contracts import Options
from karma_plugins.errors import ParamsError


def options_of(model: type[Options]) -> list[click.Parameter]:
    """One option for each field, with the field's description and default."""
    parameters: list[click.Parameter] = []
    for name, field in model.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        text = field.description or ""
        flag = f"--{name.replace('_', '-')}"
        kind = field.annotation
        if kind is bool:
            parameters.append(click.Option([f"{flag}/--no-{flag[2:]}", name], default=None, help=text))
            continue
        if default not in (None, (), []) and "[default" not in text:
            text += f" [default: {default}]"
        parameters.append(
            click.Option(
                [flag, name],
                multiple=_is_list_of_texts(kind),
                type=click.Choice(list(get_args(kind))) if get_origin(kind) is Literal else str,
                required=field.is_required(),
                help=text,
            )
        )
    return parameters


def given(model: type[Options], values: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, as the model takes it: a list or mapping is written as JSON or YAML."""
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if value is None or value == ():
            continue
        kind = model.model_fields[name].annotation
        structured = isinstance(value, str) and value.lstrip().startswith(("[", "{"))
        if structured and not {str, Path} & {kind, *get_args(kind)}:
            value = _parsed(value, f"--{name.replace('_', '-')}")
        chosen[name] = value
    return chosen


def _parsed(text: str, option: str) -> Any:
    """A list or mapping, of which JSON is one way to write it and YAML's flow style another."""
    from karma_plugins.params import yaml

    try:
        return yaml.parse(text)
    except yaml.YamlError as error:
        raise ParamsError(f"{option} {text[:80]}: not readable as JSON or YAML ({error}).") from error


def _is_list_of_texts(kind: Any) -> bool:
    arguments = get_args(kind)
    return get_origin(kind) in (tuple, list) and bool(arguments) and arguments[0] is str
