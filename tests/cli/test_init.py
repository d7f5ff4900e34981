"""`karma init` starts a pipeline and writes over nothing; `karma check` reads it all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from karma_plugins.cli import main as karma
from karma_plugins.cli import templates


@pytest.fixture
def repository_of_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that looks like a git and DVC repository."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # the template names models of the hub, which could be fetched
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(karma, list(arguments))


def without_own_tasks() -> None:
    """Params that do not make `karma check` read lm-eval's thousands of tasks."""
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("profiler: lm-eval", "profiler: recorded"))


@pytest.mark.parametrize("template", templates.TEMPLATES)
def test_writes_the_repositorys_own_files(template: str, repository_of_mine: Path, repository: Path) -> None:
    done = run("init", "--template", template)
    assert done.exit_code == 0, done.output
    source = repository / templates.TEMPLATES[template].folder
    for name in ("dvc.yaml", "params.yaml"):
        assert (repository_of_mine / name).read_bytes() == (source / name).read_bytes()
    assert (repository_of_mine / "stages" / "judge.py").is_file()
    assert "/data/" in (repository_of_mine / ".gitignore").read_text()
    assert "reference" in json.loads((repository_of_mine / "karma.lock.json").read_text())["judge"]
    assert not (repository_of_mine / "data").exists()


def test_writes_over_nothing(repository_of_mine: Path) -> None:
    Path("params.yaml").write_text("mine: 1\n")
    done = run("init")
    assert done.exit_code == 1
    assert "params.yaml: there already, with other content" in done.stderr
    assert "`karma init --into FOLDER`" in done.stderr
    assert sorted(p.name for p in repository_of_mine.iterdir()) == [".dvc", ".git", "params.yaml"]


def test_again_changes_nothing_and_keeps_what_gitignore_held(repository_of_mine: Path) -> None:
    Path(".gitignore").write_text("secret\n/data/")
    assert run("init").exit_code == 0
    before = {p: p.read_bytes() for p in repository_of_mine.rglob("*") if p.is_file()}
    assert run("init").exit_code == 0
    assert before == {p: p.read_bytes() for p in repository_of_mine.rglob("*") if p.is_file()}
    lines = Path(".gitignore").read_text().splitlines()
    assert lines[:2] == ["secret", "/data/"]
    assert lines.count("/data/") == 1


def test_into_a_folder_touches_nothing_outside_of_it(repository_of_mine: Path) -> None:
    for name in ("dvc.yaml", "params.yaml", ".gitignore", "README.md"):
        Path(name).write_text(f"mine: {name}\n")
    before = {p: p.read_bytes() for p in repository_of_mine.rglob("*") if p.is_file()}
    done = run("init", "--into", "align", "--template", "recorded")
    assert done.exit_code == 0, done.output
    assert "Next: `cd align`, `karma import auto PATH --out imported`" in done.stdout
    assert {p: p.read_bytes() for p in before} == before
    outside = {p.relative_to(repository_of_mine).parts[0] for p in repository_of_mine.rglob("*")}
    assert outside == {".git", ".dvc", "align", "dvc.yaml", "params.yaml", ".gitignore", "README.md"}
    assert "/imported/" in Path("align/.gitignore").read_text()
    assert "core" in json.loads(Path("align/karma.lock.json").read_text())["train"]


@pytest.mark.parametrize("template", templates.TEMPLATES)
def test_each_template_has_a_readme_whose_links_lead_somewhere(
    template: str, repository_of_mine: Path
) -> None:
    run("init", "--into", "align", "--template", template)
    text = Path("align/README.md").read_text(encoding="utf-8")
    assert "karma check" in text
    assert "dvc repro" in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith("https://")] == []
    assert template in run("init", "--template", "list").stdout


def test_a_readme_of_ones_own_stays(repository_of_mine: Path) -> None:
    Path("README.md").write_text("mine\n")
    assert run("init", "--template", "hub").exit_code == 0
    assert Path("README.md").read_text() == "mine\n"
    assert "models of a hub" not in Path("README.md").read_text()
    assert "dvc repro" in Path("README.karma.md").read_text()
    assert run("init", "--update").stdout.startswith("Up to date")


