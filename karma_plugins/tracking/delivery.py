"""The process beside a stage that carries its record to MLflow.

`main` with the arguments FOLDER ROOT: MLflow is imported while the stage works, and the run and its progress
are shown as they come; when the stage has ended (the pipe on its stdin closes) it delivers the
finished record and removes it. Exit status 0 means that MLflow holds the record, or that there was
nothing to hold; otherwise the last line of its output says why.
"""

from __future__ import annotations

import json
import select
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from karma_plugins.tracking import finished, refusing
from karma_plugins.tracking import record as records
from karma_plugins.tracking.points import Point
from karma_plugins.tracking.store import REFUSALS, Store, StoreError

#: Seconds between two looks at the points that a running stage reports.
TICK = 2.0


def points(folder: Path, start: int = 0) -> tuple[list[Point], int]:
    """Whole lines of `points.jsonl` from byte `start` on, and the byte after them."""
    file = folder / "points.jsonl"
    if not file.is_file():
        return [], start
    with file.open("rb") as lines:
        lines.seek(start)
        text = lines.read()
    whole = text[: text.rfind(b"\n") + 1]
    return [Point(*json.loads(line)) for line in whole.splitlines()], start + len(whole)


def deliver(store: Store, folder: Path, seen: int = 0) -> None:
    """Bring MLflow to hold the finished record in `folder`, then remove it.

    The first `seen` bytes of its points are there already.
    """
    fresh, every = points(folder, seen)[0], points(folder)[0]
    finished.log(store, records.read(folder), fresh, folder / "artifacts", every)
    shutil.rmtree(folder)


def accompany(folder: Path, root: Path) -> None:
    """Stay with the stage until it ends, then deliver; where it failed or was killed, mark its run so."""
    if not sys.stdin.readline():
        shutil.rmtree(folder)  # it ended before it began
        return
    record = records.read(folder)
    store, run_id, seen = None, None, 0
    try:
        store = Store(root, record.experiment)
        run_id = store.begin(record)
        with watched(store, run_id) if record.system_metrics else nullcontext():
            while not select.select([sys.stdin], [], [], TICK)[0]:
                fresh, seen = points(folder, seen)
                store.log_points(run_id, fresh)
    except REFUSALS:
        seen = 0
        sys.stdin.read()  # until the stage has ended; perhaps MLflow is back then
    record = records.read(folder)
    if record.status == "FINISHED":
        deliver(store or Store(root, record.experiment), folder, seen)
        return
    if store and run_id:
        store.end(run_id, "FAILED" if record.status == "FAILED" else "KILLED", record.ended)
    shutil.rmtree(folder)


@contextmanager
def watched(store: Store, run_id: str) -> Iterator[None]:
    """Have MLflow log the machine's load (`system/…`) meanwhile; MLFLOW_SYSTEM_METRICS_… say how often."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, tracking_uri=store.client.tracking_uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def main() -> None:
    """Accompany the stage whose record lies in the folder given."""
    folder, root = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        with records.carrier(folder):
            accompany(folder, root)
    except (*REFUSALS, StoreError) as error:
        sys.exit(refusing.reason(error))
    except records.UnreadableError as error:
        sys.exit(str(error))
