"""Repositories of before DVC 3, imports, odd files, and what MLflow or a reader refuses."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from karma_plugins import lineage
from tests.lineage.projects import Project, datasets

pytestmark = pytest.mark.usefixtures("tracked")


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Project:
    """A repository as DVC 2 left it: no `hash` in dvc.lock and .dvc files, its own layout of the cache."""
    project = Project(tmp_path_factory.mktemp("legacy") / "legacy", database)
    windows, unix = b"a,b\r\n1,2\r\n", b"a,b\n1,2\n"
    listing = json.dumps([{"md5": md5(unix), "relpath": "part.csv"}]).encode()
    folder = f"{md5(listing)}.dir"
    project.write(
        {
            "raw.csv": windows,
            "raw.csv.dvc": f"outs:\n- md5: {md5(unix)}\n  size: {len(windows)}\n  path: raw.csv\n",
            "out/part.csv": windows,
            "dvc.yaml": """
                stages:
                  s: {cmd: mkdir -p out && cp raw.csv out/part.csv, deps: [raw.csv], outs: [out]}
            """,
            "dvc.lock": f"""
                schema: '2.0'
                stages:
                  s:
                    cmd: mkdir -p out && cp raw.csv out/part.csv
                    deps: [{{path: raw.csv, md5: {md5(unix)}, size: {len(windows)}}}]
                    outs: [{{path: out, md5: {folder}, size: {len(windows)}, nfiles: 1}}]
            """,
        }
    )
    with (project.root / ".gitignore").open("a") as ignored:
        ignored.write("/raw.csv\n/out\n")
    remote = project.root.parent / "remote"
    for digest, data in ((md5(unix), windows), (folder, listing)):
        for place in (project.root / ".dvc/cache", remote):
            (place / digest[:2]).mkdir(parents=True, exist_ok=True)
            (place / digest[:2] / digest[2:]).write_bytes(data)
    project.dvc("remote", "add", "-q", "--default", "store", str(remote))
    project.commit()
    return project


def test_a_repository_of_before_dvc_3_is_as_dvc_takes_it(
    legacy: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    assert "up to date" in legacy.dvc("status")
    assert "0 differences" in legacy.karma("verify")
    legacy.karma("sync")
    hashes = {stage.name: stage for stage in lineage.locked(legacy.root)[0].stages}["s"]
    wanted = {"raw.csv": ("input", hashes.deps[0].digest), "out": ("output", hashes.outs[0].digest)}
    assert datasets(legacy.run("s")) == wanted
    monkeypatch.chdir(legacy.root)
    for path, (_, digest) in wanted.items():
        assert mlflow.data.from_dvc(path).digest == digest
        assert mlflow.data.from_dvc(path, rev="HEAD").digest == digest
    legacy.git("clone", "-q", str(legacy.root), str(tmp_path / "clone"))
    clone = Project.at(tmp_path / "clone")
    for path, (_, digest) in wanted.items():
        restored = lineage.restore(path, digest, clone.root)
        data = restored / "part.csv" if restored.is_dir() else restored
        assert data.read_bytes() == b"a,b\r\n1,2\r\n"
    clone.dvc("pull", "-q")
    assert "0 differences" in clone.karma("verify")
    (clone.root / "raw.csv").write_text("other\n")
    assert "changed: raw.csv" in clone.karma("verify", status=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server with a file that has a version."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = b"from the web\n"
            self.send_response(200)
            self.send_header("ETag", '"a-version-of-it"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_address[1]}/file.txt"
    serving.shutdown()
    serving.server_close()


def test_imports_and_addresses_are_data_like_any_other(
    legacy: Project, database: Path, tmp_path: Path, server: str
) -> None:
    source = Project(tmp_path / "source")
    source.write({"data.txt": "theirs\n"})
    source.dvc("add", "-q", "data.txt")
    source.commit()
    project = Project(tmp_path / "importing", database)
    project.dvc("import", "-q", str(source.root), "data.txt", "-o", "imported.txt")
    project.write(
        {
            "dvc.yaml": f"""
                stages:
                  s: {{cmd: cp imported.txt out.txt, deps: [imported.txt, '{server}'], outs: [out.txt]}}
            """
        }
    )
    project.dvc("repro", "-q")
    project.commit()
    project.karma("sync")
    held = datasets(project.run("s"))
    assert held[server] == ("input", "a-version-of-it")
    assert held["imported.txt"] == ("input", md5(b"theirs\n"))
    assert lineage.restore(server, '"a-version-of-it"', project.root).read_text() == "from the web\n"
    assert "0 differences" in project.karma("verify")
    for lost in (project.root / "imported.txt", project.root / "out.txt"):
        lost.unlink()
    shutil.rmtree(project.root / ".dvc/cache")
    restored = lineage.restore("imported.txt", md5(b"theirs\n"), project.root)
    assert restored.read_text() == "theirs\n"
    with pytest.raises(lineage.LineageError, match="its version is"):
        lineage.restore(server, "another", project.root)


@pytest.fixture
def project(tmp_path: Path, database: Path) -> Project:
    made = Project(tmp_path / "odd", database)
    made.write({"raw.txt": "raw\n", "a.txt": "a\n"})
    return made


STAGES = """
    stages:
      first: {cmd: cp raw.txt one.txt, deps: [raw.txt], outs: [one.txt]}
      second: {cmd: cp one.txt two.txt, deps: [one.txt], outs: [two.txt]}
