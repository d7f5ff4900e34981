"""YAML documents as DVC reads them: version 1.2, by the library that DVC reads with.

So `on` and `no` are texts, `1e-5` is a number and `010` is ten. A key that stands twice is an error. Where
DVC makes a date of `2024-01-01`, here it stays the text that was written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import Node

#: Most values in a document once its aliases are written out, and the deepest nesting.
MOST_VALUES, DEEPEST = 1_000_000, 100
TIMESTAMP, TEXT = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:str"
#: Texts that versions 1.1 and 1.2 may read differently where they stand bare, such as `no`.
READ_DIFFERENTLY = re.compile(r"(y|n|yes|no|on|off|true|false|null)$|[-+.\d=<~]", re.IGNORECASE)


class YamlError(ValueError):
    """A text is no YAML document that can be read; the message begins with the line where it is known."""


def read(path: Path) -> Any:
    """What a file holds; null for an empty one. Raises YamlError, and OSError where it can't be opened."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise YamlError(f"line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x})") from error


def parse(text: str, *, dates: bool = False) -> Any:
    """What a text holds: mappings, lists, texts, numbers, true, false and null; null for an empty one.

    `dates` makes dates of dates, as DVC does. Raises YamlError for a wrong text, a key that stands twice, a
    tag that makes an object, several documents, and nesting or aliases without bounds.
    """
    return deepcopy(_parsed(text, dates))


def line_of(text: str, keys: tuple[Any, ...]) -> int | None:
    """The line of the innermost key (or list index) that a path leads to; null where it leads nowhere."""
    reader, line = _reader(), None
    node = _composed(text, reader)
    for key in keys:
        inner = _entry(node, key, reader)
        if inner is None:
            return line
        at, node = inner
        line = at.start_mark.line + 1
    return line


def dump(value: Any) -> str:
    """A value as YAML in block style, keys sorted, which readers of version 1.1 (hubs) read alike."""
    from ruamel.yaml.representer import SafeRepresenter

    class Representer(SafeRepresenter):
        def represent_str(self, data: str) -> Any:
            return self.represent_scalar(TEXT, data, style='"' if READ_DIFFERENTLY.match(data) else None)

    Representer.add_representer(str, Representer.represent_str)
    writer = _reader()
    writer.Representer = Representer
    writer.default_flow_style, writer.allow_unicode = False, True
    stream = io.StringIO()
    writer.dump(value, stream)
    return stream.getvalue()


@lru_cache(maxsize=32)
def _parsed(text: str, dates: bool) -> Any:
    """As `parse`, once for each text: a stage asks for several sections of one file."""
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    reader = _reader()
    node = _composed(text, reader)
    if node is None:
        return None
    _bound(node)
    if not dates:
        _keep_dates(node, set())
    try:
        return reader.constructor.construct_document(node)
    except MarkedYAMLError as error:
        raise YamlError(_described(error)) from error
    except (YAMLError, ValueError, TypeError, LookupError) as error:  # a tag such as !!int on what is none
        raise YamlError(_line(f"{type(error).__name__}: {error}")) from error


def _reader() -> YAML:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True)


def _composed(text: str, reader: YAML) -> Node | None:
    """The tree of a document's nodes, which know their lines; YamlError where there is none."""
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        node: Node | None = reader.compose(text)
    except MarkedYAMLError as error:
        raise YamlError(_described(error)) from error
    except RecursionError as error:
        raise YamlError(f"nested deeper than {DEEPEST} levels") from error
    except (YAMLError, ValueError, AttributeError) as error:  # the last: a character that YAML forbids
        raise YamlError(_line(str(error))) from error
    return node


def _bound(root: Node) -> None:
    """Raise YamlError where a tree, aliases written out, is endless, too deep or too large."""
    sizes: dict[int, int] = {}

    def size(node: Node, above: tuple[int, ...]) -> int:
        line = node.start_mark.line + 1
        if id(node) in above:
            raise YamlError(f"line {line}: holds itself by an alias")
        if len(above) > DEEPEST:
            raise YamlError(f"line {line}: nested deeper than {DEEPEST} levels")
        if id(node) not in sizes:
            below = (*above, id(node))
            sizes[id(node)] = 1 + sum(size(child, below) for child in _children(node))
            if sizes[id(node)] > MOST_VALUES:
                raise YamlError(f"line {line}: more than {MOST_VALUES} values once aliases are written out")
        return sizes[id(node)]

    size(root, ())


def _keep_dates(node: Node, seen: set[int]) -> None:
    """Have values (not keys, which DVC ignores where they are dates) that look like dates read as texts."""
    if id(node) in seen:
        return
    seen.add(id(node))
    for child in _children(node, keys=False):
        _keep_dates(child, seen)
    if node.tag == TIMESTAMP:
        node.tag = TEXT


def _children(node: Node, *, keys: bool = True) -> list[Node]:
    """The nodes right below one."""
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in (pair if keys else pair[1:])]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _entry(node: Node | None, key: Any, reader: YAML) -> tuple[Node, Node] | None:
    """The node that names an entry of a mapping or list, and the node of what it holds."""
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    if isinstance(node, MappingNode):
        for name, value in node.value:
            if reader.constructor.construct_object(name, deep=True) == key:
                return name, value
    return None


def _described(error: Any) -> str:
    """What was wrong and on which line, of an error of the library's that knows places."""
    mark = error.problem_mark or error.context_mark
    # What a key that stands twice holds is left out: it is of any length.
    problem = _line((error.problem or error.context or str(error)).partition(" with value ")[0])
    return problem if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:199]}…"


def ignored_keys(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to the keys of a document that are no texts: DVC leaves such entries out without a word."""
    if isinstance(value, list):
        return [path for i, item in enumerate(value) for path in ignored_keys(item, (*above, i))]
    if not isinstance(value, Mapping):
        return []
    return [
        path
        for key, item in value.items()
        for path in ([(*above, key)] if not isinstance(key, str) else ignored_keys(item, (*above, key)))
    ]
