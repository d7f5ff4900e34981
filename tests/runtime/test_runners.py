"""One contract for all runners: order, kept pieces, errors, killed workers, one write for each key."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from karma_plugins.contracts import Piece, Runner
from karma_plugins.errors import ParamsError, RunnerError
from karma_plugins.registry import absent, manager
from karma_plugins.runtime import shards
from karma_plugins.runtime.pieces import Witness
from karma_plugins.runtime.runners import local, ray
from karma_plugins.runtime.shards import ShardCache
from karma_plugins.testing import RunnerContract
from tests.runtime import runner_pieces as work

DEMO = Path(__file__).parents[1] / "plugins" / "karma-demo" / "src"
RUNNERS = {
    "local": ("local", {}),
    "local, two processes": ("local", {"processes": 2}),
    "ray": ("ray", {"num_cpus": 0.5, "retries": 1}),
    "demo": ("demo", {}),
}


def plugin(name: str) -> Runner:
    """A runner: built in, or of the demo distribution as it lies beside the tests."""
    if name == "demo":
        sys.path.insert(0, str(DEMO))
        try:
            from karma_demo.running import karma_register_runners
        finally:
            sys.path.remove(str(DEMO))
        (found,) = karma_register_runners()
        return found
    found, _ = manager.load([]).known("runners", name, where="a test")
    assert isinstance(found, Runner)
    if (package := absent(found)) is not None:
        pytest.skip(f"{package} is not installed")
    return found


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest) -> Callable[..., Any]:
    name, options = RUNNERS[request.param]
    found = plugin(name)
    return partial(found.run, options=found.options(**options))


@pytest.fixture(params=[name for name in RUNNERS if name != "local"])
def apart(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A runner whose workers are other processes."""
    name, options = RUNNERS[request.param]
    found = plugin(name)
    return partial(found.run, options=found.options(**options))


def pieces(function: Callable[..., pl.DataFrame], *more: Any, count: int = 6) -> list[Piece]:
    return [
        Piece(shards.key("piece", i), function, (i, *more), f"piece {i} of {count}") for i in range(count)
    ]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are written, in order."""
    names: list[str] = []
    real = shards.replacing

    def counted(path: Path) -> Any:
        names.append(path.stem)
        return real(path)

    monkeypatch.setattr(shards, "replacing", counted)
    return names


def test_order_kept_pieces_and_one_write_for_each_key(
    runner: Callable[..., Any], tmp_path: Path, writes: list[str]
) -> None:
    cache, asked = ShardCache(tmp_path, runner), pieces(work.table)
    list(ShardCache(tmp_path).run(asked[1:3]))
    writes.clear()
    for _ in range(2):
        frames = list(cache.run(asked))
        assert all(frame.equals(work.table(i)) for i, frame in enumerate(frames))
    assert sorted(writes) == sorted(piece.key for piece in (asked[0], *asked[3:]))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".shard"] * 6
    serial = ShardCache(tmp_path / "serial")
    list(serial.run(asked))
    for piece in asked:
        assert cache.path(piece.key).read_bytes() == serial.path(piece.key).read_bytes()


def test_the_same_work_twice_is_done_once(
    runner: Callable[..., Any], tmp_path: Path, writes: list[str]
) -> None:
    twice = [*pieces(work.table, count=2), *pieces(work.table, count=2)]
    frames = list(ShardCache(tmp_path, runner).run(twice))
    assert [frame["number"][0] for frame in frames] == [0, 1, 0, 1]
    assert len(writes) == 2


def test_an_error_is_itself_and_what_was_finished_stays(runner: Callable[..., Any], tmp_path: Path) -> None:
    asked = pieces(work.table)
    asked[3] = Piece(asked[3].key, work.refused, (3,), "piece 3")
    with pytest.raises(ParamsError, match=r"^params.yaml, piece 3: no$"):
        list(ShardCache(tmp_path, runner).run(asked))
    assert not list(tmp_path.glob("*.lock"))
    assert not list(tmp_path.glob("*.partial"))
    assert len(list(tmp_path.glob("*.shard"))) >= 1
    frames = list(ShardCache(tmp_path).run(pieces(work.table)))
    assert all(frame.equals(work.table(i)) for i, frame in enumerate(frames))


def test_an_error_that_can_not_travel_keeps_its_words(apart: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"piece 0 of 1 failed with Odd: 0 is not 1"):
        list(ShardCache(tmp_path, apart).run(pieces(work.odd, count=1)))


def test_killed_workers_change_no_byte(apart: Callable[..., Any], tmp_path: Path, writes: list[str]) -> None:
    folder = tmp_path / "shards"
    asked = pieces(work.table)
    asked[2] = Piece(asked[2].key, work.mortal, (2, str(tmp_path)), "piece 2")
    frames = list(ShardCache(folder, apart).run(asked))
    assert all(frame.equals(work.table(i)) for i, frame in enumerate(frames))
    assert sorted(writes) == sorted(piece.key for piece in asked)
    assert (tmp_path / "died-2").exists()


def test_a_piece_that_always_kills_its_worker_is_one_line(apart: Callable[..., Any], tmp_path: Path) -> None:
    asked = pieces(work.table, count=4)
    asked[1] = Piece(asked[1].key, work.deadly, (1,), "judge strict, prompts a to b")
    with pytest.raises(RunnerError, match=r"^judge strict, prompts a to b: its .*died 2 times[^\n]*$"):
        list(ShardCache(tmp_path, apart).run(asked))
    assert not list(tmp_path.glob("*.lock"))


def test_workers_stand_where_the_stage_stands(
    apart: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)
    (frame,) = ShardCache(tmp_path / "shards", apart).run(pieces(work.place, count=1))
    assert frame["folder"][0] == str(tmp_path)
    assert frame["process"][0] != os.getpid()


def test_a_worker_that_differs_is_refused_or_allowed(
    apart: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARMA_TEST_ASKING", str(os.getpid()))
    same, other = (Witness(work.facts, (name,)) for name in ("same", "worker"))
    assert len(list(ShardCache(tmp_path / "a", apart, same).run(pieces(work.table, count=1)))) == 1
    with pytest.raises(
        RunnerError, match=r"other libraries .*\(torch 2.13 here, 2.12 there\).*'libraries' to"
    ):
        list(ShardCache(tmp_path / "b", apart, other).run(pieces(work.table, count=1)))
    allowed = Witness(work.facts, ("worker",), ("libraries",))
    assert len(list(ShardCache(tmp_path / "c", apart, allowed).run(pieces(work.table, count=1)))) == 1


def test_what_has_no_name_is_refused_before_it_is_sent(apart: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"piece 0 of 1: can't be sent to a worker .*no lambda"):
        list(ShardCache(tmp_path, apart).run(pieces(lambda i: work.table(i), count=1)))


class TestLocal(RunnerContract):
    plugin = local.karma_register_runners()[0]
    apart = False


class TestLocalProcesses(RunnerContract):
    plugin = local.karma_register_runners()[0]
    options = {"processes": 2}  # noqa: RUF012


class TestRay(RunnerContract):
    plugin = ray.karma_register_runners()[0]
    options = {"num_cpus": 0.5, "retries": 1}  # noqa: RUF012

    def results(self, given: Any) -> Iterator[tuple[str, bytes]]:
        plugin("ray")
        return super().results(given)


class TestDemo(RunnerContract):
    @property
    def plugin(self) -> Runner:  # type: ignore[override]
        return plugin("demo")
