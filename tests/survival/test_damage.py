"""Every kind of file under `.karma/`, damaged in every way: the outs are those of undisturbed work.

What is damaged is made again, with one warning that says what; nothing is believed unseen.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from karma_plugins import models, training
from karma_plugins.contracts import Objective, Options, Piece, TrainingJob
from karma_plugins.lineage import ANY, Revision
from karma_plugins.models import Endpoint, fingerprints
from karma_plugins.params import TrainSection
from karma_plugins.registry import Bound, Origin, syntax
from karma_plugins.requesting import ChatRequest, complete
from karma_plugins.requesting.spending import Limits, ledger
from karma_plugins.runtime.shards import ShardCache, key
from karma_plugins.tracking import record as records
from karma_plugins.tracking.memory import Held, Memory
from karma_plugins.training import checkpoints
from tests.chat_server import ChatServer, serving
from tests.survival.damages import DAMAGES, Table, table
from tests.tiny import write_model
from tests.training.preferences import pairs

__all__ = ["table"]
OF_FILES = pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "a folder"])
EVERY = pytest.mark.parametrize("damage", DAMAGES)


def heard(work: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What some work gives, and what it warns of."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = work()
    return result, [str(w.message) for w in said if "karma" in str(w.message)]


def survives(
    work: Callable[[], Any], undisturbed: Any, kind: str, damage: str, table: Table, *, silent: bool = False
) -> None:
    """The work gives what it gave undisturbed, with at most one warning, and none once it is mended."""
    given, said = heard(work)
    assert given == undisturbed
    assert len(said) <= 1, said
    if damage == "missing" or silent:
        assert len(said) in (0, 1)
    else:
        assert "damaged" in said[0]
    table.note(kind, damage, "again, told" if said else "right")
    again, said = heard(work)
    assert again == undisturbed
    assert not said


# --- shards -------------------------------------------------------------------------------------------------


@EVERY
def test_shards(damage: str, tmp_path: Path, table: Table) -> None:
    pieces = [
        Piece(key("shard", i), lambda i: pl.DataFrame({"i": [i, i, -i]}), (i,), f"piece {i}")
        for i in range(4)
    ]
    cache = ShardCache(tmp_path / ".karma" / "shards" / "generate")

    def work() -> list[list[int]]:
        return [frame["i"].to_list() for frame in cache.run(pieces)]

    undisturbed = work()
    DAMAGES[damage](cache.path(pieces[1].key), cache.path(pieces[2].key))
    survives(work, undisturbed, "shards/…/*.shard", damage, table)


# --- replies of servers -------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_replies(damage: str, suffix: str, tmp_path: Path, monkeypatch, table: Table) -> None:
    """Also the journal that a killed process leaves beside the file."""
    ledger.cache_clear()
    limits = Limits(backoff=0.001, retries=1, concurrency=4)
    with serving(ChatServer()) as server:

        def ask(repository: str, model: str) -> list[str | None]:
            monkeypatch.setenv("DVC_ROOT", str(tmp_path / repository))
            requests = [ChatRequest([{"role": "user", "content": f"question {i}"}]) for i in range(12)]
            return [r.text for r in complete(Endpoint(endpoint=server.url, model=model), requests, limits)]

        def work() -> list[str | None]:
            return ask("one", "echo")

        undisturbed = work()
        server.speak = lambda said: f"another says {said}"
        ask("two", "other")
        server.speak = lambda said: f"echo {said}"
        one, two = (
            next((tmp_path / name / ".karma" / "requests").rglob("replies.sqlite")) for name in ("one", "two")
        )
        if suffix:
            for place in (one, two):
                _left_by_a_kill(place)
        DAMAGES[damage](one.with_name(one.name + suffix), two.with_name(two.name + suffix))
        harmless = damage in ("fewer rows", "swapped") or bool(suffix)
        survives(work, undisturbed, f"requests/…/replies.sqlite{suffix}", damage, table, silent=harmless)


def _left_by_a_kill(database: Path) -> None:
    """The file with its journal, as a process leaves them that is killed."""
    child = os.fork()
    if child == 0:
        import sqlite3

        opened = sqlite3.connect(database, isolation_level=None)
        opened.execute("PRAGMA journal_mode = WAL")
        rows = opened.execute("SELECT * FROM kept").fetchall()
        opened.execute("DELETE FROM kept")
        opened.executemany("INSERT INTO kept VALUES (?, ?, ?)", rows)
        os._exit(0)
    os.waitpid(child, 0)
    assert database.with_name(f"{database.name}-wal").stat().st_size


# --- training -----------------------------------------------------------------------------------------------


class Chain:
    """An objective whose state is a chain of digests: whatever is lost or altered shows in the model."""

    def __init__(self, stop: tuple[int, int] | None = None) -> None:
        self.stop = stop

    def train(self, job: TrainingJob, options: Options) -> None:
        start = Path(job.start.folder or "") / "state"
        state, step = start.read_text() if start.is_file() else "", 0
        if last := checkpoints.latest(job.checkpoints):
            state, step = (last / "state").read_text(), checkpoints.step(last)
        while step < job.steps:
            step += 1
            state = hashlib.blake2b(f"{state} {job.phase} {step} {job.settings.seed}".encode()).hexdigest()
            job.report({"loss": int(state[:6], 16) / 2**24}, step)
            if step % 2 == 0 and step < job.steps:
                place = checkpoints.folder(job.checkpoints, step)
                (place / "deep").mkdir(parents=True)
                (place / "state").write_text(state)
                (place / "deep" / "optimizer").write_text(f"moments of {state}")
                checkpoints.complete(place)
            if (job.phase, step) == self.stop:
                raise KeyboardInterrupt
        job.output.mkdir()
        (job.output / "state").write_text(state)
        (job.output / "config.json").write_text(json.dumps({"phase": job.phase, "of": state}))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("damage") / "base")


def chained(base: Path, folder: Path, seed: int = 0, stop: tuple[int, int] | None = None) -> Any:
    """A training of two phases: its model's bytes, metrics and curve, and what was reported."""
    told: list[tuple[int, dict[str, float]]] = []
    done = training.train(
        pairs(16, phases=2),
        models.load("base", base),
        Bound("chain", Objective(name="chain", train=Chain(stop).train), Options(), Origin("tests", "0")),
        TrainSection(base="base", batch_size=2, epochs=1.5, checkpoint_steps=2, seed=seed),
        output=folder / "model",
        checkpoints=folder / ".karma" / "train",
        report=lambda metrics, step: told.append((step, dict(metrics))),
    )
    bytes_of = {p.name: p.read_bytes() for p in (folder / "model").iterdir()}
    return bytes_of, done.metrics, done.curve.rows(), sorted(told, key=lambda row: row[0])


