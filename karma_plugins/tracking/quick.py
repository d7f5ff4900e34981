"""Whether a repository's own database is known to hold all that a sync would look at, without MLflow.

Importing MLflow takes longer than all the rest of a sync that finds nothing to do. So what the last one left
is compared with the database itself: the same experiment, and no fewer finished runs. Where anything is in
doubt MLflow is asked.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from karma_plugins.lineage import LockedPipeline, Revision, Settings, locked
from karma_plugins.lineage.hashing import LineageError, digest_of
from karma_plugins.tracking import record as records
from karma_plugins.tracking.memory import Held, Memory, signed, unsigned

if TYPE_CHECKING:
    from karma_plugins.tracking.store import Store

EXPERIMENT = """
    SELECT (SELECT count(*) FROM runs WHERE experiment_id = e.experiment_id AND lifecycle_stage = 'active'
            AND status = 'FINISHED') FROM experiments e
    WHERE e.experiment_id = ? AND e.creation_time = ? AND e.lifecycle_stage = 'active'
"""


@dataclass(slots=True)
class Left:
    """What a sync left: its experiment, how many finished runs that had, and the workspace that it held."""

    experiment: str
    created: int
    runs: int
    workspace: str = ""
    held: int = 0


def _file(root: Path) -> Path:
    return root / ".karma" / "synced" / "last.json"


def _left(root: Path) -> Left | None:
    """What the last sync left; null where there is nothing, or something else."""
    try:
        entry = unsigned(_file(root).read_bytes(), _file(root).name)
    except FileNotFoundError:
        return None
    return None if entry is None else Left(**entry)


def _count(root: Path, experiment: str, created: int) -> int | None:
    """Finished runs of the experiment; null where the database has no such one."""
    database = root / "mlflow.db"
    if not database.is_file() or any(name.startswith("MLFLOW_") for name in os.environ if name not in QUIET):
        return None
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=1)) as opened:
            row = opened.execute(EXPERIMENT, (experiment, created)).fetchone()
    except sqlite3.Error:
        return None
    return int(row[0]) if row else None


#: Variables of MLflow's that say nothing of where runs go.
QUIET = (
    "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_LOGGING_LEVEL", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT",
)  # fmt: skip


def whole(root: Path, revisions: Sequence[Revision], settings: Settings) -> list[Held] | None:
    """What is held of each of the revisions (none: of the workspace); null where MLflow has to be asked."""
    left = _left(root)
    if left is None or any(records.spool(root).glob("*/record.json")):
        return None
    count = _count(root, left.experiment, left.created)
    if count is None or count < left.runs:
        return None
    if not revisions:
        return _workspace(root, left, settings)
    known = Memory(root, left.experiment, left.created, settings).whole(revisions)
    return [known[r.sha] for r in revisions] if all(r.sha in known for r in revisions) else None


def _workspace(root: Path, left: Left, settings: Settings) -> list[Held] | None:
    faults: list[str] = []
    try:
        pipelines = locked(root, None, settings, faults)
    except LineageError:
        return None
    if faults or not left.workspace or told(pipelines) != left.workspace:
        return None
    stale = {s.name: ", ".join(s.stale) for p in pipelines for s in p.stages if not s.current}
    return [Held(left.held, stale, [name for p in pipelines for name in p.never])]


def told(pipelines: Sequence[LockedPipeline]) -> str:
    """What names everything that a sync would tell of pipelines."""
    return digest_of(
        {p.folder: [p.pipeline.state, repr(p.stages), repr(p.loose), repr(p.artifacts)] for p in pipelines}
    )


def leave(store: Store, workspace: Sequence[LockedPipeline] | None, held: int) -> None:
    """Note what a sync left that held all: of the workspace where it looked at that."""
    root = store.root
    experiment = store.client.get_experiment(store.experiment)
    left = Left(str(experiment.experiment_id), experiment.creation_time, 0)
    count = _count(root, left.experiment, left.created)
    if count is None:
        return
    left.runs = count
    if workspace is not None:
        left.workspace, left.held = told(workspace), held
    elif before := _left(root):
        left.workspace, left.held = before.workspace, before.held
    _file(root).parent.mkdir(parents=True, exist_ok=True)
    partial = _file(root).with_suffix(".partial")
    partial.write_text(signed(asdict(left), _file(root).name), encoding="utf-8")
    partial.replace(_file(root))
