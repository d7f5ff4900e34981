"""Hashes as in dvc.lock, and the bytes behind them, also for a pipeline that is not ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from karma_plugins import lineage
from tests.lineage.two_stages import DVC, locked, run, runs


def same_bytes(one: Path, other: Path) -> bool:
    return lineage.dvc_hash(one) == lineage.dvc_hash(other)


def test_hashes_are_those_of_dvc_lock_files_folders_and_dvcignore(reproduced: Path) -> None:
    assert (reproduced / "data/model/left.tmp").exists()
    for path, md5 in locked(reproduced).items():
        assert lineage.dvc_hash(reproduced / path) == md5


def test_a_missing_path_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(lineage.LineageError, match="no such file or folder"):
        lineage.dvc_hash(tmp_path / "nothing")


@pytest.mark.parametrize("path", ["data/t.parquet", "data/model"])
def test_bytes_come_from_a_remote_in_a_fresh_clone(cloned: Path, path: str) -> None:
    restored = lineage.restore(path, locked(cloned)[path], cloned)
    assert lineage.dvc_hash(restored) == locked(cloned)[path]
    assert restored.name == Path(path).name


def test_bytes_of_gathered_inner_and_git_folders_come_back(plain: Path, tmp_path: Path) -> None:
    run(["git", "clone", "-q", str(plain), str(tmp_path / "clone")], tmp_path)
    clone = tmp_path / "clone"
    (clone / "src/a.txt").write_text("other")
    for path, md5 in locked(clone).items():
        restored = lineage.restore(path, md5, clone)
        assert lineage.dvc_hash(restored) == md5, path
        assert lineage.hash_at(path, "HEAD", clone) == md5
    assert (clone / "src/a.txt").read_text() == "other"


def test_a_remote_that_cannot_be_read_stands_before_no_other_and_not_before_git(
    plain: Path, tmp_path: Path
) -> None:
    run(["git", "clone", "-q", str(plain), str(tmp_path / "clone")], tmp_path)
    clone, md5 = tmp_path / "clone", locked(plain)["data/all.txt"]
    (clone / "raw.txt").unlink()
    run([*DVC, "remote", "add", "-q", "--default", "gone", "hdfs://127.0.0.1:9/data"], clone)
    with pytest.warns(UserWarning, match="DVC can't read remote gone"):
        assert lineage.dvc_hash(lineage.restore("data/all.txt", md5, clone)) == md5
    with pytest.warns(UserWarning, match="DVC can't read remote gone"):
        lineage.restore("raw.txt", locked(plain)["raw.txt"], clone)


def test_a_file_linked_into_the_cache_keeps_its_own_path(copied: Path) -> None:
    import mlflow

    table = copied / "data/t.parquet"
    table.symlink_to(table.rename(copied / ".dvc/cache/t"))  # as DVC does for `cache.type: symlink`
    source = mlflow.data.from_dvc(table).source
    assert (source.path, source.md5) == ("data/t.parquet", locked(copied)["data/t.parquet"])


def test_a_source_in_mlflow_loads_after_workspace_and_cache_are_gone(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    shutil.rmtree(copied / "data")
    shutil.rmtree(copied / ".dvc" / "cache")
    monkeypatch.chdir(copied)
    for logged in runs(copied, "stage")["fit@small"].inputs.dataset_inputs:
        assert lineage.dvc_hash(mlflow.data.get_source(logged).load()) == logged.dataset.digest


def test_a_change_in_the_workspace_is_never_overwritten(copied: Path) -> None:
    md5 = locked(copied)["data/model"]
    (copied / "data/model/weights").unlink()
    (copied / "data/model/weights").write_text("other")
    restored = lineage.restore("data/model", md5, copied)
    assert (restored / "weights").read_text() == "weights"
    assert not (restored / "left.tmp").exists()
    assert (copied / "data/model/weights").read_text() == "other"
    assert lineage.restore("data/model", md5, copied) == restored


def test_a_file_that_git_holds_comes_from_its_history(copied: Path) -> None:
    md5 = lineage.dvc_hash(copied / "raw.txt")
    (copied / "raw.txt").write_text("new\n")
    assert lineage.restore("raw.txt", md5, copied).read_text() == "raw\n"


def test_a_hash_that_nobody_knows_is_one_clear_error(reproduced: Path) -> None:
    with pytest.raises(lineage.LineageError, match="neither in the workspace"):
        lineage.restore("data/t.parquet", "0" * 32, reproduced)


def test_a_folder_that_no_cache_or_remote_lists_is_one_clear_error(copied: Path, tmp_path: Path) -> None:
    lost = locked(copied)["data/model"]
    for folder in ("data/model", ".dvc/cache"):
        shutil.rmtree(copied / folder)
    run([*DVC, "remote", "modify", "store", "url", str(tmp_path / "nothing")], copied)
    with pytest.raises(
        lineage.LineageError, match="neither in the workspace, DVC's cache, a remote, nor in git"
    ):
        lineage.restore("data/model", lost, copied)


def test_mlflow_finds_source_and_constructor(reproduced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow
    from mlflow.entities import DatasetInput

    monkeypatch.chdir(reproduced)
    for path, md5 in locked(reproduced).items():
        dataset = mlflow.data.from_dvc(path)
        assert dataset.digest == md5
        assert mlflow.data.from_dvc(path, rev="HEAD").digest == md5
        source = mlflow.data.get_source(DatasetInput(dataset._to_mlflow_entity()))
        assert same_bytes(source.load(), reproduced / path)
    with pytest.raises(lineage.LineageError, match="its hash is"):
        mlflow.data.from_dvc("raw.txt", digest="0" * 32)


def test_any_run_inside_a_stage_is_tagged(monkeypatch: pytest.MonkeyPatch, reproduced: Path) -> None:
    from mlflow.tracking.context.registry import resolve_tags

    monkeypatch.chdir(reproduced)
    assert "dvc.stage" not in resolve_tags()
    monkeypatch.setenv("DVC_STAGE", "theirs")
    monkeypatch.setenv("DVC_EXP_NAME", "plumb-jay")
    tags = resolve_tags()
    assert (tags["dvc.stage"], tags["dvc.experiment"], tags["git.dirty"]) == ("theirs", "plumb-jay", "false")
    assert len(tags["mlflow.source.git.commit"]) == 40


def test_the_documented_use_in_any_repository_works(
    copied: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    log, load = re.findall(
        r"```python\n(import mlflow\n.*?)```", (repository / "docs/lineage.md").read_text(), re.S
    )
    shutil.copyfile(copied / "data/t.parquet", copied / "data/train.parquet")
    monkeypatch.chdir(copied)
    monkeypatch.setenv("DVC_STAGE", "theirs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copied / 'mlflow.db'}")
    names: dict[str, Any] = {}
    exec(log, names)
    (copied / "data/train.parquet").unlink()
    names["RUN_ID"] = names["run"].info.run_id
    exec(load, names)
    assert lineage.dvc_hash(names["path"]) == locked(copied)["data/t.parquet"]
    tags = mlflow.get_run(names["RUN_ID"]).data.tags
    assert (tags["dvc.stage"], tags["git.dirty"]) == ("theirs", "false")


def test_the_text_tells_options_of_used_plugins_alone_and_the_number_of_many_params() -> None:
    from karma_plugins.lineage.graph import Made
    from karma_plugins.lineage.tree import Lineage, as_json, text

    params = {
        "plugin.dpo": "dpo (x 1)",
        "objectives.dpo.beta": "0.2",
        "objectives.ppo.beta": "0.3",
        "seed": "0",
    }
    params |= {f"models.m{i}.path": "p" for i in range(9)}
    made = Made(lineage.StageRun("id", "train", "state", 0, params, {}, {}, (), ()))
    tree = Lineage("id", made)
    said = text(tree, lambda datum: "")
    assert "params: objectives.dpo.beta=0.2, seed=0, models: 9 params\n" in said
    assert as_json(tree, lambda datum: "")["from"]["params"] == params


def test_an_experiment_is_a_revision_by_its_name(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    first = git("rev-parse", "HEAD")
    git("commit", "-q", "--allow-empty", "-m", "second")
    git("update-ref", f"refs/exps/{first[:2]}/{first[2:]}/plumb-jay", "HEAD")
    git("reset", "-q", "--hard", first)
    (revision,) = lineage.revisions(tmp_path, ["plumb-jay"])
    assert str(revision) == "plumb-jay"
    assert revision.sha not in (None, first)
    with pytest.raises(lineage.LineageError, match="plumb-jya: git knows no such revision"):
        lineage.revisions(tmp_path, ["plumb-jya"])
    git("update-ref", f"refs/exps/ab/{'cd' * 19}/plumb-jay", first)
    with pytest.raises(lineage.LineageError, match="2 experiments have that name. Name one by its commit"):
        lineage.revisions(tmp_path, ["plumb-jay"])
