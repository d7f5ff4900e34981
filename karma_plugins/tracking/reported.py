"""What dvc.yaml adds to the record of a stage that reports as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from karma_plugins.lineage import LockedPipeline, Settings
from karma_plugins.lineage.contents import Contents
from karma_plugins.lineage.locked import Revision
from karma_plugins.tracking import declared as declaring
from karma_plugins.tracking.data import CONTEXTS, Data, describe
from karma_plugins.tracking.record import Model, Record

if TYPE_CHECKING:
    from karma_plugins.tracking.points import Point


def complete(
    record: Record,
    declared: LockedPipeline | None,
    data: dict[str, Data],
    workspace: Path,
    folder: Path,
    settings: Settings,
) -> Sequence[Point]:
    """Add to a record and its `data` (by path) the stage's own deps and outs, metrics, plots and models.

    What the stage reported itself counts. Gives the steps of DVCLive's metrics.
    """
    if declared is None:
        _name(record.models, [])
        return []
    (stage,) = declared.stages
    for some, context in ((stage.deps, CONTEXTS[0]), (stage.outs, CONTEXTS[1])):
        for one in some:
            here = workspace / one.path
            if one.in_repository and here.exists() and (one.path not in data or context == CONTEXTS[1]):
                data[one.path] = describe(here, workspace, context)
            elif not one.in_repository and one.digest:
                data.setdefault(one.path, Data(one.path, one.path, one.digest, hash_name=one.hash_name))
            if one.path in data:
                data[one.path].notes = declaring.notes(one)
    points = declaring.complete(
        record, stage, declared, Contents(workspace, Revision(), set()), folder / "artifacts"
    )
    _name(record.models, declaring.models_of(stage.outs, stage, declared, settings))
    return points


def _name(reported: list[Model], known: list[Model]) -> None:
    """Join the models that the stage reported with those that dvc.yaml names."""
    by_path = {model.path: model for model in known}
    for place, model in enumerate(reported):
        other = by_path.pop(model.path, None)
        reported[place] = replace(
            model,
            name=model.name or (other.name if other else declaring.named_after(model.path, [])),
            trained_on=model.trained_on or (other.trained_on if other else None),
            register=model.register or (other.register if other else None),
            aliases=other.aliases if other else [],
            tags=other.tags if other else {},
        )
    reported += by_path.values()
