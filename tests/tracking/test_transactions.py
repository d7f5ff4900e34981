"""Many calls of MLflow's client as one: all of them are there afterwards, or none."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from karma_plugins.tracking.transactions import together


@pytest.fixture
def client(database: Path, tmp_path: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{shutil.copyfile(database, tmp_path / 'mlflow.db')}")


def seen_from_outside(tmp_path: Path) -> int:
    """How many runs another process would see now."""
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        return int(other.execute("select count(*) from runs").fetchone()[0])


def run(client: MlflowClient, value: str = "1") -> str:
    made = client.create_run("0", run_name="one")
    client.log_batch(made.info.run_id, metrics=[Metric("m", 0.5, 1, 0)], params=[Param("p", value)])
    client.set_terminated(made.info.run_id, "FINISHED")
    return str(made.info.run_id)


def test_all_calls_appear_at_once_and_read_what_the_others_wrote(
    client: MlflowClient, tmp_path: Path
) -> None:
    before = seen_from_outside(tmp_path)

    def work() -> str:
        run_id = run(client)
        assert client.get_run(run_id).data.metrics == {"m": 0.5}
        assert seen_from_outside(tmp_path) == before
        return run_id

    run_id = together(client, work, pytest.fail)
    assert seen_from_outside(tmp_path) == before + 1
    assert client.get_run(run_id).info.status == "FINISHED"


def failing(kind: str, client: MlflowClient) -> Iterator[None]:
    """A call that MLflow refuses in the middle of others, by what makes it refuse."""
    if kind == "a changed param":  # MLflow rolls back by itself and raises
        run_id = run(client)
        client.log_batch(run_id, params=[Param("p", "another")])
    elif kind == "no such run":
        client.log_metric("0" * 32, "m", 1.0)
    else:
        client.create_run("4711")
    yield


@pytest.mark.parametrize("kind", ["a changed param", "no such run", "no such experiment"])
def test_where_one_is_refused_none_stays_and_each_is_tried_alone(
    kind: str, client: MlflowClient, tmp_path: Path
) -> None:
    before, rounds, undone = seen_from_outside(tmp_path), [], []

    def work() -> None:
        rounds.append(seen_from_outside(tmp_path))
        run(client)
        next(failing(kind, client))

    with pytest.raises(MlflowException):
        together(client, work, lambda: undone.append(seen_from_outside(tmp_path)))
    assert rounds == [before, before]  # what the first one wrote is gone before the second
    assert undone == [before]
    assert seen_from_outside(tmp_path) > before  # and the second time calls count by themselves


def test_an_error_of_ours_takes_everything_back_and_is_not_tried_again(
    client: MlflowClient, tmp_path: Path
) -> None:
    before, rounds = seen_from_outside(tmp_path), []

    def work() -> None:
        rounds.append(run(client))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        together(client, work, pytest.fail)
    assert len(rounds) == 1
    assert seen_from_outside(tmp_path) == before
    assert run(client)  # the client works as before


def test_a_server_gets_the_calls_as_they_are() -> None:
    class Client:
        _tracking_client: Any = None

    assert together(Client(), lambda: 3, pytest.fail) == 3  # type: ignore[arg-type]
