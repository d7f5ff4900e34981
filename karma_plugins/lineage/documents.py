"""DVC's files parsed once for all commits that hold the same text, dvc.lock stage by stage.

DVC reads YAML in plain Python: a lock file of fifty stages takes a second, and a history has one for each
commit, most of whose stages are those of the commit before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from typing import Any, Final

#: How dvc.lock begins as DVC writes it; then each stage under its name, two spaces from the edge.
HEAD: Final = re.compile(r"schema: '2\.0'\nstages:\n(?=  \S)")
STAGE: Final = re.compile(r"^  (?=[^\s#])", re.MULTILINE)
#: What only the whole text explains: other sections, documents, comments in between, anchors and aliases.
WHOLE: Final = re.compile(r"^[^\s]|^ \S|^\s*(- )*(\S+: )?[&*]|^\s*#|\t", re.MULTILINE)


@contextmanager
def remembered() -> Iterator[None]:
    """Have DVC parse no text twice; what it gets is its own copy."""
    from dvc.utils import strictyaml

    parse = strictyaml.parse_yaml
    strictyaml.parse_yaml = _remembering(parse)
    try:
        yield
    finally:
        strictyaml.parse_yaml = parse


@lru_cache(maxsize=1)
def _remembering(parse: Callable[..., Any]) -> Callable[..., Any]:
    @lru_cache(maxsize=64)
    def whole(text: str) -> Any:
        return parse(text, "dvc.yaml")

    @lru_cache(maxsize=4096)
    def one(text: str) -> Any:
        return parse(text, "dvc.lock")

    def parse_yaml(text: str, path: str, typ: str = "safe") -> Any:
        if typ != "safe" or not isinstance(text, str):
            return parse(text, path, typ)
        try:
            stages = _stages(text)
            if not stages:
                return deepcopy(whole(text))
            read = [one(stage) for stage in stages]
        except Exception:  # noqa: BLE001 - whatever is wrong, DVC's own parsing of the whole says it best
            return parse(text, path, typ)
        named = {name: body for stage in read for name, body in stage.items()}
        if len(named) < len(stages):  # one name twice
            return parse(text, path, typ)
        return {"schema": "2.0", "stages": deepcopy(named)}

    return parse_yaml


def _stages(text: str) -> list[str]:
    """The texts of the stages of a dvc.lock that is as DVC writes it; none of any other text."""
    head = HEAD.match(text)
    if not head or WHOLE.search(text, head.end()):
        return []
    return [f"  {stage}" for stage in STAGE.split(text[head.end() :]) if stage]
