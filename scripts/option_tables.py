"""Pydantic models as Markdown tables: a row for each key, those of models within them dotted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

#: A default longer than this is told by its size.
LONGEST = 60
WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


def options_table(model: type[BaseModel]) -> str:
    """Every key of a model, those of models within it too."""
    rows = list(_rows(model, ""))
    return table(("key", "value", "default", "what"), rows) if rows else "No options."


def undescribed(model: type[BaseModel]) -> list[str]:
    """Keys that say nothing of themselves."""
    return [key.strip("`") for key, _, _, what in _rows(model, "") if not what]


def _rows(model: type[BaseModel], before: str) -> Iterator[tuple[str, str, str, str]]:
    schema = model.model_json_schema(by_alias=False)
    known = schema.get("$defs", {})
    for name, field in model.model_fields.items():
        described = _resolved(schema["properties"][name], known)
        yield f"`{before}{name}`", _values(described, known), _default(field), _what(name, field)
        if inner := _inner(field.annotation):
            kept, within = inner
            yield from _rows(within, f"{before}{name}.{'NAME.' if kept else ''}")


def _what(name: str, field: FieldInfo) -> str:
    text = " ".join((field.description or "").split())
    alias = field.validation_alias
    others = [str(a) for a in alias.choices if a != name] if isinstance(alias, AliasChoices) else []
    return f"{text}; also written `{'`, `'.join(others)}`" if text and others else text


def _inner(annotation: Any) -> tuple[bool, type[BaseModel]] | None:
    """The model within a field, and whether it is the value of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return False, annotation
    mapping = getattr(annotation, "__origin__", None) in (dict, Mapping)
    for argument in get_args(annotation):
        if deeper := _inner(argument):
            return mapping or deeper[0], deeper[1]
    return None


def _resolved(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return {**known[reference.rpartition("/")[2]], **schema} if reference else schema


def _values(schema: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """What may stand there, in words."""
    schema = _resolved(schema, known)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_values(choice, known) for choice in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items") or {}
        return f"list of {_values(items, known)}" if items else "list"
    if kind == "object":
        values = schema.get("additionalProperties")
        plain = isinstance(values, Mapping) and "$ref" not in values and values
        return f"mapping to {_values(values, known)}" if plain else "mapping"
    if schema.get("format") in ("path", "file-path"):
        return "path"
    bounds = [
        f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema and schema[key] < 2**31
    ]
    return " ".join([WORDS.get(str(kind), str(kind or "anything")), ", ".join(bounds)]).strip()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    if isinstance(value, Mapping):
        value = {k: v.model_dump() if isinstance(v, BaseModel) else v for k, v in value.items()}
    if not isinstance(value, str | bool | int | float | list | tuple | dict | None):
        value = str(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > LONGEST:
        return f"{len(value)} entries"
    return f"`{text}`" if text else "empty"
