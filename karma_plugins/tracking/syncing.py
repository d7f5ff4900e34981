"""Completing MLflow: what waits in the spool, and stages that were skipped or restored, so said nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import Timeout

from karma_plugins import lineage
from karma_plugins.lineage import Revision, Settings
from karma_plugins.tracking import delivery, quick, refusing
from karma_plugins.tracking import record as records
from karma_plugins.tracking.completing import Session
from karma_plugins.tracking.memory import Memory
from karma_plugins.tracking.store import REFUSALS, Store
from karma_plugins.tracking.synced import Synced

#: Seconds that a record is waited for whose stage has ended and whose courier is at work.
PATIENCE = 60.0


def sync(
    store: Store,
    root: Path,
    revisions: Sequence[Revision] = (),
    settings: Settings = lineage.ANY,
    *,
    again: bool = False,
    advance: Callable[[int], None] = lambda done: None,
) -> Synced:
    """Deliver the spool, then complete MLflow from the dvc.lock of each revision (none: of the workspace).

    Repeating it changes nothing. A commit that MLflow is known to hold whole is not read again but where
    `again` is true. What MLflow refuses stands in no other's way. `advance` is told of each revision that is
    done. Raises LineageError outside a DVC repository.
    """
    done, trouble = Synced(), refusing.Trouble()
    for folder in sorted(file.parent for file in records.spool(root).glob("*/record.json")):
        _settle(store, folder, done, trouble)
    chosen = list(revisions) or [Revision()]
    experiment = store.client.get_experiment(store.experiment)
    memory = Memory(root, str(experiment.experiment_id), experiment.creation_time, settings)
    held_whole = {} if again else memory.whole(chosen)
    workspace: tuple[Sequence[lineage.LockedPipeline], int] | None = None
    session = Session(store, root, settings, done, trouble)
    for revision in chosen:
        if held := held_whole.get(revision.sha):
            held.tell(done)
        else:
            faults: list[str] = []
            pipelines = lineage.locked(root, revision, settings, faults)
            done.refused |= dict.fromkeys(faults, "")
            outcome = session.complete(pipelines)
            if revision.sha and outcome and not faults:
                memory.keep(revision.sha, outcome)
            if outcome and outcome.bare and not revision.sha:
                outcome = None
            if not revision.sha:
                workspace = (pipelines, outcome.runs) if outcome and not faults else None
        advance(1)
    if not done.refused:
        quick.leave(store, *(workspace or (None, 0)))
    return done


def _settle(store: Store, folder: Path, done: Synced, trouble: refusing.Trouble) -> None:
    """Deliver a finished record; end the run of a stage that died. What is still at work is left alone."""
    try:
        with records.living(folder, timeout=0), records.carrier(folder, timeout=PATIENCE):
            if not (folder / "record.json").is_file():  # its courier has just delivered it
                shutil.rmtree(folder, ignore_errors=True)
                return
            record = records.read(folder)
            if record.status == "FINISHED":
                _deliver(store, folder, record.name, done, trouble)
                return
            if run := store.find("karma.uid", record.uid):
                status = "FAILED" if record.status == "FAILED" else "KILLED"
                store.end(run.info.run_id, status, record.ended)
            shutil.rmtree(folder)
            done.ended.append(record.name)
    except (Timeout, FileNotFoundError):
        return
    except records.UnreadableError as error:
        done.refused[str(folder)] = str(error)


def _deliver(store: Store, folder: Path, name: str, done: Synced, trouble: refusing.Trouble) -> None:
    """Deliver a finished record, or note why MLflow does not take it: it stays where it is."""
    try:
        delivery.deliver(store, folder)
    except REFUSALS as error:
        trouble.meet(error)
        done.refused[f"{folder} ({name}"] = f"{refusing.reason(error)})"
    else:
        trouble.over()
        done.delivered.append(name)
