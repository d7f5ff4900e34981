"""MLflow locked, read-only, full, refusing, broken or slow: nothing is lost, nothing twice, no long wait."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.lineage.projects import Project, artifacts
from tests.lineage.two_stages import environment

pytestmark = pytest.mark.usefixtures("tracked")

#: A stage that works no time; it prints the seconds between its end and that of its process.
STAGE = """
import time
from pathlib import Path
from karma_plugins import tracking
with tracking.stage("made", params={"a": 1}, inputs=[Path("raw.txt")], outs=[Path("out.txt")]) as run:
    Path("out.txt").write_text("1")
    run.metrics({"m": 0.5})
    run.page("page.txt", str, "said")
    ended = time.monotonic()
print(time.monotonic() - ended)
"""
#: What a stage that has ended waits for at most, and what a busy machine may take to start the rest.
PATIENCE, BUSY = 5.0, 10.0


class Answers(BaseHTTPRequestHandler):
    """Answers every request with `status` after `seconds`."""

    status, seconds = 500, 0.0
    ended = threading.Event()

    def do_GET(self) -> None:
        self.ended.wait(self.seconds)
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def server(status: int, seconds: float = 0.0) -> Iterator[dict[str, str]]:
    """A server that answers so; the environment that leads to it."""
    ended = threading.Event()
    handler = type("Handler", (Answers,), {"status": status, "seconds": seconds, "ended": ended})
    serving = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    serving.daemon_threads = True
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{serving.server_address[1]}",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",  # so that the process that goes on with it ends in seconds
    }
    ended.set()
    serving.shutdown()
    serving.server_close()


@contextmanager
def locked(root: Path) -> Iterator[dict[str, str]]:
    """The database held by another process' transaction."""
    with closing(sqlite3.connect(root / "mlflow.db")) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield {}


@contextmanager
def read_only(root: Path) -> Iterator[dict[str, str]]:
    """A database that can't be written to, by root either."""
    yield {"MLFLOW_TRACKING_URI": f"sqlite:///file:{root / 'mlflow.db'}?mode=ro&uri=true"}


@contextmanager
def full(root: Path) -> Iterator[dict[str, str]]:
    """A file system on which the database can't grow."""
    del root
    yield {"FULL": "yes"}


KINDS = {
    "locked": locked,
    "read-only": read_only,
    "full": full,
    "401": lambda root: server(401),
    "500": lambda root: server(500),
    "503": lambda root: server(503),
    "slow": lambda root: server(500, 1.5),
    "silent": lambda root: server(500, 60.0),
}


def start(command: list[str], root: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command; where the file system is to be full, no file may grow over the database as it is."""

    def fill() -> None:
        size = (root / "mlflow.db").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    env = environment(**environ)
    del env["KARMA_TRACKING_WAIT"]
    return subprocess.run(
        command, cwd=root, env=env, capture_output=True, text=True, check=False,
        preexec_fn=fill if "FULL" in environ else None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def reproduced_project(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Path:
    made = Project(tmp_path_factory.mktemp("trouble") / "trouble", database)
    made.write(
        {
            "raw.txt": "raw\n",
            "stage.py": STAGE,
            "dvc.yaml": """
                stages:
                  one: {cmd: cp raw.txt one.bin, deps: [raw.txt], outs: [one.bin: {type: model}]}
                  two:
                    cmd: cat one.bin raw.txt > two.txt && echo '{"n":1}' > m.json
                    deps: [one.bin]
                    outs: [two.txt]
                    metrics: [m.json]
            """,
        }
    )
    made.dvc("repro", "-q")
    made.commit()
    return made.root


@pytest.fixture
def project(reproduced_project: Path, tmp_path: Path) -> Project:
    """A project with a stage that tracks itself and two that do not; nothing was told of them."""
    return Project.at(Path(shutil.copytree(reproduced_project, tmp_path / "trouble", symlinks=True)))


SLOW = "KARMA_SLOW_TESTS" in os.environ


@pytest.mark.parametrize("kind", KINDS if SLOW else ("locked", "401"))
def test_a_stage_ends_well_and_soon_and_its_record_is_delivered_once(kind: str, project: Project) -> None:
    from karma_plugins.tracking import record as records

    with KINDS[kind](project.root) as environ:
        begun = time.monotonic()
        done = start([sys.executable, "stage.py"], project.root, environ)
        assert done.returncode == 0, done.stderr
        assert float(done.stdout) < PATIENCE + BUSY, time.monotonic() - begun
        assert "made is not in MLflow yet" in done.stderr
        assert "run `karma sync`" in done.stderr
        assert len(list(records.waiting(project.root))) == 1
    told_once(project)


@pytest.mark.parametrize("kind", KINDS if SLOW else ("full", "500"))
def test_a_sync_that_is_refused_says_so_in_a_line_and_the_next_one_makes_all(
    kind: str, project: Project
) -> None:
    start([sys.executable, "stage.py"], project.root, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    with KINDS[kind](project.root) as environ:
        short = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        done = start([sys.executable, "-m", "karma_plugins", "sync"], project.root, {**environ, **short})
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        assert len([line for line in done.stderr.splitlines() if line.startswith("Error: ")]) == 1
    told_once(project)


def told_once(project: Project) -> None:
    """A sync tells everything, a second one finds nothing to do, and nothing is there twice."""
    project.karma("sync")
    assert "Nothing changed." in project.karma("sync")
    assert "Nothing changed." in project.karma("sync", "--again")
    runs = {entry.info.run_name: entry for entry in project.runs()}
    assert sorted(entry.info.run_name for entry in project.runs()) == ["made", "one", "two"]
    assert {entry.info.status for entry in runs.values()} == {"FINISHED"}
    assert runs["made"].data.metrics == {"m": 0.5}
    assert runs["two"].data.metrics == {"n": 1.0}
    assert (artifacts(runs["made"]) / "page.txt").read_text() == "said"
    (model,) = project.models()
    assert model.source_run_id == runs["one"].info.run_id
    assert [
        read.model_id for read in project.client.get_run(runs["two"].info.run_id).inputs.model_inputs
    ] == [model.model_id]
    parents = project.runs("pipeline")
    assert {entry.data.tags["mlflow.parentRunId"] for entry in runs.values()} == {
        entry.info.run_id for entry in parents
    }
    from karma_plugins.tracking import record as records

    assert not list(records.spool(project.root).glob("*/record.json"))


@pytest.mark.parametrize("moment", range(20) if SLOW else (3,))
def test_a_sync_killed_before_a_statement_goes_on_where_it_was(moment: int, project: Project) -> None:
    killed = """
import os, signal, sys
from sqlalchemy import Engine, event
left = [int(sys.argv.pop())]
def count(*_):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
event.listen(Engine, "before_cursor_execute", count)
from karma_plugins.cli import main
main(["sync"])
"""
    start([sys.executable, "stage.py"], project.root, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    done = start([sys.executable, "-c", killed, str(1 + 17 * moment)], project.root, {})
    assert done.returncode in (-9, 0)
    told_once(project)
