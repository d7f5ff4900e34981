"""Judges as stages of their own: what each costs, counted at their server, in a clone that was restored."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from karma_plugins import schemas, tables
from karma_plugins.registry import lock, manager
from tests.chat_server import ChatServer, serving
from tests.judging import jury_cases as cases

DVC = [sys.executable, "-m", "dvc"]
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
MODELS = ("ada", "bob", "cleo")
PROMPTS = 3


def rated(said: str) -> str:
    """A verdict on whatever is shown, by its case number."""
    case = re.search(r'"case": "(\w+)"', said)
    assert case is not None
    if '"winner"' in said:
        return json.dumps({"case": case[1], "winner": "first"})
    aspects = re.findall(r'"(\w+)": "a number', said)
    return json.dumps({"case": case[1], **dict.fromkeys(aspects, 4)})


def settings(url: str) -> dict[str, Any]:
    Path("models").mkdir(exist_ok=True)
    for name in ("one", "two", "three"):
        Path(f"models/{name}.yaml").write_text(f"endpoint: {url}\nmodel: {name}\n")
    return {
        "models": {model: {"path": f"models/{model}"} for model in MODELS},
        "judge": {
            "judges": {
                "one": {"plugin": "llm-rubric", "reads": "models/one.yaml", "model": "models/one.yaml"},
                "two": {"plugin": "llm-pairwise", "reads": "models/two.yaml", "model": "models/two.yaml"},
            }
        },
        "jury": {"weights": {"one": 1.0}},
    }


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def ran() -> set[str]:
    """Reproduce, and say which stages ran."""
    return set(re.findall(r"Running stage '([^']+)'", run(*DVC, "repro")))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(ChatServer(speak=rated)) as server:
        yield server


@pytest.fixture
def clone(server: ChatServer, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a finished pipeline of two judges, restored from a remote, without what `.karma` keeps."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("KARMA_TRACKING", "off")
    first, second, remote = (tmp_path / name for name in ("first", "second", "remote"))
    first.mkdir()
    monkeypatch.chdir(first)
    run(*GIT, "init", "-q")
    run(*DVC, "init", "-q")
    run(*DVC, "remote", "add", "-q", "-d", "store", str(remote))
    stages = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    Path("dvc.yaml").write_text(
        yaml.safe_dump({"stages": {name: stages[name] for name in ("judge", "jury")}})
    )
    Path("stages").symlink_to(repository / "stages")
    Path(".gitignore").write_text("/data/verdicts/\n/data/jury/\n/.karma/\n")
    Path("params.yaml").write_text(yaml.safe_dump(settings(server.url)))
    registry = manager.load()
    lock.accept(registry)
    answers = cases.responses((f"p{i:04d}", m, f"{m} says {i}") for i in range(PROMPTS) for m in MODELS)
    tables.write(cases.prompts(PROMPTS), "data/prompts.parquet", schemas.PROMPTS)
    tables.write(cases.kinship({}), "data/kinship.parquet", schemas.KINSHIP)
    for model in MODELS:
        tables.write(answers.filter(model=model), f"data/responses/{model}.parquet", schemas.RESPONSES)
    assert ran() == {"judge@one", "judge@two", "jury"}
    run(*DVC, "push", "-q")
    run(*GIT, "add", ".")
    run(*GIT, "commit", "-qm", "finished")
    run(*GIT, "clone", "-q", str(first), str(second))
    monkeypatch.chdir(second)
    run(*DVC, "pull", "-q")
    assert not Path(".karma").exists()
    server.answered.clear()
    return second


def asked(server: ChatServer) -> dict[str, int]:
    """How many requests each judging model answered since the last look."""
    counts: dict[str, int] = {}
    for body, count in server.answered.items():
        model = json.loads(body)["model"]
        counts[model] = counts.get(model, 0) + count
    server.answered.clear()
    return counts


def test_each_change_costs_the_judge_that_it_is_about(clone: Path, server: ChatServer) -> None:
    assert ran() == set()
    params = settings(server.url)
    judges = params["judge"]["judges"]
    judges["three"] = judges["one"] | {"reads": "models/three.yaml", "model": "models/three.yaml"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert ran() == {"judge@three", "jury"}
    assert asked(server) == {"three": PROMPTS * len(MODELS)}
    assert set(pl.read_parquet("data/jury/judges.parquet")["judge"]) == {"one", "two", "three"}

    params["jury"]["weights"] = {"one": 2.0, "three": 0.0}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert ran() == {"jury"}
    assert asked(server) == {}

    judges["two"]["compare_per_prompt"] = 1
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert ran() == {"judge@two", "jury"}
    assert set(asked(server)) == {"two"}

    del judges["one"], params["jury"]["weights"]["one"]
    params["jury"]["weights"]["three"] = 1.0
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert ran() == {"jury"}
    assert set(pl.read_parquet("data/jury/judges.parquet")["judge"]) == {"two", "three"}
    assert asked(server) == {}
