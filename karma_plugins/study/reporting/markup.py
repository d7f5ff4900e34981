"""HTML that can't be broken by what users write: every text is escaped, only `Html` is taken as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

#: Elements that have no end.
VOID = frozenset({"br", "input", "meta"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None | Iterable["Child"]


def tag(name: str, /, *children: Child, **attributes: str | bool | None) -> Html:
    """An element; a trailing `_` of an attribute is left off, other `_` are `-`; null and false omit it."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Child) -> Html:
    """Elements and texts, one after the other."""
    if children is None:
        return Html("")
    if isinstance(children, Html):
        return children
    if isinstance(children, str):
        return Html(escape(children))
    return Html("".join(join(child) for child in children))


def data(value: Any, name: str) -> Html:
    """Values that the page's script reads: no text in them can end the element, or begin another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{escape(name)}">{text}</script>')


def grid(head: Sequence[str], rows: Iterable[Sequence[Child]], caption: str) -> Html:
    """A table; the first cell of a row is its head. It scrolls in itself where the screen is narrow."""
    top = tag("tr", [tag("th", name, scope="col") for name in head])
    body = [tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]]) for row in rows]
    whole = tag("table", tag("caption", caption), tag("thead", top), tag("tbody", body))
    return tag("div", whole, class_="scroll", tabindex="0", role="group", aria_label=caption)


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """A number as it is shown; `unknown` where there is none."""
    return "unknown" if value is None else f"{value:{sign}.{digits}f}"


def interval(value: float | None, low: float | None, high: float | None, sign: str = "+") -> str:
    """A value with its 95% interval where one is known."""
    if low is None or high is None:
        return number(value, sign=sign)
    return f"{number(value, sign=sign)} [{number(low, sign=sign)}, {number(high, sign=sign)}]"