@pytest.fixture(scope="module")
def interrupted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Path]:
    """What an undisturbed training gives, and the kept work of two that were stopped in their last phase."""
    folder = tmp_path_factory.mktemp("chained")
    undisturbed = chained(base, folder / "calm")
    for name, seed in (("one", 0), ("two", 1)):
        with pytest.raises(KeyboardInterrupt):
            chained(base, folder / name, seed, stop=(1, 4))
    return undisturbed, folder / "one", folder / "two"


KEPT_OF_TRAINING = [
    "phase-0/model/state", "phase-0/model/config.json", "phase-0/model.digest", "phase-0/history",
    "phase-1/history", "phase-1/trainer/checkpoint-4/state", "phase-1/trainer/checkpoint-4/deep/optimizer",
    "phase-1/trainer/checkpoint-4/complete",
]  # fmt: skip


def test_the_table_names_every_file_that_training_keeps(interrupted: tuple[Any, Path, Path]) -> None:
    (folder,) = (interrupted[1] / ".karma" / "train").iterdir()
    kept = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert kept - {".lock"} == set(KEPT_OF_TRAINING)


@EVERY
@pytest.mark.parametrize("file", KEPT_OF_TRAINING)
def test_training(
    damage: str, file: str, base: Path, interrupted: tuple[Any, Path, Path], tmp_path: Path, table: Table
) -> None:
    undisturbed, one, two = interrupted
    folder = shutil.copytree(one, tmp_path / "w")
    (mine,), (other,) = ((place / ".karma" / "train").iterdir() for place in (folder, two))
    DAMAGES[damage](mine / file, other / file)
    without_seal = file.endswith("complete") and damage in ("missing", "a folder")  # a kill leaves the same
    survives(
        lambda: chained(base, folder), undisturbed, f"train/…/{file}".replace("-4", "-N"), damage, table,
        silent=without_seal,
    )  # fmt: skip


@pytest.mark.parametrize("what", ["phase-0", "phase-0/model", "phase-1", "phase-1/trainer"])
def test_folders_of_training_that_are_gone_or_anothers(
    what: str, base: Path, interrupted: tuple[Any, Path, Path], tmp_path: Path
) -> None:
    undisturbed, one, two = interrupted
    for swapped in (False, True):
        folder = shutil.copytree(one, tmp_path / f"w{swapped}")
        (mine,), (other,) = ((place / ".karma" / "train").iterdir() for place in (folder, two))
        shutil.rmtree(mine / what)
        if swapped:
            shutil.copytree(other / what, mine / what)
        given, said = heard(lambda folder=folder: chained(base, folder))
        assert given == undisturbed
        assert bool(said) == swapped


def test_whole_kept_work_of_training_is_used(
    base: Path, interrupted: tuple[Any, Path, Path], tmp_path
) -> None:
    undisturbed, one, _ = interrupted
    folder = shutil.copytree(one, tmp_path / "w")
    given, said = heard(lambda: chained(base, folder, stop=(1, 4)))  # it begins after that step
    assert given == undisturbed
    assert not said


# --- notes: digests of weights, facts of code ---------------------------------------------------------------


