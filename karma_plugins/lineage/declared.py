"""What DVC watches for a stage: the deps that dvc.yaml declares, with their templates filled in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from karma_plugins.errors import ParamsError
from karma_plugins.lineage.pipelines import flatten
from karma_plugins.params import yaml

_PLACE = re.compile(r"\$\{\s*([\w.-]+)\s*\}")


def read_stages(path: Path = Path("dvc.yaml")) -> dict[str, Any]:
    """The stages of dvc.yaml, by name, templates and all; none where there is no such file."""
    if not path.is_file():
        return {}
    try:
        document = yaml.read(path) or {}
    except yaml.YamlError as error:
        raise ParamsError(f"{path}: not readable as YAML ({error}).") from error
    stages = document.get("stages") if isinstance(document, dict) else None
    return {str(name): stage for name, stage in (stages or {}).items() if isinstance(stage, Mapping)}


def read_document(text: str, where: str) -> dict[str, Any]:
    """The mapping that a file of DVC's holds, of any commit; empty for no text or no mapping.

    Raises ParamsError where the text is no YAML.
    """
    try:
        document = yaml.parse(text)
    except yaml.YamlError as error:
        raise ParamsError(f"{where}: not readable as YAML ({error}). Merge or check it out again.") from error
    return dict(document) if isinstance(document, Mapping) else {}


def typed_outs(stages: Mapping[str, Any], stage: str, key: str, kind: str) -> list[Path] | None:
    """The outs of a type (`type: model`) that dvc.yaml declares for a stage (its entry `key`).

    As paths from dvc.yaml. Null where it takes more than `${key}` and `${item}` to tell, which DVC knows.
    """
    body = stages.get(stage)
    body = body.get("do", body) if isinstance(body, Mapping) else {}
    outs = [out for out in body.get("outs") or [] if isinstance(out, Mapping)]
    paths = [
        _PLACE.sub(lambda match: key if match[1] in ("key", "item") else match[0], str(path))
        for out in outs
        for path, flags in out.items()
        if isinstance(flags, Mapping) and flags.get("type") == kind
    ]
    if any("${" in path for path in paths) or (paths and body.get("wdir")):
        return None
    return [Path(path) for path in paths]


def unwatched(
    stages: Mapping[str, Any], params: Mapping[str, Any], stage: str, key: str, paths: Iterable[Path]
) -> list[Path]:
    """Those of `paths` that are no dep, nor in one, of a stage (its entry `key` of a `foreach`).

    `stages` is that part of dvc.yaml, `params` is params.yaml. Of a stage that is not there, nothing is
    unwatched: it runs without DVC.
    """
    declared = stages.get(stage)
    if not isinstance(declared, Mapping):
        return []
    values = flatten(params)
    if isinstance(each := declared.get("foreach"), str) and (place := _PLACE.fullmatch(each.strip())):
        head = f"{place[1]}.{key}."
        values |= {f"item.{k.removeprefix(head)}": v for k, v in values.items() if k.startswith(head)}
    values["key"] = key
    deps = declared.get("do", declared).get("deps") or []
    named = [dep if isinstance(dep, str) else next(iter(dep)) for dep in deps]
    watched = [Path(_PLACE.sub(lambda match: str(values.get(match[1], match[0])), dep)) for dep in named]
    return [path for path in paths if not any(dep == path or dep in path.parents for dep in watched)]
