"""DVC's own experiment queue: what is put there, worked off by DVC's workers, and read back.

The queue, its workers and its results are DVC's (`dvc queue status`, `dvc exp show` see them too); an
experiment that has a name here is never run twice.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karma_plugins import lineage
from karma_plugins.errors import KarmaError, ParamsError
from karma_plugins.lineage.git import git
from karma_plugins.lineage.hashing import open_repo

#: Seconds between two looks at the queue, and in which workers that were started show themselves.
POLL, GRACE = 5.0, 60.0
#: The environment of a worker: two processes of two threads each on two cores are slower than one.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


class ExperimentError(KarmaError):
    """Experiments that failed, or whose results are not there."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A name, and params to set in the words of `dvc exp run -S`."""

    name: str
    params: tuple[str, ...]


def finished(folder: Path) -> dict[str, str]:
    """The commit of every experiment of the repository, by name."""
    revisions = lineage.revisions(folder, experiments=True)
    return {revision.experiment: str(revision.sha) for revision in revisions}


def run(
    folder: Path,
    wanted: Sequence[Experiment],
    *,
    workers: int,
    progress: Callable[[int], AbstractContextManager[Callable[[int], None]]],
) -> dict[str, str]:
    """Have DVC's queue run the experiments that are not finished; the commit of each by name.

    What already waits or runs in the queue is not put there again, so that a call that was cut off can be
    repeated. `progress` shows how many of so many are done. Raises ExperimentError where
    an experiment fails, once all others have ended.
    """
    names = {experiment.name for experiment in wanted}
    queue = open_repo(folder).experiments.celery_queue
    _forget(queue, names)
    there = finished(folder).keys() | _waiting(queue, names)
    _put(folder, [experiment for experiment in wanted if experiment.name not in there])
    done = len(names & finished(folder).keys())
    with progress(len(names) - done) as advance:
        started = -GRACE
        while _waiting(queue, names):
            if time.monotonic() - started > GRACE and not queue.worker_status():
                _forget(queue, names)
                _start(queue, workers)
                started = time.monotonic()
            time.sleep(POLL)
            now = len(names & finished(folder).keys())
            advance(now - done)
            done = now
    commits = {name: sha for name, sha in finished(folder).items() if name in names}
    if failed := sorted(names - commits.keys()):
        raise ExperimentError(
            f"{len(failed)} of {len(names)} experiments failed: {', '.join(failed[:3])}"
            f"{' …' if len(failed) > 3 else ''}. `dvc queue logs {failed[0]}` says why; the same command "
            "tries these again and keeps the others."
        )
    return commits


def read_metrics(folder: Path, commit: str, path: str) -> Any:
    """A JSON metrics file of an experiment, by its path beside dvc.yaml; ExperimentError where it is gone."""
    if held := git(folder, "show", f"{commit}:./{path}"):  # where DVC leaves the file to git
        return json.loads(held)
    locked = lineage.read_document(git(folder, "show", f"{commit}:./dvc.lock"), f"dvc.lock of {commit[:7]}")
    outs = [out for stage in locked.get("stages", {}).values() for out in stage.get("outs", [])]
    md5 = next((out["md5"] for out in outs if out["path"] == path), None)
    if md5 is None:
        raise ExperimentError(
            f"{path}: not in dvc.lock of {commit[:7]}. Remove that experiment and run again."
        )
    within = os.path.relpath(folder.resolve() / path, lineage.workspace_root(folder))
    return json.loads(lineage.restore(within, md5, folder).read_bytes())


def _put(folder: Path, wanted: Sequence[Experiment]) -> None:
    """Put experiments into the queue."""
    from dvc.exceptions import DvcException

    repo = open_repo(folder)
    for experiment in wanted:
        try:
            repo.experiments.run(queue=True, name=experiment.name, params=list(experiment.params))
        except DvcException as error:
            raise ParamsError(f"{' '.join(experiment.params)}: DVC can't set this ({error}).") from error


def _start(queue: Any, workers: int) -> None:
    """Start DVC's workers, which find `dvc` and `python` beside this one, and end when nothing waits."""
    os.environ |= ONE_THREAD | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    queue.start_workers(workers)


def _forget(queue: Any, names: set[str]) -> None:
    """Take out of the queue what failed before, and what a killed worker left behind."""
    if not queue.worker_status() and (dead := _in_state(queue, names, "Running")):
        queue.kill(dead, force=True)
    if failed := _in_state(queue, names, "Failed"):
        queue.remove(failed)


def _waiting(queue: Any, names: set[str]) -> set[str]:
    """Which of the experiments wait or run."""
    return _in_state(queue, names, "Queued", "Running")


def _in_state(queue: Any, names: set[str], *states: str) -> set[str]:
    return {e["name"] for e in queue.status() if e["status"] in states and e["name"] in names}
