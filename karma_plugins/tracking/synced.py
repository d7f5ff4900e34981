"""What a sync did, and what one would say that finds nothing to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from karma_plugins.lineage import Revision, Settings
from karma_plugins.tracking import quick


@dataclass(slots=True)
class Synced:
    """What `sync` did, in names of stages; `held` counts stage runs that MLflow held already.

    `stale` stages ran for another command, other params or data than the revision's, and are left to the
    revision that they ran for: with the ways. `never` holds those of dvc.yaml that dvc.lock does not.
    `bare` ones have metrics or plots that can't be read or are nowhere. `refused` holds what MLflow does not
    take, and what can't be read, with the reasons.
    """

    delivered: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    stale: dict[str, str] = field(default_factory=dict)
    never: dict[str, None] = field(default_factory=dict)
    bare: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    united: int = 0
    held: int = 0

    @property
    def changed(self) -> bool:
        """Whether MLflow holds more than before."""
        return bool(self.delivered or self.ended or self.completed or self.united)


def known(root: Path, revisions: Sequence[Revision], settings: Settings) -> Synced | None:
    """What a sync would say where nothing is to do, told without MLflow; null where it has to be asked."""
    held = quick.whole(root, revisions, settings)
    if held is None:
        return None
    done = Synced()
    for one in held:
        one.tell(done)
    return done
