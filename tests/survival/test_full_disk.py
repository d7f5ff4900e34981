"""A disk that is full, at any stage and in a training: one line; with room the same command ends as ever."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from karma_plugins import console
from karma_plugins.registry import lock, manager
from tests.recorded_pipeline import inside
from tests.survival.test_damage import base, chained
from tests.sweep import material
from tests.test_stops import run

__all__ = ["base"]
STAGES = (
    "prompts", "profile ada", "profile bob", "generate ada", "generate bob", "kinship", "judge reference",
    "jury", "curriculum",
)  # fmt: skip
KILOBYTES = 6 * 1024
#: Kilobytes that are left: none at all, or room for a part of what is written.
LEFT = (0, 4, 12)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={KILOBYTES}k", "tmpfs", str(place)]
    if os.name != "posix" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("can't mount a small file system here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def full(disk: Path, kilobytes: int) -> Iterator[None]:
    """The disk with so much room left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    os.truncate(filler, max(0, filler.stat().st_size // 4096 * 4096 - kilobytes * 1024))
    try:
        yield
    finally:
        filler.unlink()


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for name in ("data", "metrics", "plots")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def test_every_stage_goes_on_once_there_is_room(disk: Path, tmp_path: Path, repository: Path) -> None:
    with inside(tmp_path, repository):
        material.write()
        lock.accept(manager.load())
        undisturbed = {}
        for stage in STAGES:
            assert run(*stage.split()).exit_code == 0
            undisturbed[stage] = hashes(tmp_path)
    folder = disk / "p"
    folder.mkdir()
    stops = 0
    with inside(folder, repository):
        material.write()
        lock.accept(manager.load())
        for stage in STAGES:
            for kilobytes in LEFT:
                before = hashes(folder)
                with full(disk, kilobytes):
                    done = run(*stage.split())
                said = [line for line in done.stderr.splitlines() if not line.startswith("Warning:")]
                if done.exit_code:
                    stops += 1
                    assert (done.exit_code, len(said)) == (1, 1), (stage, done.output)
                    assert "Make room" in said[0], said
                    assert {name: before[name] for name in before} == {
                        name: digest for name, digest in hashes(folder).items() if name in before
                    }
                assert not list(folder.rglob("*.partial")), stage
            done = run(*stage.split())
            assert done.exit_code == 0, done.output
            assert hashes(folder) == undisturbed[stage], stage
    shutil.rmtree(folder)
    assert stops >= len(STAGES)
    sys.stdout.write(f"\n{len(STAGES)} stages, {stops} stops at a full disk: one line each, same hashes\n")


@pytest.mark.parametrize("kilobytes", [0, 4, 8, 12, 16, 20, 24, 32])
def test_training_goes_on_once_there_is_room(kilobytes: int, disk: Path, tmp_path: Path, base: Path) -> None:
    """In its history, in a checkpoint, in a phase's model, or in what is exported."""
    undisturbed = chained(base, tmp_path / "calm")
    folder = disk / f"t{kilobytes}"
    folder.mkdir()
    with full(disk, kilobytes):
        said = _refused(lambda: chained(base, folder))
    assert "Make room" in said
    assert not list(folder.rglob("*.partial"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chained(base, folder) == undisturbed
    assert not list(folder.rglob("*partial*"))
    shutil.rmtree(folder)


@pytest.mark.skipif("KARMA_SLOW_TESTS" not in os.environ, reason="slow: set KARMA_SLOW_TESTS=1")
@pytest.mark.parametrize("objective", ["dpo", "rloo"])
def test_a_real_training_goes_on_from_its_last_checkpoint(
    objective: str, disk: Path, tmp_path: Path, base: Path
) -> None:
    """Full in the middle of a checkpoint that torch writes."""
    from tests.survival.test_kills import real

    undisturbed = real(base, tmp_path / "calm", objective)
    folder, stops = disk / "r", 0
    for kilobytes in (0, 200, 600, 1000):
        with full(disk, kilobytes), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = _refused(lambda: real(base, folder, objective))
        stops += bool(said)
        assert not said or "Make room" in said
        assert not list(folder.rglob("*.partial"))
    assert real(base, folder, objective) == undisturbed
    shutil.rmtree(folder)
    sys.stdout.write(f"\n{objective}: {stops} stops at a full disk, the same bytes\n")


def _refused(work: Callable[[], object]) -> str:
    """What a user is told of how some work ended; empty where it went well."""
    try:
        work()
    except Exception as error:  # libraries wrap what the system says in errors of their own
        return console.described(error)
    return ""