@pytest.mark.parametrize("into", ["/", "file"])
def test_a_folder_that_can_not_hold_it_is_one_line(into: str, repository_of_mine: Path) -> None:
    Path("file").write_text("")
    done = run("init", "--into", into)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1


def upgraded(monkeypatch: pytest.MonkeyPatch, **texts: str | None) -> None:
    """A later version of the package, whose templates hold other texts: null for a file that they lack."""
    files = templates.files

    def later(name: str) -> dict[Path, str]:
        changed = {Path(name.replace("__", "/").replace("_yaml", ".yaml")): t for name, t in texts.items()}
        return {path: text for path, text in (files(name) | changed).items() if text is not None}

    monkeypatch.setattr(templates, "files", later)


def test_an_update_merges_around_edits(repository_of_mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("init", "--into", "align", "--template", "hub")
    params = Path("align/params.yaml")
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("samples: 4", "samples: 9"), encoding="utf-8")
    upgraded(
        monkeypatch,
        params_yaml=text.replace("phases: 3", "phases: 5"),
        models__third_yaml="hub: a/b\n",
        models__qwen_yaml="hub: newer/qwen\n",
        models__smollm_yaml=None,
    )
    done = run("init", "--into", "align", "--update")
    assert done.exit_code == 0, done.output
    merged = params.read_text(encoding="utf-8")
    assert "samples: 9" in merged
    assert "phases: 5" in merged
    assert Path("align/models/third.yaml").read_text() == "hub: a/b\n"
    assert Path("align/models/qwen.yaml").read_text() == "hub: newer/qwen\n"
    assert not Path("align/models/smollm.yaml").exists()
    assert "Merged with edits: params.yaml." in done.stdout
    assert run("init", "--into", "align", "--update").stdout.startswith("Up to date with template 'hub'")


def test_an_update_never_writes_over_an_edit(
    repository_of_mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init", "--template", "hub")
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("samples: 4", "samples: 9"), encoding="utf-8")
    Path("models/smollm.yaml").write_text("hub: mine/mine\n")
    Path("models/qwen.yaml").unlink()
    Path("models/third.yaml").write_text("hub: mine/third\n")
    mine = {p: p.read_bytes() for p in (Path("params.yaml"), *Path("models").iterdir())}
    upgraded(
        monkeypatch,
        params_yaml=text.replace("samples: 4", "samples: 2"),
        models__smollm_yaml=None,
        models__qwen_yaml="hub: newer/qwen\n",
        models__third_yaml="hub: a/b\n",
    )
    done = run("init", "--update")
    assert done.exit_code == 1
    assert {p: p.read_bytes() for p in mine} == mine
    assert not Path("models/qwen.yaml").exists()
    assert "samples: 2" in Path("params.yaml.karma-new").read_text(encoding="utf-8")
    assert Path("models/third.yaml.karma-new").read_text() == "hub: a/b\n"
    for name in ("params.yaml", "models/smollm.yaml", "models/qwen.yaml", "models/third.yaml"):
        assert f"Left as it is: {name} (" in done.stderr


def test_an_update_of_what_no_one_noted_needs_the_templates_name(repository_of_mine: Path) -> None:
    run("init", "--template", "hub")
    Path("karma.template.json").unlink()
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("samples: 4", "samples: 9"), encoding="utf-8")
    assert "`karma init --update --template NAME`" in run("init", "--update").stderr
    done = run("init", "--update", "--template", "hub")
    assert done.exit_code == 1
    assert "samples: 9" in Path("params.yaml").read_text(encoding="utf-8")
    assert Path("params.yaml.karma-new").read_text(encoding="utf-8") == text
    assert run("init", "--update").exit_code == 0
    assert "was made from template 'hub', not 'zoo'" in run("init", "--update", "--template", "zoo").stderr
    Path("karma.template.json").write_text("[]")
    assert "Restore it from git" in run("init", "--update").stderr


@pytest.mark.parametrize(("missing", "cure"), [(".git", "git init"), (".dvc", "dvc init")])
def test_outside_of_a_repository_it_says_what_to_run(
    missing: str, cure: str, repository_of_mine: Path
) -> None:
    (repository_of_mine / missing).rmdir()
    done = run("init")
    assert done.exit_code == 1
    assert cure in done.stderr


