"""karma.lock.json: holds every installed plugin, is rewritten from any state, is only read by stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from karma_plugins.cli import main as karma
from karma_plugins.contracts import KINDS, Judge, Pairing
from karma_plugins.errors import LockError
from karma_plugins.registry import lock, manager, selection
from karma_plugins.registry.stages import STAGES, home_of

STAGE_FILES = ("dvc.yaml", "examples/hub/dvc.yaml", "examples/recorded/dvc.yaml")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def test_holds_every_installed_plugin_once(folder: Path) -> None:
    registry = manager.load([])
    written = lock.compute(registry)
    assert set(written) == set(STAGES)
    assert all(lock.CORE in section for section in written.values())
    for kind, name in registry.plugins:
        if home_of(kind) is None:
            continue
        assert [stage for stage in written if name in written[stage] and STAGES[stage].kind == kind] == [
            home_of(kind)
        ]


BROKEN = {
    "merge conflict": '{\n<<<<<<< HEAD\n "judge": {}\n=======\n "judge": {"a": {}}\n>>>>>>> other\n}\n',
    "list": "[]",
    "half": "{",
    "empty": "",
    "section that is a list": '{"judge": []}',
    "entries that are strings": '{"judge": {"core": "abc", "reference": "def"}}',
    "entry without digest": '{"judge": {"core": {"distribution": "karma-plugins", "version": "0.1.0"}}}',
    "number": "3",
    "null": "null",
    "no text": b"\xff\xfe\x00",
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("state", BROKEN)
def test_rewritten_whatever_is_there(folder: Path, state: str) -> None:
    content = BROKEN[state]
    lock.LOCK.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LockError) as error:
        lock.verify("judge", [])
    assert "Run `karma lock`" in str(error.value)
    assert "\n" not in str(error.value)
    done = CliRunner().invoke(karma, ["lock"])
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1), done.output
    assert "is written anew" in done.stdout
    assert lock.read() == lock.compute(manager.load())
    assert CliRunner().invoke(karma, ["lock"]).stdout == "karma.lock.json: nothing changed.\n"


def test_a_folder_in_its_place_is_one_line(folder: Path) -> None:
    (folder / "karma.lock.json").mkdir()
    for call in (lambda: lock.verify("judge", []), lambda: lock.accept(manager.load([]))):
        with pytest.raises(LockError, match="is no file. Move it away and run `karma lock`"):
            call()
    done = CliRunner().invoke(karma, ["lock"])
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert (folder / "karma.lock.json").is_dir()


def test_a_missing_file_is_written(folder: Path) -> None:
    with pytest.raises(LockError, match="no such file. Run `karma lock`"):
        lock.verify("judge", [])
    changed, readable = lock.accept(manager.load([]))
    assert readable
    assert changed == list(STAGES)


def test_a_link_stays_one(folder: Path) -> None:
    (folder / "real.json").write_text("{}")
    lock.LOCK.symlink_to("real.json")
    lock.accept(manager.load([]))
    assert lock.LOCK.is_symlink()
    assert "judge" in json.loads((folder / "real.json").read_text())


def test_verify_names_what_differs_and_writes_nothing(folder: Path) -> None:
    registry = manager.load([])
    lock.accept(registry)
    kin, reference = registry.bind(Pairing, "kin"), registry.bind(Judge, "reference")
    lock.verify("curriculum", [kin])
    lock.verify("evaluate", [reference])
    written = lock.read()
    for change, message in (
        ({"version": "0.0.9"}, "version of 'kin' is 0.1.0, locked is 0.0.9"),
        ({"distribution": "other"}, "distribution of 'kin' is karma-plugins, locked is other"),
        ({"digest": "0" * 24}, "the code of 'kin' (karma-plugins 0.1.0) is not the locked one"),
    ):
        lock.write(
            written | {"curriculum": written["curriculum"] | {"kin": written["curriculum"]["kin"] | change}}
        )
        before = lock.LOCK.read_bytes()
        with pytest.raises(LockError) as error:
            lock.verify("curriculum", [kin])
        assert message in str(error.value)
        assert lock.LOCK.read_bytes() == before
    del written["judge"]["reference"]
    lock.write(written)
    with pytest.raises(
        LockError, match=r"judge: holds no 'reference' \(karma-plugins 0.1.0\). Run `karma lock`"
    ):
        lock.verify("evaluate", [reference])


def test_notes_hold_exactly_what_params_name(folder: Path) -> None:
    registry = manager.load([])
    lock.accept(registry)
    document = {
        "kinship": {"metric": "capa", "metrics": {"weights": {}}},
        "profile": {"profiler": "recorded"},
        "evaluate": {"judges": {"mine": {"plugin": "reference"}}, "generator": "endpoint"},
    }
    Path("params.yaml").write_text(yaml.safe_dump(document))
    notes = lock.named(selection.used(registry))
    assert {stage: list(note) for stage, note in notes.items()} == {
        "kinship": ["kinship.capa", "kinship.weights"],
        "evaluate": ["generate.endpoint", "judge.reference", "profile.recorded"],
    }
    assert notes["kinship"]["kinship.capa"] == lock.read()["kinship"]["capa"]


@pytest.mark.parametrize("path", STAGE_FILES)
def test_every_dvc_yaml_says_what_the_table_says(repository: Path, path: str) -> None:
    stages = yaml.safe_load((repository / path).read_text(encoding="utf-8"))["stages"]
    for name, body in stages.items():
        if name not in STAGES:
            continue
        body, row = body.get("do", body), STAGES[name]
        assert row.script in body["deps"], name
        (keys,) = [param["karma.lock.json"] for param in body["params"] if isinstance(param, dict)]
        if name == "code":
            assert set(keys) <= {"code.core", *row.locked}
            notes = {out for out in body["outs"] if isinstance(out, str)}
            assert notes == {STAGES[n].note for n in stages if n in STAGES and STAGES[n].noted}
        else:
            assert keys == [f"{name}.core", *row.locked], name
        assert not row.noted or row.note in body["deps"], name
        where = f"data/runs/{name}{'/${key}' if 'do' in stages[name] else ''}.json"
        assert {where: {"type": "run"}} in body["outs"], name


def test_every_kind_that_a_stage_runs_has_one_home() -> None:
    homes = {kind: home_of(kind) for kind in KINDS}
    assert {kind for kind, home in homes.items() if home is None} == {"importers", "exporters", "runners"}
    assert {kind: STAGES[home].kind for kind, home in homes.items() if home} == {
        kind: kind for kind, home in homes.items() if home
    }


def karma_lock(folder: Path) -> bytes:
    environment = os.environ | {"DVC_ROOT": str(folder)}
    subprocess.run([sys.executable, "-m", "karma_plugins", "lock"], cwd=folder, env=environment, check=True)
    return (folder / "karma.lock.json").read_bytes()


def test_what_is_kept_of_files_is_checked_before_it_is_believed(folder: Path) -> None:
    fresh = karma_lock(folder)
    (kept,) = (folder / ".karma" / "code").glob("*.json")
    whole = json.loads(kept.read_text().partition("\n")[2])  # after its digest
    for damaged in (
        "[]",
        "{",
        json.dumps({key: {"imports": 3} for key in whole}),
        json.dumps(dict.fromkeys(whole)),
    ):
        kept.write_text(damaged)
        assert karma_lock(folder) == fresh
    assert karma_lock(folder) == fresh
