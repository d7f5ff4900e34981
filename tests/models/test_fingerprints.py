"""Digests of weights: the bytes decide, and a large file is not read again while nothing about it changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from karma_plugins.models import fingerprints
from karma_plugins.models.fingerprints import fingerprint


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A large file, changed long ago as far as remembering is concerned."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    monkeypatch.setattr(fingerprints, "SETTLED", -1.0)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(os.urandom(fingerprints.LEAST + 5))
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files whose bytes were read."""
    names: list[str] = []
    read: Callable[[Path], str] = fingerprints._read
    monkeypatch.setattr(fingerprints, "_read", lambda file: names.append(file.name) or read(file))
    return names


def notes(weights: Path) -> list[Path]:
    return sorted((weights.parent / "repository" / ".karma" / "fingerprints").iterdir())


def test_a_large_file_is_read_once(weights: Path, reads: list[str]) -> None:
    first = fingerprint(weights)
    assert fingerprint(weights) == first
    assert reads.count("model.safetensors") == 1
    assert [note.suffix for note in notes(weights)] == [".json"]
    assert sorted(path.name for path in weights.iterdir()) == ["config.json", "model.safetensors"]


def test_the_same_bytes_elsewhere_have_the_same_digest(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    for file in weights.iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    assert fingerprint(tmp_path / "copy") == fingerprint(weights)
    (tmp_path / "copy" / "config.json").rename(tmp_path / "copy" / "other.json")
    assert fingerprint(tmp_path / "copy") != fingerprint(weights)


def test_new_bytes_of_the_same_size_under_the_old_time_are_seen(weights: Path) -> None:
    before, file = fingerprint(weights), weights / "model.safetensors"
    stat = file.stat()
    with file.open("r+b") as stream:
        stream.write(bytes(8))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fingerprint(weights) != before


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"state": [1], "digest": "00", "check": "0"}', "\0" * 99])
def test_a_damaged_note_is_made_again(damage: str, weights: Path, reads: list[str]) -> None:
    before = fingerprint(weights)
    (note,) = notes(weights)
    whole = note.read_text()
    note.write_text(damage)
    with pytest.warns(UserWarning, match="kept digest .* is damaged and made again"):
        assert fingerprint(weights) == before
    assert note.read_text() == whole
    note.write_text(whole.replace('"digest": "', '"digest": "0'))
    with pytest.warns(UserWarning, match="damaged"):
        assert fingerprint(weights) == before
    assert reads.count("model.safetensors") == 3


def test_where_nothing_can_be_remembered_it_is_read_again(weights: Path, reads: list[str]) -> None:
    (weights.parent / "repository").write_text("a file where a folder must be")
    assert fingerprint(weights) == fingerprint(weights)
    assert reads.count("model.safetensors") == 2


def test_what_changed_just_now_is_not_remembered(weights: Path, reads: list[str], monkeypatch) -> None:
    monkeypatch.setattr(fingerprints, "SETTLED", 1000.0)
    assert fingerprint(weights) == fingerprint(weights)
    assert reads.count("model.safetensors") == 2
