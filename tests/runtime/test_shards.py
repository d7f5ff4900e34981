"""Kept pieces: whole or made again, whatever befalls them; shared by processes; durable."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from karma_plugins.contracts import Piece
from karma_plugins.runtime import files
from karma_plugins.runtime.shards import ShardCache, key, locked

KEYS = [key("piece", i) for i in range(6)]


def piece(i: int) -> pl.DataFrame:
    return pl.DataFrame({"i": [i] * 3, "text": [f"{i} ☂", None, ""]})


def pieces(compute: Callable[[int], pl.DataFrame], keys: list[str] = KEYS) -> list[Piece]:
    return [Piece(key, compute, (i,), f"piece {i}") for i, key in enumerate(keys)]


def run(cache: ShardCache, calls: list[int] | None = None) -> list[pl.DataFrame]:
    def compute(i: int) -> pl.DataFrame:
        if calls is not None:
            calls.append(i)
        return piece(i)

    return list(cache.run(pieces(compute)))


def test_frames_come_in_order_and_are_made_once(tmp_path: Path) -> None:
    calls: list[int] = []
    cache = ShardCache(tmp_path / "shards")
    for _ in range(2):
        frames = run(cache, calls)
        assert all(frame.equals(piece(i)) for i, frame in enumerate(frames))
    assert calls == list(range(6))
    assert not list(cache.folder.glob("*.lock"))
    assert not list(cache.folder.glob("*.partial"))


def damage(path: Path, other: Path, how: str) -> None:
    content = path.read_bytes()
    changed = {
        "empty": b"", "cut": content[:-20], "garbage": os.urandom(len(content)),
        "swapped": other.read_bytes(), "one bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "head alone": content[:10], "longer": content + b"\0",
    }  # fmt: skip
    if how == "missing":
        path.unlink()
    elif how == "fewer rows":
        frame = piece(0).head(2)
        frame.write_parquet(path)
    else:
        path.write_bytes(changed[how])


@pytest.mark.parametrize(
    "how",
    ["missing", "empty", "cut", "garbage", "swapped", "one bit", "head alone", "longer", "fewer rows"],
)
def test_a_damaged_shard_is_made_again_with_one_warning(how: str, tmp_path: Path) -> None:
    cache, calls = ShardCache(tmp_path), []
    run(cache)
    damage(cache.path(KEYS[2]), cache.path(KEYS[4]), how)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        frames = run(cache, calls)
    assert all(frame.equals(piece(i)) for i, frame in enumerate(frames))
    assert calls == [2]
    assert [str(w.message).endswith("is damaged and made again.") for w in said] == [True] * (
        how != "missing"
    )
    assert run(cache, calls)
    assert calls == [2]


def test_an_error_leaves_nothing_half_written_and_the_finished_ones_kept(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path)

    def compute(i: int) -> pl.DataFrame:
        if i == 3:
            raise ValueError("no")
        return piece(i)

    with pytest.raises(ValueError, match="no"):
        list(cache.run(pieces(compute)))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{k}.shard" for k in KEYS[:3])
    calls: list[int] = []
    run(cache, calls)
    assert calls == [3, 4, 5]


def test_while_another_makes_a_shard_this_one_does_the_later_ones(tmp_path: Path) -> None:
    """Two threads with caches of their own, as two processes have: each shard is made once, order is kept."""
    first, second = ShardCache(tmp_path), ShardCache(tmp_path)
    begun, go_on, calls = threading.Event(), threading.Event(), {"a": [], "b": []}

    def slow(i: int) -> pl.DataFrame:
        calls["a"].append(i)
        begun.set()
        go_on.wait(20)
        return piece(i)

    def quick(i: int) -> pl.DataFrame:
        calls["b"].append(i)
        if len(calls["b"]) == 5:
            go_on.set()
        return piece(i)

    frames: dict[str, list[pl.DataFrame]] = {}
    thread = threading.Thread(target=lambda: frames.update(a=list(first.run(pieces(slow)))))
    thread.start()
    begun.wait(20)
    frames["b"] = list(second.run(pieces(quick)))
    thread.join(20)
    assert calls == {"a": [0], "b": [1, 2, 3, 4, 5]}
    for kept in frames.values():
        assert all(frame.equals(piece(i)) for i, frame in enumerate(kept))


KILLED = """
import os, sys
from pathlib import Path
import polars as pl
from karma_plugins.contracts import Piece
from karma_plugins.runtime.shards import ShardCache, key

def compute(i):
    if i == 2:
        print("stopped", flush=True)
        sys.stdin.read()
    return pl.DataFrame({"i": [i]})

list(ShardCache(Path(sys.argv[1])).run([Piece(key("k", i), compute, (i,)) for i in range(4)]))
"""


def test_a_killed_process_holds_nothing(tmp_path: Path, repository: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=repository,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"stopped\n"
    child.kill()
    child.communicate()
    calls: list[int] = []

    def compute(i: int) -> pl.DataFrame:
        calls.append(i)
        return pl.DataFrame({"i": [i]})

    frames = list(ShardCache(tmp_path).run(pieces(compute, [key("k", i) for i in range(4)])))
    assert calls == [2, 3]
    assert [frame["i"][0] for frame in frames] == [0, 1, 2, 3]


def test_kept_work_is_never_for_git(tmp_path: Path) -> None:
    run(ShardCache(tmp_path / ".karma" / "shards" / "generate"))
    assert (tmp_path / ".karma" / ".gitignore").read_text() == "*\n"
    with locked(tmp_path / "other" / ".karma" / "requests"):
        assert (tmp_path / "other" / ".karma" / ".gitignore").read_text() == "*\n"
    run(ShardCache(tmp_path / "elsewhere"))
    assert not list((tmp_path / "elsewhere").glob(".gitignore"))


# --- files --------------------------------------------------------------------------------------------------


def interrupted(path: Path) -> None:
    with files.replacing(path) as partial:
        partial.write_text("sec")
        raise KeyboardInterrupt


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on" / "the" / "way"
    with files.replacing(path) as partial:
        partial.write_text("first")
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt):
        interrupted(path)
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["way"]


def test_a_folder_in_its_place_is_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"), files.replacing(tmp_path / "taken") as partial:
        partial.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_very_long_name_has_room_for_its_partial(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    with files.replacing(path) as partial:
        partial.write_text("x")
    assert path.read_text() == "x"


def test_what_a_killed_process_left_half_written_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path, here = tmp_path / "t.parquet", files.process()
    machine = here.partition("-")[0]
    kept = [
        f".t.parquet.{here}.ab.partial",
        ".t.parquet.other-1.ab.partial",
        f".u.parquet.{machine}-{dead.pid}.x",
    ]
    for name in (*kept, f".t.parquet.{machine}-{dead.pid}.ab.partial"):
        (tmp_path / name).write_text("half")
    (tmp_path / f".t.parquet.{machine}-{dead.pid}.folder").mkdir()
    files.clear(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)