"""


def test_what_mlflow_refuses_is_set_aside_and_all_else_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    project.write({"dvc.yaml": STAGES})
    project.dvc("repro", "-q")
    project.commit()
    whole = MlflowClient.create_run

    def refuse(self: Any, *arguments: Any, **named: Any) -> Any:
        if "first" in arguments:
            raise MlflowException("no such thing as first", error_code=1000)  # INVALID_PARAMETER_VALUE
        return whole(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", refuse)
    said = project.karma("sync", status=1)
    assert "Completed from dvc.lock: second." in said
    assert "1 set aside" in said
    assert "first: " in said
    assert "no such thing as first" in said
    assert "try again when" not in said.lower()
    monkeypatch.undo()
    monkeypatch.setenv("KARMA_TRACKING", "on")
    assert "Completed from dvc.lock: first." in project.karma("sync")
    assert "Nothing changed." in project.karma("sync")


def test_a_deleted_experiment_a_wrong_one_and_a_file_store_are_final(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write({"dvc.yaml": STAGES})
    project.dvc("repro", "-q")
    project.karma("sync")
    named = project.client.get_experiment_by_name("odd")
    project.client.delete_experiment(named.experiment_id)
    said = project.karma("sync", status=1)
    assert "is deleted" in said
    assert "mlflow experiments restore" in said
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "4711")
    assert "has no such experiment" in project.karma("sync", status=1)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    for address in ("file:///nowhere/mlruns", "nonsense://x"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        said = project.karma("sync", status=1)
        assert "when it can be reached" not in said
        assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("params.yaml", "day: 2026-01-31\n", "params.yaml:day"),
        ("params.yaml", "größe: 1e-5\n'a@b': [1, {c: null}]\n", None),
        ("params.yaml", b"name: caf\xe9\n", "params.yaml"),
        ("params.yaml", "a: 1\na: 2\n", "params.yaml"),
        ("dvc.yaml", "stages: [1, 2]\n", "dvc.yaml"),
        ("dvc.yaml", b"stages:\n  s: {cmd: caf\xe9}\n", "dvc.yaml"),
    ],
)
def test_odd_files_are_read_or_one_clear_line(
    project: Project, name: str, content: str | bytes, said: str | None
) -> None:
    project.write({"dvc.yaml": STAGES, "params.yaml": "a: 1\n"})
    project.dvc("repro", "-q")
    project.write({name: content})
    project.commit()
    told = project.karma("sync", status=1 if said else 0)
    if said:
        assert said in told
        assert "Traceback" not in told
    else:
        (parent,) = project.runs("pipeline")
        assert parent.data.params == {"größe": "1e-05", "a:at:b": '[1, {"c": null}]'}


def test_odd_paths_are_told_in_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import mlflow

    project.write({"folder/.dvcignore": "x\n", "folder/a": "a\n"})
    project.commit()
    monkeypatch.chdir(project.root)
    with pytest.raises(lineage.LineageError, match="ignore"):
        mlflow.data.from_dvc("folder")
    with pytest.raises(lineage.LineageError, match="nothing"):
        mlflow.data.from_dvc("a.txt", rev="nothing")
    (project.root / ".dvcignore").unlink(missing_ok=True)
    shutil.rmtree(project.root / "folder")
    assert mlflow.data.from_dvc(".").name == "."
    bare = Project(tmp_path / "bare", scm=False)
    bare.write({"a.txt": "a\n"})
    monkeypatch.chdir(bare.root)
    with pytest.raises(lineage.LineageError, match="HEAD"):
        mlflow.data.from_dvc("a.txt", rev="HEAD")
    assert mlflow.data.from_dvc("a.txt").digest == md5(b"a\n")


def test_a_repository_without_git_is_synced(tmp_path: Path, database: Path) -> None:
    project = Project(tmp_path / "no-scm", database, scm=False)
    project.write({"raw.txt": "raw\n", "dvc.yaml": STAGES})
    project.dvc("repro", "-q")
    assert "first, second" in project.karma("sync")
    assert "Nothing changed." in project.karma("sync")
    project.write({"raw.txt": "other\n"})
    assert "first (raw.txt)" in project.karma("sync")


def test_branches_tags_commits_and_since_are_chosen(project: Project) -> None:
    project.write({"dvc.yaml": STAGES})
    project.dvc("repro", "-q")
    first = project.commit("one")
    project.git("tag", "-a", "v1", "-m", "one")
    project.write({"raw.txt": "two\n"})
    project.dvc("repro", "-q")
    project.commit("two")
    project.git("checkout", "-q", "-b", "über", first)
    project.write({"raw.txt": "three\n"})
    project.dvc("repro", "-q")
    project.commit("three")
    for choice, count in (
        (("--all-tags",), 1),
        (("-a",), 2),
        (("--all-commits",), 3),
        (("--since", "v1"), 3),
    ):
        assert len(lineage.revisions(project.root, **_options(choice))) == count
    assert "neither a revision" in project.karma("sync", "--since", "no such day", status=1)
    project.karma("sync", "--all-commits")
    runs = {run.info.run_id for run in project.runs()}
    assert len(runs) == 6
    with pytest.MonkeyPatch.context() as patch:  # what is known to be held is not read again
        patch.setattr("karma_plugins.lineage.reading.Reader.__init__", None)
        assert "held 6 stage runs before. Nothing changed." in project.karma("sync", "--all-commits")
    project.client.delete_run(next(iter(runs)))  # but where MLflow holds less than it did
    assert "Completed from dvc.lock: " in project.karma("sync", "--all-commits", "--again")
    runs = {run.info.run_id for run in project.runs()}
    assert len(runs) == 6
    project.git("branch", "-f", "later", "main")
    shutil.rmtree(project.root / ".karma")
    assert "Nothing changed." in project.karma("sync", "--all-commits")
    assert {run.info.run_id for run in project.runs()} == runs


def _options(choice: tuple[str, ...]) -> dict[str, Any]:
    return {
        "tags": "--all-tags" in choice,
        "branches": "-a" in choice,
        "commits": "--all-commits" in choice or "--since" in choice,
        "since": "v1" if "--since" in choice else None,
    }


def test_a_later_sync_completes_metrics_that_were_nowhere(project: Project, tmp_path: Path) -> None:
    project.write(
        {
            "dvc.yaml": """
                stages:
                  s:
                    cmd: echo '{"a":1}' > m.json
                    deps: [raw.txt]
                    metrics: [m.json]
            """
        }
    )
    project.dvc("remote", "add", "-q", "--default", "store", str(tmp_path / "remote"))
    project.dvc("repro", "-q")
    project.commit()
    shutil.copytree(project.root / ".dvc/cache", tmp_path / "cache")
    shutil.rmtree(project.root / ".dvc/cache")
    (project.root / "m.json").unlink()
    assert "Without metrics or plots" in project.karma("sync", "--all-commits")
    assert project.run("s").data.metrics == {}
    assert "Nothing changed." in project.karma("sync", "--all-commits")
    shutil.copytree(tmp_path / "cache", project.root / ".dvc/cache")
    assert "Without metrics" not in project.karma("sync", "--all-commits")
    assert project.run("s").data.metrics == {"a": 1.0}
    assert "Nothing changed." in project.karma("sync", "--all-commits")


def test_a_broken_commit_stands_in_no_others_way(project: Project) -> None:
    project.write({"dvc.yaml": STAGES})
    project.dvc("repro", "-q")
    project.commit("good")
    project.write({"dvc.yaml": "stages: {\n"})
    broken = project.commit("broken")
    project.write({"dvc.yaml": STAGES})
    project.commit("good again")
    said = project.karma("sync", "--all-commits", status=1)
    assert "Completed from dvc.lock: first, second." in said
    assert broken[:10] in said


def test_a_plugin_that_exits_when_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from karma_plugins.registry import manager

    class Entry:
        name, value, module, dist = "bad", "bad:plugin", "bad", None

        def load(self) -> Any:
            raise SystemExit(3)

    registry = manager.load([Entry()])  # type: ignore[list-item]
    assert "SystemExit" in registry.broken[0].message


def test_verify_in_a_mixed_repository_names_what_mlflow_was_never_told_of(project: Project) -> None:
    project.write(
        {"dvc.yaml": STAGES, "ours/dvc.yaml": STAGES.replace("first", "third"), "ours/raw.txt": "r\n"}
    )
    project.dvc("repro", "-q", "-R", ".")
    project.commit()
    assert "0 differences" in project.karma("verify")
    project.karma("sync")
    assert "0 differences" in project.karma("verify")
    run = next(run for run in project.runs() if run.info.run_name == "third")
    project.client.delete_run(run.info.run_id)
    assert "mlflow: third: no run of this state" in project.karma("verify", status=1)