@EVERY
def test_fingerprints(damage: str, tmp_path: Path, monkeypatch, table: Table) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(fingerprints, "SETTLED", -1.0)
    weights, other = tmp_path / "weights", tmp_path / "other"
    undisturbed = {}
    for place, byte in ((weights, b"1"), (other, b"2")):
        place.write_bytes(byte * (fingerprints.LEAST + 1))
        undisturbed[place] = fingerprints.fingerprint(place)
    notes = {json.loads(n.read_text())["state"][3]: n for n in (tmp_path / ".karma/fingerprints").iterdir()}
    DAMAGES[damage](notes[weights.stat().st_ino], notes[other.stat().st_ino])
    survives(
        lambda: fingerprints.fingerprint(weights), undisturbed[weights], "fingerprints/*.json", damage, table,
        silent=damage in ("swapped", "a folder"),
    )  # fmt: skip


@EVERY
def test_facts_of_code(damage: str, tmp_path: Path, monkeypatch, table: Table) -> None:
    """Facts of another file under this one's name would make a digest of the wrong modules."""
    sources = {name: tmp_path / f"{name}.py" for name in ("one", "two")}
    for name, source in sources.items():
        source.write_text(f"import {name}_needs\n\nX = '{name}.md'\n")

    def keep(repository: str, name: str) -> syntax.Facts:
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / repository))
        (tmp_path / repository / ".karma").mkdir(parents=True, exist_ok=True)
        for cache in (syntax._facts, syntax._kept):
            cache.cache_clear()
        syntax._NEW.clear()
        read = syntax.facts(sources[name])
        syntax._keep()
        return read

    undisturbed, _ = keep("mine", "one"), keep("theirs", "two")
    mine, theirs = (
        next((tmp_path / name / ".karma" / "code").iterdir()) for name in ("mine", "theirs")
    )  # fmt: skip
    if damage == "swapped":  # within the file: the facts of the other source under this one's digest
        text = json.loads(mine.read_text().partition("\n")[2])
        (name,) = text
        text[name] = json.loads(theirs.read_text().partition("\n")[2]).popitem()[1]
        theirs.write_text(mine.read_text().partition("\n")[0] + "\n" + json.dumps(text))
    DAMAGES[damage](mine, theirs)
    harmless = damage == "a folder"
    survives(lambda: keep("mine", "one"), undisturbed, "code/syntax-N.json", damage, table, silent=harmless)


# --- records that wait for MLflow, and what a sync remembers ------------------------------------------------


def waiting_record(root: Path, uid: str) -> Path:
    """A finished run's folder in the spool."""
    folder = records.spool(root) / uid
    (folder / "artifacts").mkdir(parents=True)
    (folder / "artifacts" / "card.md").write_text(f"# Card of {uid}\n\nof some length\n")
    (folder / "points.jsonl").write_text(
        "".join(json.dumps([f"loss.{uid}", 0.5, i, 9]) + "\n" for i in range(4))
    )
    record = records.Record(uid, "fit", "fit", started=1, state="s", params={"of": uid}, status="FINISHED")
    record.write(folder)
    return folder


@OF_FILES
@pytest.mark.parametrize("file", ["record.json", "points.jsonl", "artifacts/card.md"])
def test_records_that_wait(damage: str, file: str, tmp_path: Path, table: Table) -> None:
    """No number of a damaged record reaches MLflow, and it holds up no other."""
    mine, other = waiting_record(tmp_path, "mine"), waiting_record(tmp_path, "other")
    assert records.read(mine).params == {"of": "mine"}
    DAMAGES[damage](mine / file, other / file)
    expected = FileNotFoundError if (file, damage) == ("record.json", "missing") else records.UnreadableError
    with pytest.raises(expected):
        records.read(mine)
    assert list(records.waiting(tmp_path)) == [other]
    table.note(f"spool/…/{file}", damage, "refused" if expected is records.UnreadableError else "right")


@OF_FILES
def test_commits_that_a_sync_remembers(damage: str, tmp_path: Path, table: Table) -> None:
    """What is remembered of a commit is believed whole or not at all: then MLflow is asked."""
    kept = {}
    for name, created in (("mine", 1), ("other", 2)):
        memory = Memory(tmp_path / name, "1", created, ANY)
        for runs, sha in enumerate(("a" * 40, "b" * 40), 1):
            memory.keep(sha, Held(runs=runs * created, stale={"fit": "params"}))
        (kept[name],) = (tmp_path / name / ".karma" / "synced").iterdir()
    chosen = [Revision(sha="a" * 40), Revision(sha="b" * 40)]
    undisturbed = Memory(tmp_path / "mine", "1", 1, ANY).whole(chosen)
    assert len(undisturbed) == 2
    DAMAGES[damage](kept["mine"], kept["other"])
    left = Memory(tmp_path / "mine", "1", 1, ANY).whole(chosen)
    assert left.items() < undisturbed.items()
    table.note("synced/*.jsonl", damage, "asked")
