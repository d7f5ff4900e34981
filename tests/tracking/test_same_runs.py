"""What `karma sync` makes of a commit is what tracked runs made; kills and slow servers lose nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.lineage.projects import Project
from tests.lineage.two_stages import DVC, environment, make_repository, run
from tests.tracking.differences import differences, told

pytestmark = pytest.mark.usefixtures("tracked")


def test_a_synced_clone_holds_what_the_tracked_runs_told(reproduced: Path, cloned: Path) -> None:
    run([*DVC, "pull", "-q"], cloned)
    Project.at(cloned).karma("sync")
    tracked, synced = told(reproduced / "mlflow.db"), told(cloned / "mlflow.db")
    assert len(tracked) == len(synced) == 5  # two stages, their pipeline, a model, its name in the registry
    reported = {  # beside dvc.yaml, by the stage's own process: no file says it
        "make": {"param rows", "metric rows", "metric loss"},
        "fit@small": {"param kind.a"},
    }
    for name, entry in tracked.items():
        for key in reported.get(name.rpartition(" ")[2], ()):
            del entry[key]
        if name.startswith("pipeline"):
            del entry["metric make.rows"]
        if name.startswith("model"):
            del entry["param kind.a"]
    assert differences(tracked, synced) == []


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes every request and answers none."""
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            release.wait(60)

        do_POST = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    release.set()
    server.shutdown()
    server.server_close()


def test_a_server_that_is_silent_keeps_no_stage_for_long(tmp_path: Path, silent: str) -> None:
    from karma_plugins.tracking import record as records

    root = make_repository(tmp_path / "slow")
    begun = time.monotonic()
    done = run([sys.executable, "make.py"], root, MLFLOW_TRACKING_URI=silent, KARMA_TRACKING_WAIT="0.5")
    assert time.monotonic() - begun < 60  # MLflow's own patience is minutes
    assert "takes longer than 0.5 s; a process goes on with it" in done.stderr
    assert len(list(records.waiting(root))) == 1


@pytest.mark.skipif("KARMA_SLOW_TESTS" not in os.environ, reason="slow: KARMA_SLOW_TESTS=1")
def test_a_sync_killed_at_any_moment_goes_on_where_it_was(database: Path, tmp_path: Path) -> None:
    project = Project(tmp_path / "killed", database)
    stages = "".join(
        f"  s{n}: {{cmd: cp raw.txt o{n}, deps: [raw.txt], outs: [o{n}: {{type: model}}]}}\n"
        for n in range(6)
    )
    project.write({"raw.txt": "raw\n", "dvc.yaml": f"stages:\n{stages}"})
    project.dvc("repro", "-q")
    project.commit()
    for moment in range(20):
        process = subprocess.Popen(
            [sys.executable, "-m", "karma_plugins", "sync", "--rev", "HEAD"],
            cwd=project.root, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(1.0 + 0.35 * moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    project.karma("sync")
    assert "Nothing changed." in project.karma("sync", "--rev", "HEAD")
    assert sorted(entry.info.run_name for entry in project.runs()) == [f"s{n}" for n in range(6)]
    assert {entry.info.status for entry in (*project.runs(), *project.runs("pipeline"))} == {"FINISHED"}
    assert len(project.runs("pipeline")) == 1
    assert len(project.models()) == 6