def test_templates_of_own_models_are_the_main_pipeline_without_the_zoo(repository: Path) -> None:
    whole = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    del whole["zoo"]
    for stage in whole.values():
        body = stage.get("do", stage)
        body["deps"] = [d for d in body["deps"] if d != "${profile.profilers.lm-eval.include_path}"]
    for template in ("hub", "endpoint"):
        text = (repository / templates.TEMPLATES[template].folder / "dvc.yaml").read_text()
        assert yaml.safe_load(text)["stages"] == whole


def test_a_fresh_pipeline_checks_clean(repository_of_mine: Path) -> None:
    run("init", "--template", "hub")
    without_own_tasks()
    done = run("check")
    assert done.exit_code == 0, done.output
    assert "80 answers: 10 training prompts x 4 samples x 2 models" in done.output
    assert "0 errors" in done.output


def test_ten_mistakes_are_named_in_one_run(repository_of_mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("init", "--template", "hub")
    without_own_tasks()
    monkeypatch.delenv("KEY_THAT_IS_NOT_SET", raising=False)
    Path("models/far.yaml").write_text(
        "endpoint: http://127.0.0.1:9/v1\nmodel: x\napi_key_env: KEY_THAT_IS_NOT_SET\n"
    )
    Path("models/odd.yaml").write_text("hub: a/b\nrevison: main\n")
    with Path("prompts.jsonl").open("a") as file:
        file.write("{broken\n")
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["models"] |= {
        "llama-3.1": {"path": "models/qwen.yaml", "generator": "transformers", "sampling": {}},
        "gone": {"path": "models/gone", "generator": "transformers", "sampling": {}},
        "far": {"path": "models/far.yaml", "generator": "endpoint", "sampling": {}},
        "odd": {"path": "models/odd.yaml", "generator": "transformerz", "sampling": {}},
    }
    document["judge"]["judges"]["referense"] = {"plugin": "referense", "reads": "prompts.jsonl"}
    document["curriculum"]["pairing"] = "kinn"
    document["curriculum"]["target"] = "nobody"
    document["train"]["learning_rte"] = 1.0
    document["profile"]["tasks"]["reasoning"] = []
    Path("params.yaml").write_text(yaml.safe_dump(document))
    done = run("check")
    assert done.exit_code == 1
    for mistake in (
        "DVC can't carry the name 'llama-3.1'",
        "models.gone.path: 'models/gone' does not exist",
        "environment variable KEY_THAT_IS_NOT_SET is not set",
        "unknown key 'revison'. Did you mean 'revision'?",
        "Unknown generator 'transformerz'",
        "Unknown judge 'referense'",
        "Unknown pairing 'kinn'",
        "curriculum.target: 'nobody' is no candidate",
        "unknown key 'learning_rte'. Did you mean 'learning_rate'?",
        "profile.tasks.reasoning: names no task",
        "prompts.jsonl, line 13: not JSON",
    ):
        assert mistake in done.stderr, mistake
    assert "11 errors" in done.output


def test_a_wrong_key_hides_no_other_mistake(repository_of_mine: Path) -> None:
    run("init", "--template", "hub")
    document = yaml.safe_load(Path("params.yaml").read_text())
    del document["generate"]
    document["tracking"] = {"experimnt": "x"}
    document["prompts"]["heldout"] = 0.0
    document["profile"] = {
        "tasks": {"reasoning": ["arc_easyy"]},
        "profilers": {"lm-eval": {"own_tasks": False}},
    }
    document["kinship"] = {"seeed": 1, "metric": "capabilty", "metrics": {"capaa": {}, "answerss": {}}}
    document["judge"] = {
        "alignn": "none",
        "judges": {
            "reference": {"kin_radius": -1, "graed": "x"},
            "llm-rubric": {"model": "models/judge.yaml"},
        },
    }
    document["jury"] = {"weights": {"reference": -1}, "kin_to": {"reference": "qwenn"}}
    document["curriculum"] = {"margin": -1, "pairings": {"kinn": {"radius": 0.2}}}
    document["train"] |= {"learning_rte": 1.0, "objective": "dpoo", "base": "prompts.jsonl"}
    Path("params.yaml").write_text(yaml.safe_dump(document))
    lock = json.loads(Path("karma.lock.json").read_text())
    lock["evaluate"]["core"]["version"] = "0.0.1"
    Path("karma.lock.json").write_text(json.dumps(lock))
    done = run("check")
    assert done.exit_code == 1
    for mistake in (
        "section 'generate' is missing",
        "unknown key 'experimnt'",
        "split 'heldout' has no prompt",
        "lm-eval has no task 'arc_easyy'",
        "unknown key 'seeed'",
        "Unknown kinship metric 'capabilty'",
        "Unknown kinship metric 'capaa'",
        "Unknown kinship metric 'answerss'",
        "unknown key 'alignn'",
        "weights.reference: input should be greater",
        "judges.reference.kin_radius: input should be greater",
        "params.yaml, judge.judges.llm-rubric: key 'plugin' is missing, and dvc.yaml names it",
        "unknown key 'graed'",
        "kin_to.reference: no candidate is called 'qwenn'. Did you mean 'qwen'?",
        "'models/judge.yaml' does not exist",
        "margin: input should be greater",
        "Unknown pairing 'kinn' in params.yaml, curriculum.pairings. Did you mean 'kin'?",
        "unknown key 'learning_rte'",
        "Unknown objective 'dpoo'",
        "train.base: 'prompts.jsonl' is neither a folder nor a descriptor",
        "version of 'core' is",
    ):
        assert mistake in done.stderr, mistake


def test_keys_that_dvc_reads_must_be_written_down(repository_of_mine: Path) -> None:
    run("init", "--template", "hub")
    without_own_tasks()
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["models"]["qwen"] = {"path": "models/qwen.yaml"}
    document["models"]["smollm"] |= {"pth": document["models"]["smollm"].pop("path")}
    del document["train"]["objective"]
    Path("params.yaml").write_text(yaml.safe_dump(document))
    done = run("check")
    for mistake in (
        "params.yaml, train: key 'objective' is missing, and dvc.yaml names it",
        "params.yaml, models.qwen: key 'generator' is missing, and dvc.yaml names it",
        "params.yaml, models.qwen: key 'sampling' is missing, and dvc.yaml names it",
        "params.yaml, models.smollm: key 'path' is missing; unknown key 'pth'",
    ):
        assert mistake in done.stderr, mistake
    assert "4 errors" in done.output


def test_recorded_answers_and_weights_to_train_are_looked_at(repository_of_mine: Path) -> None:
    run("init", "--template", "recorded")
    Path("imported/models/phi-2").mkdir(parents=True)
    Path("imported/prompts.jsonl").write_text(json.dumps({"prompt": "Why?", "competency": "knowledge"}))
    Path("imported/models/phi-2/responses.jsonl").write_text(json.dumps({"prompt": "Who?", "text": "I."}))
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["models"] = {"phi-2": document["models"]["phi-2"]}
    document["train"]["base"] = "imported/models/phi-2"
    Path("params.yaml").write_text(yaml.safe_dump(document))
    done = run("check")
    assert "('Who?'), which is not in table prompts" in done.stderr
    assert "train.base: 'imported/models/phi-2' holds no weights" in done.stderr
    assert "2 errors" in done.output


def test_an_unknown_section_suggests_the_nearest(repository_of_mine: Path) -> None:
    run("init", "--template", "hub")
    without_own_tasks()
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("kinship:\n", "kinshp:\n"))
    assert "unknown section 'kinshp'. Did you mean 'kinship'?" in run("check").stderr


def test_evaluation_items_that_dvc_does_not_watch_are_a_warning(repository_of_mine: Path) -> None:
    run("init", "--template", "hub")
    without_own_tasks()
    Path("items.txt").write_text("What is the capital of a country that nobody knows?\n")
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["prompts"]["seen"] = {"items": "items.txt", "ngram": 5}
    Path("params.yaml").write_text(yaml.safe_dump(document))
    told = run("check").stderr
    assert "dvc.yaml, prompts: 'items.txt' (prompts.seen.items) is not among its deps" in told
    pipeline = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(
        pipeline.replace("- ${prompts.path}", "- ${prompts.path}\n      - items.txt", 1)
    )
    assert "items.txt" not in run("check").stderr
