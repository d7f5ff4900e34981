"""`karma sync`, `karma lineage` and `karma verify`, on the small repository of two stages."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from karma_plugins import lineage
from karma_plugins.cli import main
from karma_plugins.staging import OURS
from karma_plugins.tracking import record as records
from tests.lineage.two_stages import DVC, client, locked, make_repository, run, runs

pytestmark = pytest.mark.usefixtures("tracked")


def karma(*arguments: str, status: int = 0) -> str:
    """What `karma` prints in the working directory."""
    asked = CliRunner().invoke(main, arguments)
    if asked.exception and not isinstance(asked.exception, SystemExit):
        raise asked.exception
    assert asked.exit_code == status, asked.output
    return asked.output


def everything(root: Path) -> str:
    """All that MLflow holds of the repository's experiment, in one text."""
    from karma_plugins.tracking.store import default_name

    mlflow = client(root)
    experiment = mlflow.get_experiment_by_name(default_name(root)).experiment_id
    held = [entry.to_dictionary() for entry in mlflow.search_runs([experiment])]
    return json.dumps(
        [held, [m.to_dictionary() for m in mlflow.search_logged_models([experiment])]], default=str
    )


def test_a_pulled_clone_gets_its_whole_lineage_and_a_second_sync_changes_nothing(
    cloned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run([*DVC, "pull", "-q"], cloned)
    monkeypatch.chdir(cloned)
    assert "Completed from dvc.lock: fit@small, make." in karma("sync")
    before = everything(cloned)
    assert "Nothing changed." in karma("sync")
    assert everything(cloned) == before

    child = runs(cloned, "stage")["fit@small"]
    assert child.data.metrics == {"fit.loss": 0.25}
    assert child.data.params == {"train.objective": "dpo"}
    told = json.loads(karma("lineage", "data/model", "--json"))
    (fit,) = told["from"]["made_by"]
    table = next(data for data in fit["inputs"] if data["path"] == "data/t.parquet")
    (make,) = table["made_by"]
    assert [fit["stage"], make["stage"]] == ["fit@small", "make"]
    assert {"path": "raw.txt", "digest": locked(cloned)["raw.txt"], "seen": False, "made_by": []} in make[
        "inputs"
    ]
    assert told["models"][0]["digest"] == locked(cloned)["data/model"]
    assert fit["tags"]["mlflow.source.git.commit"] == lineage.commit(cloned).sha


def test_a_pipeline_that_is_not_ours_is_completed_once(
    plain: Path, reproduced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(plain, tmp_path / "plain", symlinks=True))
    shutil.copytree(root, root / "inner", ignore=shutil.ignore_patterns(".*"))  # the same pipeline once more
    shutil.copyfile(reproduced / "mlflow.db", root / "mlflow.db")
    monkeypatch.chdir(root)
    assert karma("sync").startswith("Completed from dvc.lock: gather, part@one, part@two, gather, part@one")
    assert "held 6 stage runs before. Nothing changed." in karma("sync")
    experiment = client(root).get_experiment_by_name("plain").experiment_id
    gather = client(root).search_runs([experiment], "attributes.run_name = 'gather'")[-1]
    assert gather.data.metrics == {"loss": 1e-5, "fit.n": 2.0}
    data = {
        tag.value: entry.dataset.name
        for entry in gather.inputs.dataset_inputs
        for tag in entry.tags
        if tag.key == "dvc.path"
    }
    prefix = "inner/" if "inner/raw.txt" in data else ""
    assert data[f"{prefix}raw.txt"] != data[f"{prefix}data/raw.txt"]  # of the same bytes
    assert "part@two  run" in karma("lineage", "data/parts")
    assert "0 differences" in karma("verify")


def test_a_model_trained_on_nothing_that_its_stage_reads_is_one_clear_line(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = copied / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("trained_on: data/t.parquet", "trained_on: data/u"))
    monkeypatch.chdir(copied)
    said = karma("sync", status=1)
    assert "stage fit@small, data/model: meta.trained_on is 'data/u'" in said
    assert "data/t.parquet" in said


def test_a_restored_stage_names_the_run_that_made_it(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = copied / "params.yaml"
    params.write_text(params.read_text().replace("1e-5", "3e-5"))  # no stage depends on it
    monkeypatch.chdir(copied)
    made = runs(copied, "stage")["fit@small"]
    assert "Completed from dvc.lock: fit@small, make." in karma("sync")
    (restored,) = client(copied).search_runs(
        [made.info.experiment_id], f"tags.`karma.made_by` = '{made.info.run_id}'"
    )
    assert restored.data.params.items() >= made.data.params.items()
    assert restored.data.metrics == made.data.metrics
    assert restored.data.tags["version.dvc"] == made.data.tags["version.dvc"]
    assert len(runs(copied, "pipeline")) == 2


def test_comments_and_the_tracking_section_make_no_new_state(copied: Path) -> None:
    before = lineage.pipeline(copied, OURS).state
    params = copied / "params.yaml"
    params.write_text(f"# a comment\n{params.read_text()}\ntracking: {{system_metrics: true}}\n")
    assert lineage.pipeline(copied, OURS).state == before
    params.write_text(params.read_text().replace("1e-5", "3e-5"))
    assert lineage.pipeline(copied, OURS).state != before


def test_the_state_of_a_commit_is_that_of_its_workspace(reproduced: Path) -> None:
    (at_commit,) = lineage.locked(reproduced, lineage.revisions(reproduced, ("HEAD",))[0])
    (here,) = lineage.locked(reproduced)
    assert at_commit.pipeline == here.pipeline == lineage.pipeline(reproduced)
    assert at_commit.stages == here.stages


def test_a_stage_that_ran_for_other_params_is_left_out(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = copied / "params.yaml"
    params.write_text(params.read_text().replace("dpo", "orpo"))
    monkeypatch.chdir(copied)
    assert "Left out" in (said := karma("sync"))
    assert "Completed from dvc.lock: make." in said
    assert "Nothing changed." in karma("sync", "--rev", "HEAD")


def test_an_unknown_revision_is_one_clear_line(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied)
    assert "git knows no such revision" in karma("sync", "--rev", "nothing", status=1)


def test_a_stage_killed_with_its_courier_is_ended_and_one_at_work_left_alone(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from karma_plugins.tracking.store import Store

    for uid in ("dead", "alive"):
        (records.spool(copied) / uid).mkdir(parents=True)
        records.Record(uid, uid, uid, started=1, state="s", pipeline="p").write(records.spool(copied) / uid)
    Store(copied).begin(records.read(records.spool(copied) / "dead"))
    monkeypatch.chdir(copied)
    with records.living(records.spool(copied) / "alive"):
        assert "Ended, for they were killed: dead." in karma("sync")
    assert runs(copied, "stage")["dead"].info.status == "KILLED"
    assert [folder.name for folder in records.spool(copied).iterdir()] == ["alive"]


def test_a_record_that_mlflow_refuses_for_good_is_named_and_stands_in_no_others_way(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied)
    for _ in range(2):
        run([sys.executable, "make.py"], copied, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    poisoned, fine = sorted(folder for folder in records.waiting(copied))
    record = records.read(poisoned)
    record.datasets[0].columns = [{"name": "x" * 1_100_000, "type": "string", "required": True}]
    record.write(poisoned)
    said = karma("sync", status=1)
    assert "Delivered: make." in said
    assert f"{poisoned.relative_to(copied)} (make: " in said
    assert poisoned.is_dir()
    assert not fine.exists()


@pytest.mark.parametrize("file", ["record.json", "points.jsonl"])
def test_a_damaged_record_is_named_and_its_run_completed_from_the_lock(
    copied: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.chdir(copied)
    (copied / "mlflow.db").unlink()
    for _ in range(2):
        run([sys.executable, "make.py"], copied, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    damaged, fine = sorted(records.waiting(copied))
    content = (damaged / file).read_bytes()
    (damaged / file).write_bytes(content[: len(content) // 2])
    said = karma("sync", status=1)
    assert "Delivered: make." in said
    assert f"{damaged.relative_to(copied)}" in said
    assert not fine.exists()
    shutil.rmtree(damaged)
    karma("sync")
    assert set(runs(copied, "stage")) == {"make", "fit@small"}
    assert runs(copied, "stage")["make"].data.metrics["rows"] == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 40, b'{"experiment": "9"}', None])
def test_what_the_last_sync_left_is_believed_whole_or_not_at_all(
    copied: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.chdir(copied)
    karma("sync")
    before, left = everything(copied), copied / ".karma" / "synced" / "last.json"
    whole = left.read_bytes()
    left.write_bytes(whole.replace(b'"held": ', b'"held": 1') if content is None else content)
    assert "Nothing changed." in karma("sync")
    assert everything(copied) == before
    assert left.read_bytes() == whole


def test_two_pipeline_runs_of_one_state_become_one(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kept,) = runs(copied, "pipeline").values()
    tags = {key: kept.data.tags[key] for key in ("karma.role", "karma.pipeline", "karma.state")}
    other = client(copied).create_run(kept.info.experiment_id, tags=tags).info.run_id
    client(copied).log_metric(other, "theirs", 1.0)
    child = runs(copied, "stage")["make"].info.run_id
    client(copied).set_tag(child, "mlflow.parentRunId", other)
    monkeypatch.chdir(copied)
    assert "United pipeline runs that two machines had begun at once: 1." in karma("sync")
    assert client(copied).get_run(child).data.tags["mlflow.parentRunId"] == kept.info.run_id
    (left,) = runs(copied, "pipeline").values()
    assert left.data.metrics["theirs"] == 1.0


@pytest.mark.parametrize(
    "word", ["aligned-small/1", "models:/aligned-small/1", "aligned-small", "model id", "digest"]
)
def test_a_model_is_found_by_any_of_its_names(
    copied: Path, monkeypatch: pytest.MonkeyPatch, word: str, tmp_path: Path
) -> None:
    monkeypatch.chdir(copied)
    (model,) = client(copied).search_logged_models([runs(copied, "stage")["make"].info.experiment_id])
    named = {"model id": model.model_id, "digest": locked(copied)["data/model"][:8]}
    said = karma("lineage", named.get(word, word), "--picture", str(tmp_path / "l.png"))
    assert f"data/model  {locked(copied)['data/model']}\n└─ fit@small" in said
    assert "raw.txt  " in said
    assert f"dvc {environment_version('dvc')}" in said
    assert "dvc get . data/model --rev" in said
    assert (tmp_path / "l.png").stat().st_size > 1000


def environment_version(library: str) -> str:
    from importlib import metadata

    return metadata.version(library)


def test_what_was_made_from_a_source_and_by_a_run(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied)
    run_id = runs(copied, "stage")["make"].info.run_id
    for word in ("raw.txt", locked(copied)["raw.txt"], run_id):
        said = karma("lineage", word)
        assert "fit@small (" in said
        assert "Trained from it: model" in said
        assert "aligned-small/1" in said
    assert "no model, run, digest or path" in karma("lineage", "nothing", status=1)
    assert "a picture is one of .png, .svg, .pdf" in karma(
        "lineage", "raw.txt", "--picture", "picture.txt", status=1
    )


def test_lineage_without_a_database_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_repository(tmp_path / "fresh"))
    assert "Run `karma sync`" in karma("lineage", "data/model", status=1)


def test_verify_names_a_changed_byte_a_missing_and_an_added_file(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied)
    assert "0 differences" in karma("verify")
    weights = copied / "data/model/weights"
    times = weights.stat()
    weights.unlink()
    weights.write_text("wEights")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    (copied / "data/model/deep/config").unlink()
    (copied / "data/model/new").write_text("new")
    (copied / "data/t.parquet").unlink()
    said = karma("verify", status=1)
    for line in ("changed: data/model/weights", "missing: data/model/deep/config", "added: data/model/new"):
        assert line in said
    assert "missing: data/t.parquet" in said
    assert "4 differences" in said


def test_verify_names_runs_that_say_otherwise(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied)
    lock = copied / "dvc.lock"
    lock.write_text(lock.read_text().replace(locked(copied)["data/t.parquet"], "f" * 32))
    client(copied).delete_run(runs(copied, "stage")["make"].info.run_id)
    said = karma("verify", status=1)
    assert "mlflow: make: no run of this state" in said
    assert f"dvc.lock says {'f' * 32}" in said
    assert "changed: data/t.parquet" in said


def test_verify_names_swapped_code(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied)
    (copied / "dvc.yaml").write_text(
        "stages:\n  prompts: {cmd: cp raw.txt data/p.txt, deps: [raw.txt], outs: [data/p.txt],\n"
        "    params: [karma.lock.json: [prompts]]}\n"
        "  judge: {cmd: cp raw.txt data/j.txt, deps: [raw.txt], outs: [data/j.txt],\n"
        "    params: [judge, karma.lock.json: [judge]]}\n"
    )
    (copied / "params.yaml").write_text("prompts: {path: raw.txt}\njudge: {judges: {reference: {}}}\n")
    karma("lock")
    run([*DVC, "repro", "-q"], copied)
    karma("sync")
    judge = runs(copied, "stage")["judge"].data.params
    assert [key for key in judge if key.startswith("plugin.")] == [
        "plugin.reference"
    ]  # of all that are locked
    assert "0 differences" in karma("verify")
    lock = json.loads((copied / "karma.lock.json").read_text())
    lock["prompts"]["core"]["version"] = "0.0.0"
    (copied / "karma.lock.json").write_text(json.dumps(lock))
    said = karma("verify", status=1)
    assert "code: prompts, core: karma-plugins 0.1.0" in said
    assert "karma.lock.json holds karma-plugins 0.0.0" in said


def test_code_of_a_stage_that_depends_on_a_note(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied)
    karma("lock")
    lock = json.loads((copied / "karma.lock.json").read_text())
    note = {f"judge.{name}": lock["judge"][name] for name in ("reference", "recorded")}
    (copied / "note.json").write_text(json.dumps(note))
    (copied / "params.yaml").write_text("evaluate: {judges: {reference: {}, recorded: {}}}\n")
    (copied / "dvc.yaml").write_text(
        "stages:\n  code: {cmd: mkdir -p data/code && cp note.json data/code/evaluate.json,\n"
        "    deps: [note.json], outs: [data/code/evaluate.json]}\n"
        "  evaluate: {cmd: cp raw.txt data/e.txt, deps: [data/code/evaluate.json], outs: [data/e.txt],\n"
        "    params: [evaluate, karma.lock.json: [evaluate.core]]}\n"
    )
    run([*DVC, "repro", "-q"], copied)
    karma("sync")
    told = runs(copied, "stage")["evaluate"].data.params
    assert sorted(key for key in told if key.startswith("plugin.")) == ["plugin.recorded", "plugin.reference"]
    assert "0 differences" in karma("verify")
    lock["judge"]["reference"]["digest"] = "0" * 24
    (copied / "karma.lock.json").write_text(json.dumps(lock))
    assert "code: evaluate, judge.reference: karma-plugins 0.1.0" in karma("verify", status=1)
