"""What a stage tells MLflow, in a small repository of two plain stages that DVC runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from karma_plugins import lineage, tracking
from karma_plugins.staging import OURS
from karma_plugins.tracking import record as records
from tests.lineage.two_stages import DVC, PARAMS, client, environment, locked, make_repository, run, runs

CLOSED_PORT = "http://user:secret@127.0.0.1:9"


def test_a_stage_run_lies_in_the_run_of_its_pipeline(reproduced: Path) -> None:
    stages, pipelines = runs(reproduced, "stage"), runs(reproduced, "pipeline")
    (name, parent), *others = pipelines.items()
    assert not others
    assert set(stages) == {"make", "fit@small"}
    assert {child.data.tags["mlflow.parentRunId"] for child in stages.values()} == {parent.info.run_id}
    assert {entry.info.status for entry in (*stages.values(), parent)} == {"FINISHED"}
    assert name.startswith("main@")
    assert " · kin · dpo · " in name


def test_params_metrics_and_datasets_show_on_stage_and_pipeline(reproduced: Path) -> None:
    parent = next(iter(runs(reproduced, "pipeline").values()))
    child = runs(reproduced, "stage")["fit@small"]
    assert parent.data.params == {
        "curriculum.pairing": "kin",
        "train.objective": "dpo",
        "train.rate": "1e-05",
    }
    assert child.data.params == {"kind.a": "1", "train.objective": "dpo"}  # reported; of dvc.yaml
    assert child.data.metrics["fit.loss"] == 0.25
    assert parent.data.metrics == {"make.rows": 2.0, "fit.small.fit.loss": 0.25}
    for path in ("data/t.parquet", "data/model", "raw.txt"):
        assert parent.data.tags[f"data.{path}"] == locked(reproduced)[path][:8]
    assert child.data.tags["dvc.stage"] == "fit@small"
    assert child.data.tags["git.dirty"] == "false"
    assert child.data.tags["version.dvc"]


def test_digests_are_those_of_dvc_lock(reproduced: Path) -> None:
    hashes = locked(reproduced)
    logged = {}
    for entry in runs(reproduced, "stage").values():
        for data in entry.inputs.dataset_inputs:
            tags = {tag.key: tag.value for tag in data.tags}
            logged[tags["dvc.path"]] = data.dataset.digest
    assert logged == hashes
    assert logged["data/model"].endswith(".dir")


def test_progress_has_every_point(reproduced: Path) -> None:
    history = client(reproduced).get_metric_history(runs(reproduced, "stage")["make"].info.run_id, "loss")
    assert [point.step for point in sorted(history, key=lambda point: point.step)] == list(range(1000))


def test_a_table_shows_its_columns(reproduced: Path) -> None:
    import json

    inputs = runs(reproduced, "stage")["make"].inputs.dataset_inputs
    table = next(data.dataset for data in inputs if data.dataset.name == "data/t.parquet")
    columns = {column["name"]: column["type"] for column in json.loads(table.schema)["mlflow_colspec"]}
    assert columns == {"text": "string", "n": "long", "turns": "array"}
    assert json.loads(table.profile)["num_rows"] == 2


def test_a_folder_whose_tables_share_their_columns_shows_them_in_the_workspace_and_the_cache(
    copied: Path,
) -> None:
    import polars as pl

    from karma_plugins.tracking.data import describe, describe_locked

    parts = copied / "parts"
    (parts / "deep").mkdir(parents=True)
    for name, rows in {"a.parquet": 2, "deep/b.parquet": 3}.items():
        pl.DataFrame({"n": range(rows)}).write_parquet(parts / name)
    (parts / "README.md").write_text("no table")
    run([*DVC, "add", "-q", "parts"], copied)
    found = describe(parts, copied)
    assert (found.rows, found.columns) == (5, [{"name": "n", "required": True, "type": "long"}])
    shutil.rmtree(parts)
    kept = lineage.LockedData("parts", found.digest)
    assert describe_locked(kept, copied).columns == found.columns
    (copied / ".dvc/cache/files/md5" / found.digest[:2] / found.digest[2:]).unlink()
    assert describe_locked(kept, copied).columns == []

    parts.mkdir()
    pl.DataFrame({"n": [1]}).write_parquet(parts / "a.parquet")
    pl.DataFrame({"m": [1]}).write_parquet(parts / "b.parquet")
    assert describe(parts, copied).columns == []


def test_what_params_say_of_the_model_is_told_with_its_stage(
    copied: Path, monkeypatch: pytest.MonkeyPatch, tracked: None
) -> None:
    from karma_plugins import params
    from karma_plugins.staging import running

    monkeypatch.setenv("MLFLOW_TRACKING_URI", CLOSED_PORT)
    monkeypatch.chdir(copied)
    (copied / "params.yaml").write_text("models: {a: {path: raw.txt, sampling: {temperature: 0.9}}}\n")
    run([sys.executable, "-m", "karma_plugins", "lock"], copied)
    settings, entry = params.GenerateSection(), params.load_model("a")
    with running("generate", settings, item="a", entry=entry, inputs=[Path("raw.txt")], outs=[]):
        pass
    (folder,) = records.waiting(copied)
    told = records.read(folder).params
    assert told["models.a.sampling.temperature"] == "0.9"
    assert told["generate.samples"] == str(settings.samples)


def test_a_model_is_linked_to_its_run_and_its_data(reproduced: Path) -> None:
    child = runs(reproduced, "stage")["fit@small"]
    (parent,) = runs(reproduced, "pipeline").values()
    (model,) = client(reproduced).search_logged_models([child.info.experiment_id])
    assert model.source_run_id == child.info.run_id
    for of in (child, parent):
        assert [output.model_id for output in of.outputs.model_outputs] == [model.model_id]
    (metric,) = model.metrics
    assert (metric.key, metric.dataset_digest) == ("fit.loss", locked(reproduced)["data/t.parquet"])
    assert model.tags["dvc.md5"] == locked(reproduced)["data/model"]
    assert client(reproduced).get_model_version("aligned-small", "1").source == f"models:/{model.model_id}"


def test_no_value_of_the_environment_becomes_a_tag(reproduced: Path) -> None:
    for entry in (*runs(reproduced, "stage").values(), *runs(reproduced, "pipeline").values()):
        assert "sk-very-secret" not in str(entry.to_dictionary())


def test_an_unreachable_server_costs_one_line_and_delivery_can_be_repeated(
    tmp_path: Path, reproduced: Path
) -> None:
    from karma_plugins.tracking.delivery import deliver
    from karma_plugins.tracking.store import Store

    root = make_repository(tmp_path / "offline")
    done = run([sys.executable, "make.py"], root, MLFLOW_TRACKING_URI=CLOSED_PORT)
    assert len(done.stderr.splitlines()) == 1
    assert "karma sync" in done.stderr
    assert "secret" not in done.stderr
    (folder,) = records.waiting(root)
    shutil.copyfile(reproduced / "mlflow.db", root / "mlflow.db")
    copy = shutil.copytree(folder, tmp_path / "again" / folder.name)
    for waiting in (
        folder,
        copy,
    ):  # as if the courier had died before it removed the record
        deliver(Store(root), waiting)
    child = runs(root, "stage")["make"]
    assert len(client(root).get_metric_history(child.info.run_id, "loss")) == 1000
    assert {data.dataset.digest for data in child.inputs.dataset_inputs} == {
        lineage.dvc_hash(root / name) for name in ("raw.txt", "make.py", "data/t.parquet")
    }
    assert not list(records.waiting(root))


def test_two_stages_at_once_on_a_fresh_database_share_one_pipeline(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "together")
    (root / "data").mkdir()
    (root / "data/t.parquet").write_bytes(b"not read as a table by this stage")
    (root / "fit.py").write_text((root / "fit.py").read_text().replace("data/t.parquet", "raw.txt"))
    env = environment()
    both = [
        subprocess.Popen([sys.executable, script], cwd=root, env=env, stderr=subprocess.PIPE, text=True)
        for script in ("make.py", "fit.py")
    ]
    assert [process.communicate()[1] for process in both] == ["", ""]
    assert set(runs(root, "stage")) == {"make", "fit@small"}
    assert len(runs(root, "pipeline")) == 1


@pytest.mark.usefixtures("tracked")
def test_a_failed_stage_is_marked_and_its_error_passes_through(tmp_path: Path, reproduced: Path) -> None:
    root = make_repository(tmp_path / "failing")
    shutil.copyfile(reproduced / "mlflow.db", root / "mlflow.db")
    with (
        pytest.raises(ZeroDivisionError),
        tracking.stage("fail", params={}, inputs=[], outs=[], pipeline=root),
    ):
        1 / 0  # noqa: B018
    assert runs(root, "stage")["fail"].info.status == "FAILED"
    assert not list(records.spool(root).iterdir())


def test_off_tracks_nothing_and_imports_neither_mlflow_nor_dvc(tmp_path: Path) -> None:
    program = (
        "import sys; from karma_plugins import tracking\n"
        "with tracking.stage('s', params={}, inputs=[], outs=[]) as run: run.progress({'a': 1}, 1)\n"
        "assert not {'mlflow', 'dvc'} & set(sys.modules)"
    )
    run([sys.executable, "-c", program], tmp_path, KARMA_TRACKING="off")
    assert not list(tmp_path.iterdir())


def test_the_name_of_a_pipeline_run_tells_what_was_changed(tmp_path: Path) -> None:
    from karma_plugins.tracking import tags

    root = make_repository(tmp_path / "changed")
    before = lineage.pipeline(root, OURS)
    (root / "params.yaml").write_text(PARAMS.replace("1e-5", "3e-5"))
    after = lineage.pipeline(root, OURS)
    assert before.state != after.state
    name = tags.pipeline_name(after, {"dvc.experiment": "plumb-jay"}, OURS.telling)
    assert name == f"plumb-jay · kin · dpo · train.rate=3e-05 · {after.state[:4]}"


def test_a_param_names_the_experiment(copied: Path) -> None:
    with (copied / "params.yaml").open("a") as params:
        params.write("tracking: {experiment: elsewhere, system_metrics: true}\n")
    run([sys.executable, "make.py"], copied)
    mlflow = client(copied)
    experiment = mlflow.get_experiment_by_name("elsewhere").experiment_id
    (child,) = mlflow.search_runs([experiment], "tags.`karma.role` = 'stage'")
    assert (child.info.run_name, child.info.status) == ("make", "FINISHED")


@pytest.mark.usefixtures("tracked")
def test_the_load_of_the_machine_is_logged_beside_a_stage(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from karma_plugins.tracking.delivery import watched
    from karma_plugins.tracking.store import Store

    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    store, deadline = Store(copied), time.monotonic() + 60
    run_id = store.begin(records.Record("uid", "watched", "watched", started=1, state="s", pipeline="p"))
    with watched(store, run_id):
        while "system/cpu_utilization_percentage" not in client(copied).get_run(run_id).data.metrics:
            assert time.monotonic() < deadline


@pytest.mark.usefixtures("tracked")
def test_odd_names_values_and_files_reach_mlflow(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import polars as pl

    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"
    )  # leads to the repository's, wherever one is
    monkeypatch.chdir(copied / "data")
    odd = {
        "day": pl.Date,
        "raw": pl.Binary,
        "pair": pl.Array(pl.Int8, 2),
        "none": pl.Null,
    }
    pl.DataFrame(schema=odd).write_parquet("odd.parquet")
    Path("broken.parquet").write_text("no table")
    outs = [Path("odd.parquet"), Path("broken.parquet")]
    with tracking.stage(
        "odd", params={"a+b": 1, "a*b": 2, "x//y/": 3, "größe": 4}, inputs=[], outs=outs, pipeline=copied
    ) as stage:
        stage.metrics({"accuracy": np.float32(0.5), "n": np.int64(2), "ok": True, "a/../b": 1, "text": "x"})
    child = runs(copied, "stage")["odd"]
    assert child.data.metrics == {"accuracy": 0.5, "n": 2.0, "a/:dots:/b": 1.0}
    assert child.data.params == {"a:plus:b": "1", "a:star:b": "2", "x/:empty:/y/:empty:": "3", "größe": "4"}
    assert child.data.tags["karma.name.a:plus:b"] == "a+b"
    assert {d.dataset.name for d in child.inputs.dataset_inputs} == {
        "data/odd.parquet",
        "data/broken.parquet",
    }
    assert not Path("mlflow.db").exists()


def test_a_thousand_points_cost_the_stage_nearly_nothing(
    copied: Path, tracked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", CLOSED_PORT)
    with tracking.stage("quick", params={}, inputs=[], outs=[], pipeline=copied) as stage:
        started = time.process_time()
        for step in range(1000):
            stage.progress({"loss": 1.0}, step)
        assert time.process_time() - started < 0.2


@pytest.mark.usefixtures("tracked")
def test_a_final_metric_is_the_last_one_also_where_its_steps_were_shown_on_the_way(
    tmp_path: Path, database: Path
) -> None:
    from karma_plugins.tracking import delivery
    from karma_plugins.tracking.store import Store

    root = make_repository(tmp_path / "shown")
    shutil.copyfile(database, root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # so that the record waits
        patch.setattr(tracking, "_now", lambda: 1_700_000_000_000)  # all in one millisecond
        with tracking.stage("fit", params={}, inputs=[], outs=[], pipeline=root) as stage:
            for step in range(5):
                stage.progress({"loss": 9.0 - step}, step)
            stage.metrics({"loss": 0.5})
    (folder,) = records.waiting(root)
    store = Store(root)
    run_id = store.begin(records.read(folder))
    shown, seen = delivery.points(folder)
    store.log_points(run_id, shown)
    delivery.deliver(store, folder, seen)
    assert store.client.get_run(run_id).data.metrics == {"loss": 0.5}
    history = store.client.get_metric_history(run_id, "loss")
    assert sorted(point.value for point in history) == [0.5, 5.0, 6.0, 7.0, 8.0, 9.0]
