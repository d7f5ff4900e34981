"""What a stage says of itself, kept as an out of `type: run`, so that a restored stage says it again.

A file of JSON with `params` beside those of dvc.yaml and final `metrics`, and the `versions` of libraries. It
holds nothing of the moment, such as times, the steps on the way or the machine, so that the same work gives
the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from karma_plugins import lineage
from karma_plugins.lineage import LockedData
from karma_plugins.lineage.contents import Contents
from karma_plugins.tracking import record as records

#: The type of such an out in dvc.yaml.
TYPE: Final = "run"


@dataclass(slots=True)
class Words:
    """Params as text and numbers by dotted names, versions by library."""

    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, paths: Iterable[Path]) -> None:
        """Write them to each of the files."""
        text = json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # it may be a link into DVC's cache
            path.write_text(text, encoding="utf-8")


def places(folder: Path, stage: str, item: str | None) -> list[Path]:
    """Where a stage of the dvc.yaml in `folder` is to leave its words, so that DVC finds its outs."""
    typed = lineage.typed_outs(lineage.read_stages(folder / "dvc.yaml"), stage, item or "", TYPE)
    if typed is not None:
        return [folder / path for path in typed]
    from karma_plugins.lineage.reading import starting

    _, declared = starting(folder.resolve(), lineage.ANY, f"{stage}@{item}" if item else stage)
    root = lineage.workspace_root(folder)
    outs = declared.stages[0].outs if declared else ()
    return [root / out.path for out in outs if out.kind == TYPE]


def kept(outs: Iterable[LockedData], contents: Contents) -> tuple[Words, list[str]]:
    """What outs of this type hold, and the paths of those that can't be read."""
    words, lacking = Words(), []
    for out in outs:
        if out.kind != TYPE:
            continue
        data = contents.read(out)
        try:
            said = json.loads(data) if data is not None else None
        except ValueError:
            said = None
        if not isinstance(said, Mapping):
            lacking.append(out.path)
            continue
        words.params |= _texts(said.get("params"))
        words.metrics |= records.numbers(said.get("metrics") or {})
        words.versions |= _texts(said.get("versions"))
    return words, lacking


def _texts(values: object) -> dict[str, str]:
    return {str(key): str(value) for key, value in values.items()} if isinstance(values, Mapping) else {}
