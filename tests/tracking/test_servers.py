"""Experiments side by side and servers that come and go, in real processes: run with KARMA_SLOW_TESTS=1."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from karma_plugins import lineage
from tests.lineage.two_stages import COMMIT, DVC, environment, locked, make_repository, run, runs

pytestmark = pytest.mark.skipif(
    "KARMA_SLOW_TESTS" not in os.environ, reason="takes minutes: set KARMA_SLOW_TESTS=1"
)
KARMA = [sys.executable, "-m", "karma_plugins"]
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A process that listens on a port, started and killed as often as one likes."""

    def __init__(self, command: list[str], port: int, folder: Path, **more: str) -> None:
        self.command, self.port, self.folder, self.more = command, port, folder, more
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / f"server-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=environment(**self.more), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            try:
                self.process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            pytest.skip(f"{self.command[0]} does not start: {self.folder}/server-{self.port}.log")
        pytest.skip(f"{self.command[0]} does not listen after two minutes")

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()


def mlflow_server(folder: Path, store: str, artifacts: str, **more: str) -> Server:
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", store, "--artifacts-destination", artifacts,
    ]  # fmt: skip
    return Server(command, port, folder, **more)


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The address of a database of our own; for root it runs as `postgres`, for PostgreSQL refuses root."""
    initdb = shutil.which("initdb")
    if initdb is None:
        pytest.skip("PostgreSQL is not installed (no initdb on PATH)")
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    folder, port = Path(tempfile.mkdtemp(prefix="karma-pg-")), free_port()
    prefix: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    subprocess.run(
        [*prefix, initdb, "-D", folder / "db", "-U", "karma", "-A", "trust"], check=True, stdout=-3
    )
    command = [
        *prefix,
        "postgres",
        "-D",
        str(folder / "db"),
        "-p",
        str(port),
        "-k",
        str(folder),
        "-h",
        "127.0.0.1",
    ]
    server = Server(command, port, Path(tempfile.mkdtemp()))
    server.start()
    yield f"postgresql+psycopg2://karma@127.0.0.1:{port}/postgres"
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of an S3 of our own with bucket `data`."""
    pytest.importorskip("moto", reason="moto is not installed")
    pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed")
    import boto3

    port = free_port()
    server = Server([sys.executable, "-m", "moto.server", "-p", str(port)], port, tmp_path)
    server.start()
    url = f"http://127.0.0.1:{port}"
    boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="testing",
        aws_secret_access_key="testing",
    ).create_bucket(Bucket="data")  # fmt: skip
    yield {**KEYS, "AWS_ENDPOINT_URL": url, "MLFLOW_S3_ENDPOINT_URL": url}
    server.kill()


def server_client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def test_postgresql_and_s3_hold_what_sqlite_and_a_folder_hold(
    tmp_path: Path, postgresql: str, s3: dict[str, str]
) -> None:
    server = mlflow_server(tmp_path, postgresql, "s3://data/artifacts", **s3)
    server.start()
    try:
        uri = f"http://127.0.0.1:{server.port}"
        root = make_repository(tmp_path / "two-stages")
        run([*DVC, "remote", "modify", "store", "url", "s3://data/dvc"], root)
        run([*DVC, "remote", "modify", "store", "endpointurl", s3["AWS_ENDPOINT_URL"]], root)
        done = run([*DVC, "repro"], root, MLFLOW_TRACKING_URI=uri, **s3)
        assert "not in MLflow yet" not in done.stderr
        assert set(runs(root, "stage", server_client(uri))) == {"make", "fit@small"}
        run([*DVC, "push", "-q"], root, **s3)
        assert "Nothing changed." in run([*KARMA, "sync"], root, MLFLOW_TRACKING_URI=uri, **s3).stdout
        assert "0 differences" in run([*KARMA, "verify"], root, MLFLOW_TRACKING_URI=uri, **s3).stdout
        shutil.rmtree(root / "data")
        shutil.rmtree(root / ".dvc" / "cache")
        md5 = locked(root)["data/model"]
        program = f"from karma_plugins import lineage; print(lineage.restore('data/model', '{md5}'))"
        restored = run([sys.executable, "-c", program], root, **s3).stdout.strip().splitlines()[-1]
        assert lineage.dvc_hash(restored) == md5
    finally:
        server.kill()


def test_a_server_killed_in_mid_stage_gets_everything_once(tmp_path: Path) -> None:
    server = mlflow_server(tmp_path, f"sqlite:///{tmp_path}/server.db", str(tmp_path / "artifacts"))
    server.start()
    uri = f"http://127.0.0.1:{server.port}"
    root = make_repository(tmp_path / "two-stages")
    gate = "\n    input()\n    for step in range(1000):"
    (root / "make.py").write_text(
        (root / "make.py").read_text().replace("\n    for step in range(1000):", gate)
    )
    stage = subprocess.Popen(
        [sys.executable, "make.py"], cwd=root, env=environment(MLFLOW_TRACKING_URI=uri), text=True,
        stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    mlflow = server_client(uri)
    while not (found := mlflow.get_experiment_by_name(root.name)) or not mlflow.search_runs(
        [found.experiment_id]
    ):
        assert time.monotonic() < deadline
    server.kill()
    _, said = stage.communicate("\n")
    assert stage.returncode == 0
    assert "karma sync" in said
    server.start()
    try:
        assert "Delivered: make." in run([*KARMA, "sync"], root, MLFLOW_TRACKING_URI=uri).stdout
        child = runs(root, "stage", mlflow)["make"]
        assert child.info.status == "FINISHED"
        assert len(mlflow.get_metric_history(child.info.run_id, "loss")) == 1000
    finally:
        server.kill()


def test_four_queued_experiments_with_two_workers_each_have_their_own_parent(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "two-stages")
    run([*DVC, "repro", "-q"], root, KARMA_TRACKING="off")
    run(["git", "add", "-A"], root)
    run([*COMMIT, "ran"], root)
    for kind in ("orpo", "kto", "simpo", "ipo"):
        run([*DVC, "exp", "run", "--queue", "-n", kind, "-S", f"train.objective={kind}"], root)
    run([*DVC, "queue", "start", "-j", "2"], root, OMP_NUM_THREADS="1")
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        listed = run([*DVC, "queue", "status"], root).stdout
        if listed.count("Success") + listed.count("Failed") == 4:
            break
    assert listed.count("Success") == 4, listed
    names = [name.split(" · ")[0] for name in runs(root, "pipeline")]
    assert sorted(names) == ["ipo", "kto", "orpo", "simpo"]
    assert (
        "Nothing changed." not in run([*KARMA, "sync", "--all-experiments"], root).stdout
    )  # `make` was skipped
    assert "Nothing changed." in run([*KARMA, "sync", "--all-experiments"], root).stdout
    told = json.loads(run([*KARMA, "lineage", "raw.txt", "--json"], root).stdout)
    assert {entry["stage"] for entry in told["read_by"]} == {"make", "fit@small"}
