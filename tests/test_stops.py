"""Bad input ends a stage with one line and exit status 1, and leaves earlier outs as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from click.testing import CliRunner, Result

from karma_plugins import prompts, schemas, tables
from karma_plugins.registry import lock, manager
from tests.recorded_pipeline import inside

SETTINGS: dict[str, Any] = {
    "prompts": {"path": "prompts.jsonl"},
    "models": {
        name: {"path": f"models/{name}", "generator": "recorded", "sampling": {}} for name in ("ada", "bob")
    },
    "profile": {"profiler": "recorded", "tasks": {"knowledge": ["mmlu"]}},
    "kinship": {"metric": "capability", "metrics": {"capability": {"bootstrap": 0}}},
    "generate": {"samples": 1},
    "judge": {"judges": {"reference": {"plugin": "reference"}}},
    "jury": {},
    "curriculum": {"pairing": "kin", "pairings": {"kin": {"radius": 1.0}}},
    "train": {"base": "models/ada", "objective": "dpo"},
    "evaluate": {"judges": {"reference": {}}},
}
QUESTIONS = [f"What is {i} + {i}?" for i in range(6)]


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def pipeline(tmp_path: Path, repository: Path) -> Iterator[Path]:
    """Two recorded models, one always right and one always wrong, run up to the curriculum."""
    rows = [
        {"prompt": q, "competency": "knowledge", "reference": str(2 * i), "split": "train"}
        for i, q in enumerate(QUESTIONS)
    ]
    with inside(tmp_path, repository):
        Path("prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
        for name, answer, score in (("ada", lambda i: str(2 * i), 0.9), ("bob", lambda i: "none", 0.8)):
            folder = Path("models") / name
            folder.mkdir(parents=True)
            answers = [{"prompt": q, "text": answer(i)} for i, q in enumerate(QUESTIONS)]
            (folder / "responses.jsonl").write_text("\n".join(map(json.dumps, answers)))
            row = {"model": name, "competency": "knowledge", "task": "mmlu", "metric": "acc", "score": score}
            tables.write(
                pl.DataFrame([row | {"stderr": None, "n": 9}], schema=schemas.SCORES.columns),
                folder / "scores.parquet",
                schemas.SCORES,
            )
        settle(SETTINGS)
        for stage, *arguments in (
            ["prompts"], ["profile", "ada"], ["profile", "bob"], ["kinship"], ["generate", "ada"],
            ["generate", "bob"], ["judge", "reference"], ["jury"], ["curriculum"],
        ):  # fmt: skip
            done = run(stage, *arguments)
            assert done.exit_code == 0, f"{stage}: {done.output}"
        yield tmp_path


def settle(settings: dict[str, Any]) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    if not Path("karma.lock.json").exists():
        lock.accept(manager.load())


def run(stage: str, *arguments: str) -> Result:
    return CliRunner().invoke(import_module(f"stages.{stage}").main, list(arguments))


def changed(path: str, value: Any) -> dict[str, Any]:
    """The settings with one key at a dotted path set, or removed where the value is None."""
    settings = deepcopy(SETTINGS)
    *parents, last = path.split(".")
    place = settings
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return settings


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stops(folder: Path, stage: str, *arguments: str) -> str:
    """Run a stage that must stop; its one line, with earlier outs untouched."""
    before = snapshot(folder / "data")
    done = run(stage, *arguments)
    assert done.exit_code == 1, done.output
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Warning:")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    assert "Traceback" not in done.output
    assert snapshot(folder / "data") == before
    return lines[0]


@pytest.mark.parametrize(
    ("path", "value", "stage", "arguments", "message"),
    [
        ("curriculum.pairng", "kin", "curriculum", [], "unknown key 'pairng'. Did you mean 'pairing'?"),
        ("judge.judges.referense", {}, "judge", ["referense"], "Unknown judge 'referense'"),
        ("judge.judges.reference.weight", 1, "judge", ["reference"], "section 'jury': jury.weights.ref"),
        ("judge.judges.a@b", {"plugin": "reference"}, "judge", ["a@b"], "DVC can't carry the name 'a@b'"),
        ("judge.judges.a", {"plugin": "recorded"}, "judge", ["a"], "key 'reads' is missing"),
        (
            "judge.judges.a",
            {"plugin": "recorded", "reads": "data/prompts.parquet"},
            "judge",
            ["a"],
            "data/prompts.parquet: holds neither judgements.parquet nor comparisons.parquet with any row.",
        ),
        (
            "judge.judges.a",
            {"plugin": "recorded", "reads": "data/none"},
            "judge",
            ["a"],
            "data/none: is not there",
        ),
        ("models.ada.generator", "transformers", "generate", ["ada"], "Name generator 'recorded'"),
        ("models.ada.generator", "endpoint", "generate", ["ada"], "needs a descriptor with 'endpoint'"),
        ("models.ada.path", "data", "generate", ["ada"], "'data' holds no config.json"),
        ("profile.profiler", "lm-eval", "profile", ["ada"], "Profile such models with profiler 'recorded'"),
        ("jury.weights", {"referense": 1}, "jury", [], "no judge 'referense'. Did you mean 'reference'?"),
        ("jury.weights", {"reference": 0}, "jury", [], "no judge has a weight above 0"),
        ("jury", None, "jury", [], "section 'jury' is missing"),
        ("curriculum.perplexity", "lm", "curriculum", [], "no answer was scored by a judge 'lm'"),
        ("kinship.metric", "capabilty", "kinship", [], "Unknown kinship metric 'capabilty'"),
        ("curriculum.pairing", "kinn", "curriculum", [], "Unknown pairing 'kinn'"),
        ("train.objective", "dpoo", "train", [], "Unknown objective 'dpoo'"),
        ("models.ada.generator", "recorder", "generate", ["ada"], "Unknown generator 'recorder'"),
        ("profile.profiler", "lm-evl", "profile", ["ada"], "Unknown profiler 'lm-evl'"),
        ("models.ada.path", "models/none", "generate", ["ada"], "'models/none' does not exist"),
        ("models.a@b", {"path": "models/ada"}, "judge", ["reference"], "DVC can't carry the name 'a@b'"),
        ("profile.tasks.reasoning", [], "profile", ["ada"], "reasoning"),
        ("curriculum.margin", 2.0, "curriculum", [], "no pair"),
        ("judge.judges.reference.graed", "x", "judge", ["reference"], "'graed'. Did you mean 'grade'?"),
        ("judge", None, "judge", ["reference"], "section 'judge' is missing"),
    ],
)
def test_wrong_params(
    pipeline: Path, path: str, value: Any, stage: str, arguments: list[str], message: str
) -> None:
    settle(changed(path, value))
    assert message in stops(pipeline, stage, *arguments)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{broken"], "prompts.jsonl, line 7: not JSON"),
        ([json.dumps({"prompt": QUESTIONS[0], "competency": "knowledge"})], "is there twice"),
        ([json.dumps({"prompt": " ", "competency": "knowledge"})], "line 7: the prompt is empty"),
        (
            [json.dumps({"prompt": QUESTIONS[0], "competency": "knowledge", "split": "heldout"})],
            "is also a training prompt",
        ),
    ],
)
def test_wrong_prompts(pipeline: Path, rows: list[str], message: str) -> None:
    with Path("prompts.jsonl").open("a") as file:
        file.write("\n" + "\n".join(rows))
    assert message in stops(pipeline, "prompts")


def test_a_recorded_answer_to_an_unknown_prompt(pipeline: Path) -> None:
    with Path("models/ada/responses.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"prompt": "Who asked this?", "text": "Nobody."}))
    line = stops(pipeline, "generate", "ada")
    assert "responses.jsonl" in line
    assert prompts.prompt_id(asked("Who asked this?")) in line or "Who asked this?" in line


def test_a_table_whose_columns_are_wrong(pipeline: Path) -> None:
    path = pipeline / "data" / "kinship.parquet"
    pl.read_parquet(path).rename({"kinship": "kin"}).write_parquet(path)
    line = stops(pipeline, "jury")
    assert "kinship.parquet: column 'kinship' of table kinship is missing" in line


def test_pickled_weights(pipeline: Path) -> None:
    folder = pipeline / "models" / "eve"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    settle(changed("models.eve", {"path": "models/eve", "generator": "transformers", "sampling": {}}))
    assert "holds pickled weights (pytorch_model.bin)" in stops(pipeline, "generate", "eve")


def test_a_model_that_params_do_not_name(pipeline: Path) -> None:
    assert "no model 'adda'. Did you mean 'ada'?" in stops(pipeline, "generate", "adda")


def test_code_that_is_not_the_locked_one(pipeline: Path) -> None:
    document = json.loads(Path("karma.lock.json").read_text())
    document["judge"]["reference"]["version"] = "0.0.1"
    Path("karma.lock.json").write_text(json.dumps(document))
    line = stops(pipeline, "judge", "reference")
    assert "version of 'reference' is" in line
    assert "karma lock" in line


@pytest.mark.filterwarnings("always::UserWarning")
def test_a_broken_plugin_that_is_not_used_is_a_warning(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = EntryPoint(name="faulty", value="nothing_of_that_name", group=manager.GROUP)
    monkeypatch.setattr(manager, "_installed", lambda: [entry])
    done = run("curriculum")
    assert done.exit_code == 0, done.output
    assert "Warning: " in done.stderr
    assert "entry point 'faulty = nothing_of_that_name' can't be imported" in done.stderr


def test_debug_shows_the_traceback(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARMA_DEBUG", "1")
    settle(changed("curriculum.pairing", "kinn"))
    done = run("curriculum")
    assert type(done.exception).__name__ == "PluginError"


def test_a_single_model_has_no_kin_and_is_no_error(pipeline: Path) -> None:
    settle(changed("models.bob", None))
    done = run("kinship")
    assert done.exit_code == 0, done.output
    assert tables.read("data/kinship.parquet", schemas.KINSHIP).is_empty()


def test_a_judge_that_params_do_not_name(pipeline: Path) -> None:
    assert "no judge 'refrence'. Did you mean 'reference'?" in stops(pipeline, "judge", "refrence")


def test_a_judge_that_reads_what_dvc_does_not_watch(pipeline: Path) -> None:
    """Each of its files, and the kinship table where it compares kin alone."""
    Path("dvc.yaml").write_text(
        "stages: {judge: {foreach: '${judge.judges}', do: {cmd: x, deps: ['${item.reads}']}}}"
    )
    Path("far.yaml").write_text("endpoint: http://127.0.0.1:9/v1\nmodel: x\n")
    entry = {"plugin": "llm-pairwise", "reads": "prompts.jsonl", "model": "far.yaml"}
    settle(changed("judge.judges.far", entry))
    assert "dvc.yaml, judge: 'far.yaml', which judge far reads, is no dep" in stops(pipeline, "judge", "far")
    settle(changed("judge.judges.far", entry | {"reads": "far.yaml", "kin_radius": 0.5}))
    assert "judge: 'data/kinship.parquet', which judge far reads" in stops(pipeline, "judge", "far")


def test_a_launch_that_dvc_does_not_watch_or_accelerate_does_not_take(pipeline: Path) -> None:
    Path("dvc.yaml").write_text("stages: {train: {cmd: x, deps: [data/pairs]}}")
    Path("two.yaml").write_text("{distributed_type: 'NO', use_cpu: true, num_processes: 2}")
    settle(changed("train.accelerate", "two.yaml"))
    assert "dvc.yaml, train: 'two.yaml', which train reads, is no dep of it" in stops(pipeline, "train")
    settle(changed("train.accelerate", {"use_cpu": True, "num_procs": 2}))
    assert "params.yaml, train.accelerate: accelerate does not take this" in stops(pipeline, "train")


def test_a_removed_judge_is_gone_from_the_jury(pipeline: Path) -> None:
    settle(changed("judge.judges.loose", {"plugin": "reference", "match": "numeric"}))
    for stage, *arguments in (("judge", "loose"), ("jury",)):
        assert run(stage, *arguments).exit_code == 0
    assert set(pl.read_parquet("data/jury/judges.parquet")["judge"]) == {"reference", "loose"}
    settle(SETTINGS)
    assert run("jury").exit_code == 0
    assert set(pl.read_parquet("data/jury/judges.parquet")["judge"]) == {"reference"}
    assert set(pl.read_parquet("data/jury/rewards.parquet")["judges"]) == {"reference"}


def test_a_removed_model_is_gone_from_gathered_tables(pipeline: Path) -> None:
    settings = changed("models.bob", None)
    settings["models"]["cleo"] = SETTINGS["models"]["bob"]
    settle(settings)
    import shutil

    shutil.copytree("models/bob", "models/cleo")
    row = tables.read("models/bob/scores.parquet", schemas.SCORES).with_columns(model=pl.lit("cleo"))
    tables.write(row, "models/cleo/scores.parquet", schemas.SCORES)
    settings["models"]["cleo"] = {"path": "models/cleo", "generator": "recorded", "sampling": {}}
    settle(settings)
    stages: list[tuple[str, ...]] = [
        ("profile", "cleo"),
        ("generate", "cleo"),
        ("kinship",),
        ("judge", "reference"),
        ("jury",),
        ("curriculum",),
    ]
    for stage, *arguments in stages:
        done = run(stage, *arguments)
        assert done.exit_code == 0, done.output
    pairs = tables.read("data/pairs/data/train.parquet", schemas.PAIRS)
    kinship = tables.read("data/kinship.parquet", schemas.KINSHIP)
    found = {*pairs["chosen_model"], *pairs["rejected_model"], *kinship["model_a"], *kinship["model_b"]}
    assert found == {"ada", "cleo"}


def test_prompts_seen_in_evaluation_items_are_dropped_and_counted(pipeline):
    Path("items").mkdir()
    Path("items/task.jsonl").write_text(json.dumps({"question": QUESTIONS[0], "choices": ["a"]}))
    Path("items/more.txt").write_text(f"{QUESTIONS[1]}\n")
    settle(changed("prompts.seen", {"items": "items", "ngram": 5, "share": 1.0}))
    done = run("prompts")
    assert done.exit_code == 0, done.output
    assert "4 kept (4 train), 2 dropped as seen in evaluation items" in done.output
    left = tables.read("data/prompts.parquet", schemas.PROMPTS)["messages"]
    assert sorted(m[0]["content"] for m in left.to_list()) == sorted(QUESTIONS[2:])


def test_items_that_hold_every_prompt_or_can_not_be_read_stop(pipeline):
    Path("all.txt").write_text("\n".join(QUESTIONS))
    settle(changed("prompts.seen", {"items": "all.txt"}))
    assert "all 6 training prompts stand in all.txt" in stops(pipeline, "prompts")
    settle(changed("prompts.seen", {"items": "nowhere.jsonl"}))
    assert "'nowhere.jsonl': no such file" in stops(pipeline, "prompts")
