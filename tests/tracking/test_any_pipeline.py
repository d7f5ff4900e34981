"""`karma sync` in pipelines that are not ours: what dvc.yaml and dvc.lock say is what MLflow says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.lineage.projects import Project, artifacts, datasets

pytestmark = pytest.mark.usefixtures("tracked")


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Path:
    """A stage of a script and a stage of no outs that has never run; after repro and commit. Only read."""
    project = Project(tmp_path_factory.mktemp("simple") / "simple", database)
    project.write(
        {
            "s.py": "open('out.txt', 'w').write('1')\n",
            "dvc.yaml": """
                stages:
                  s: {cmd: cp s.py out.txt, deps: [s.py], outs: [out.txt]}
                  never: {cmd: 'true', deps: [s.py]}
            """,
        }
    )
    project.dvc("repro", "-q", "s")
    project.commit("1")
    return project.root


@pytest.fixture
def copy(simple: Path, tmp_path: Path) -> Project:
    return Project.at(Path(shutil.copytree(simple, tmp_path / "simple", symlinks=True)))


def test_a_result_is_never_attributed_to_code_that_did_not_make_it(copy: Project) -> None:
    assert "Completed from dvc.lock: s." in copy.karma("sync")
    (first,) = copy.runs()
    with (copy.root / "s.py").open("a") as code:
        code.write("#\n")
    second = copy.commit("2")
    said = copy.karma("sync")
    assert "Left out, for they ran with other code, params or data (`dvc repro` them): s (s.py)" in said
    assert "s at HEAD (s.py)" in copy.karma("sync", "--rev", "HEAD")
    assert f"s at {second[:10]} (s.py)" in copy.karma("sync", "--all-commits")
    assert [run.info.run_id for run in copy.runs()] == [first.info.run_id]
    assert "changed: s.py" in copy.karma("verify", status=1)
    assert copy.dvc("status", "-q", status=1) == ""
    copy.git("checkout", "-q", "HEAD~1")  # detached
    assert "held 1 stage runs before. Nothing changed." in copy.karma("sync")


def test_a_stage_that_never_ran_is_no_run(copy: Project) -> None:
    assert "never run: never" in copy.karma("sync")
    assert "never run: never" in copy.karma("sync", "--all-commits")
    assert [run.info.run_name for run in copy.runs()] == ["s"]
    copy.dvc("repro", "-q")
    assert "never run" not in copy.karma("sync")
    assert [run.info.run_name for run in copy.runs()] == ["s", "never"]


@pytest.mark.parametrize("where", ["workspace", "cache", "both", "line ends"])
def test_the_state_of_a_clean_commit_is_the_commits_alone(copy: Project, where: str) -> None:
    from karma_plugins import lineage

    before = lineage.pipeline(copy.root).state
    if where in ("workspace", "both"):
        (copy.root / "out.txt").unlink()
    if where in ("cache", "both"):
        shutil.rmtree(copy.root / ".dvc/cache")
    if where == "line ends":
        copy.git("config", "core.autocrlf", "true")
        (copy.root / "s.py").unlink()
        copy.git("checkout", "s.py")
        assert b"\r\n" in (copy.root / "s.py").read_bytes()
    head = lineage.revisions(copy.root, ("HEAD",))[0]
    assert {pipeline.pipeline.state for pipeline in lineage.locked(copy.root, head)} == {before}
    assert lineage.pipeline(copy.root).state == before
    (stage,) = lineage.locked(copy.root, head)[0].stages
    assert stage.current


def test_json_says_what_the_lines_say(copy: Project) -> None:
    synced = json.loads(copy.karma("sync", "--json"))
    assert (synced["completed"], synced["never"], synced["changed"]) == (["s"], ["never"], True)
    again = json.loads(copy.karma("sync", "--json"))
    assert (again["completed"], again["held"], again["changed"]) == ([], 1, False)
    assert json.loads(copy.karma("sync", "--json", "--all-tags"))["held"] == 0
    (copy.root / "out.txt").write_text("2")
    verified = json.loads(copy.karma("verify", "--json", status=1))
    assert verified["mlflow"] == {"compared": True, "never_told_of": []}
    assert [(d["where"], d["kind"]) for d in verified["differences"]] == [
        ("never", "changed"), ("out.txt", "changed"),
    ]  # fmt: skip


@pytest.mark.parametrize("own", [True, False])
def test_verify_is_quiet_about_pipelines_beside_one_of_karmas(copy: Project, own: bool) -> None:
    copy.write(
        {
            "align/dvc.yaml": "stages:\n  t: {cmd: cp ../out.txt t.txt, deps: [../out.txt], outs: [t.txt]}\n",
            "align/more.txt": "more",
            **({"align/karma.lock.json": "{}"} if own else {}),
        }
    )
    copy.dvc("add", "-q", "align/more.txt")
    copy.dvc("repro", "-q", "align/dvc.yaml")
    said = copy.karma("verify", status=0 if own else 1)
    assert ("2 stages of other pipelines left out): 0 differences" in said) == own
    assert ("never: it has not run" in said) != own
    assert "never: it has not run" in copy.karma("verify", "--all", status=1)
    (copy.root / "align/more.txt").write_text("less")
    (copy.root / "out.txt").write_text("2")
    said = copy.karma("verify", status=1)
    assert "changed: align/more.txt" in said
    assert "changed: out.txt" in said


def test_a_database_that_karma_makes_is_no_change_to_git(
    copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database = (copy.root / "mlflow.db").rename(copy.root / ".dvc/tmp/mlflow.db")
    copy.write({".gitignore": "/out.txt\n"})
    copy.commit("who never heard of MLflow")
    database.rename(copy.root / "mlflow.db")
    copy.karma("sync")
    assert copy.git("status", "--porcelain") == ""
    lines = (copy.root / ".git/info/exclude").read_text().splitlines()
    copy.karma("sync", "--again")
    assert (copy.root / ".git/info/exclude").read_text().splitlines() == lines
    assert lines.count("/mlflow.db*") == 1


def test_outside_a_repository_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from karma_plugins.cli import main

    monkeypatch.chdir(tmp_path)
    for command in ("sync", "verify"):
        asked = CliRunner().invoke(main, [command])
        assert asked.exit_code == 1
        assert "not inside a DVC repository" in asked.output
    assert list(tmp_path.iterdir()) == []


# --- everything that dvc.yaml can say ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Project:
    """A project that uses most of what dvc.yaml offers; run, committed, synced. Only read."""
    project = Project(tmp_path_factory.mktemp("rich") / "rich project", database)
    tsv = "step\\tloss\\n0\\t2.0\\n1\\t1.0\\n2\\t0.5\\n"
    project.write(
        {
            "raw.csv": "a,b\n1,2\n",
            "params.yaml": f"train: {{lr: 2, depth: 3}}\nlr: 4\nlong: {json.dumps(list(range(1500)))}\n",
            "conf.json": '{"train": {"optimizer": "adam"}, "lr": 0.5}',
            "sub/tuned.toml": "k = 5\n",
            "vars.yaml": "items: [x, 'y']\n",
            "extern.txt": "data of a .dvc file\n",
            "größe und raum.txt": "ä\n",
            "dvc.yaml": f"""
                vars: [vars.yaml]
                stages:
                  prepare:
                    desc: two files of one stem
                    cmd: >-
                      mkdir -p data && cp raw.csv data/raw.json && cp raw.csv data/a.csv && cp raw.csv a.csv
                    deps: [raw.csv, "größe und raum.txt", extern.txt]
                    outs: [data/raw.json, data/a.csv, a.csv]
                  loop:
                    matrix: {{kind: "${{items}}", size: [1]}}
                    cmd: echo ${{item.kind}} > loop-${{item.kind}}.txt
                    outs: ["loop-${{item.kind}}.txt": {{cache: false, persist: true}}]
                  inner:
                    wdir: sub
                    cmd: echo 1 > made.txt
                    params: [tuned.toml: [k]]
                    outs: [made.txt]
                  train:
                    cmd:
                      - mkdir -p models live/plots/metrics/train live/plots/images
                      - cp raw.csv models/one.bin && echo 2 > models/two.pt && echo 3 > models/two.bin
                      - >-
                        printf '{{"k@5": 1.0, "k#5": 2.0, "train": {{"loss": 0.5}}, "nested": {{"a": 3}}}}'
                        > live/metrics.json
                      - printf '{tsv}' > live/plots/metrics/train/loss.tsv
                      - printf 'png' > live/plots/images/picture.png
                      - >-
                        printf '{{"acc": 0.75}}' > top.json
                    deps: [data/raw.json]
                    params: [train, lr, long, conf.json: [train, lr]]
                    outs:
                      - models/one.bin: {{type: model, desc: the first}}
                      - models/two.pt: {{type: model, meta: {{trained_on: data/raw.json}}}}
                      - models/two.bin
                      - live: {{cache: false}}
                      - top.json
                  copied:
                    cmd: mkdir -p prod && cp models/one.bin prod/model.bin
                    deps: [models/one.bin]
                    outs: [prod/model.bin: {{type: model}}]
                    always_changed: true
                metrics: [live/metrics.json, top.json]
                plots:
                  - live/plots/metrics
                  - live/plots/images
                  - own: {{x: step, y: {{live/plots/metrics/train/loss.tsv: loss}}}}
                params: [conf.json]
                artifacts:
                  best: {{path: models/two.bin, type: model, desc: the best, labels: [prod, latest]}}
            """,
            "other/dvc.yaml": "metrics: [numbers.json]\n",
            "other/numbers.json": '{"accuracy": 0.25, "f1": 0.5}',
        }
    )
    project.dvc("add", "-q", "extern.txt")
    project.dvc("repro", "-q")
    project.commit("ran")
    project.said = project.karma("sync")
    return project


def test_every_stage_param_metric_and_dataset_arrives(rich: Project) -> None:
    lock = rich.dvc("status")
    assert "prepare" not in lock
    names = {run.info.run_name for run in rich.runs()}
    assert names == {"prepare", "loop@x-1", "loop@y-1", "inner", "train", "copied"}
    train = rich.run("train")
    assert train.data.params.items() >= {
        "train.lr": "2", "train.depth": "3", "lr": "4",
        "conf.json:train.optimizer": "adam", "conf.json:lr": "0.5",
    }.items()  # fmt: skip
    assert rich.run("inner").data.params == {"sub/tuned.toml:k": "5"}
    assert train.data.metrics == {
        "k:at:5": 1.0, "k:hash:5": 2.0, "train.loss": 0.5, "nested.a": 3.0, "acc": 0.75,
    }  # fmt: skip
    assert train.data.tags["karma.name.k:at:5"] == "k@5"
    assert rich.run("prepare").data.tags["mlflow.note.content"] == "two files of one stem"


def test_digests_are_those_of_dvc_lock_and_every_path_is_its_own_dataset(rich: Project) -> None:
    from ruamel.yaml import YAML

    stages = YAML(typ="safe").load((rich.root / "dvc.lock").read_text())["stages"]
    for name, stage in stages.items():
        wanted = {
            entry["path"]: (context, entry["md5"])
            for side, context in (("deps", "input"), ("outs", "output"))
            for entry in stage.get(side, [])
        }
        if name == "inner":
            wanted = {f"sub/{path}": what for path, what in wanted.items()}
        assert datasets(rich.run(name)) == wanted
    (parent,) = [run for run in rich.runs("pipeline") if "data.raw.csv" in run.data.tags]
    assert parent.data.tags["data.raw.csv"] == parent.data.tags["data.data/raw.json"]  # of the same bytes


def test_a_long_param_is_told_whole(rich: Project) -> None:
    train = rich.run("train")
    assert "characters, md5" in train.data.params["long"]
    whole = artifacts(train) / "long_params.json"
    assert json.loads(json.loads(whole.read_text())["long"]) == list(range(1500))


def test_plots_pictures_and_the_steps_of_metrics_arrive(rich: Project) -> None:
    train = rich.run("train")
    history = rich.client.get_metric_history(train.info.run_id, "train.loss")
    assert {(point.step, point.value) for point in history} == {(0, 2.0), (1, 1.0), (2, 0.5)}
    assert (artifacts(train) / "plots/live/plots/images/picture.png").read_text() == "png"
    assert (artifacts(train) / "plots/live/plots/metrics/train/loss.tsv").is_file()


def test_every_model_out_is_one_logged_model_named_after_it(rich: Project) -> None:
    models = {model.tags["dvc.path"]: model for model in rich.models()}
    assert {path: model.name for path, model in models.items()} == {
        "models/one.bin": "one", "models/two.pt": "two", "models/two.bin": "best", "prod/model.bin": "model",
    }  # fmt: skip
    assert models["models/two.pt"].tags["dvc.trained_on"] == "data/raw.json"
    best = rich.client.get_registered_model("best")
    assert {alias: str(version) for alias, version in best.aliases.items()} == {
        "prod": "1",
        "label-latest": "1",
    }
    copied = rich.run("copied")  # of the same bytes as a model that it read
    assert [output.model_id for output in copied.outputs.model_outputs] == [models["prod/model.bin"].model_id]
    assert [read.model_id for read in rich.client.get_run(copied.info.run_id).inputs.model_inputs] == [
        models["models/one.bin"].model_id
    ]


def test_metrics_of_a_dvc_yaml_without_stages_arrive(rich: Project) -> None:
    (other,) = [run for run in rich.runs("pipeline") if run.data.metrics.get("accuracy")]
    assert other.data.metrics == {"accuracy": 0.25, "f1": 0.5}
    assert other.info.status == "FINISHED"


def test_a_second_sync_and_one_of_the_commit_change_nothing(rich: Project) -> None:
    before = [run.to_dictionary() for run in (*rich.runs(), *rich.runs("pipeline"))]
    assert "Nothing changed." in rich.karma("sync")
    assert "Nothing changed." in rich.karma("sync", "--rev", "HEAD")
    assert "Nothing changed." in rich.karma("sync", "--all-commits")
    assert [run.to_dictionary() for run in (*rich.runs(), *rich.runs("pipeline"))] == before


def test_verify_agrees_with_dvc_status(rich: Project) -> None:
    said = rich.dvc("status")
    assert "always changed" in said
    assert "changed deps" not in said
    assert "0 differences" in rich.karma("verify")


def test_a_clone_of_another_name_goes_on_in_the_same_experiment(rich: Project, tmp_path: Path) -> None:
    rich.git("clone", "-q", str(rich.root), str(tmp_path / "clone"))
    clone = Project.at(tmp_path / "clone")
    shutil.copyfile(rich.root / "mlflow.db", clone.root / "mlflow.db")
    clone.git("remote", "remove", "origin")
    assert "held 6 stage runs before. Nothing changed." in clone.karma("sync")
    assert [experiment.name for experiment in clone.client.search_experiments()].count("clone") == 0
