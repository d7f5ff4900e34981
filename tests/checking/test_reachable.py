"""What `karma check` says of servers, the hub and the tracking server, each asked once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from karma_plugins.checking import reachable
from karma_plugins.checking.findings import Findings
from karma_plugins.contracts import Endpoint, Weights
from karma_plugins.errors import KarmaError


@contextmanager
def answering(status: int) -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything with one status, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path} {self.headers.get('Authorization')}")
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"{}")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def said(*pool: Endpoint) -> Findings:
    findings = Findings()
    reachable.endpoints(pool, findings)
    return findings


@pytest.mark.parametrize(("status", "errors"), [(200, 0), (404, 0), (500, 0), (401, 1), (403, 1), (302, 1)])
def test_a_server_is_asked_once_with_its_key(
    status: int, errors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-1")
    with answering(status) as (url, asked):
        pool = [Endpoint(endpoint=f"{url}/v1", model=m, api_key_env="TEST_KEY") for m in "ab"]
        findings = said(*pool)
    assert asked == ["GET /v1/models Bearer sk-1"]
    assert (len(findings.errors), len(findings.warnings)) == (errors, 0)
    assert "sk-1" not in str(findings)


def test_where_nothing_listens_the_line_says_so() -> None:
    (warning,) = said(Endpoint(endpoint="http://127.0.0.1:9/v1", model="m")).warnings
    assert warning.startswith("http://127.0.0.1:9/v1: nothing answers there")


def test_a_key_that_is_not_set_is_an_error_and_nothing_is_asked() -> None:
    with answering(200) as (url, asked):
        findings = said(Endpoint(endpoint=url, model="m", api_key_env="KEY_THAT_IS_NOT_SET"))
    assert "KEY_THAT_IS_NOT_SET is not set" in findings.errors[0]
    assert not asked


@pytest.mark.parametrize(("status", "says"), [(401, "USERNAME"), (403, "USERNAME"), (500, "status 500")])
def test_a_tracking_server_that_does_not_let_us_in(
    status: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = Findings()
    with answering(status) as (url, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url.replace("http://", "http://me:hunter2@"))
        reachable.tracking(findings)
    assert says in findings.warnings[0]
    assert "hunter2" not in findings.warnings[0]


def test_a_tracking_server_that_lets_us_in_and_one_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = Findings()
    with answering(200) as (url, asked):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
        reachable.tracking(findings)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        reachable.tracking(findings)
    assert asked == ["POST /api/2.0/mlflow/experiments/search Bearer token"]
    assert not findings.warnings


@pytest.mark.parametrize("port", ["99999", "x"])
def test_an_absurd_address_of_a_tracking_server_is_a_warning(
    port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = Findings()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    reachable.tracking(findings)
    assert len(findings.warnings) == 1


def test_a_hub_model_that_is_not_here_and_can_not_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(KarmaError, match="hf download nobody/nothing --revision main"):
        reachable.hub(Weights(hub="nobody/nothing"), "models/far.yaml")
    reachable.hub(Weights(folder="here"), "models/here.yaml")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    reachable.hub(Weights(hub="nobody/nothing"), "models/far.yaml")
