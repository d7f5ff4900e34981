"""lm-eval on a model behind an endpoint: tasks that generate run, others stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from karma_plugins import models
from karma_plugins.contracts import Model
from karma_plugins.errors import ParamsError, RequestError
from karma_plugins.profiling.profilers.lm_eval import LmEvalOptions, profile
from tests.chat_server import ChatServer, serving

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: items.jsonl}}}}
test_split: test
output_type: {kind}
doc_to_text: question
doc_to_target: answer
metric_list:
  - {{metric: {metric}, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LmEvalOptions:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    rows = [{"question": word, "answer": "echo parrot"} for word in ("parrot", "lion", "parrot ")]
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    kinds = (("says", "generate_until", "exact_match"), ("picks", "multiple_choice", "acc"))
    for name, kind, metric in kinds:
        options = "doc_to_choice: [echo parrot, lion]\n" if kind == "multiple_choice" else ""
        (folder / f"{name}.yaml").write_text(options + TASK.format(name=name, kind=kind, metric=metric))
    limits = {"retries": 0, "backoff": 0.0}
    return LmEvalOptions.model_validate({"include_path": str(folder), "own_tasks": False, "limits": limits})


def served(url: str, folder: Path) -> Model:
    (folder / "echo.yaml").write_text(f"endpoint: {url}\nmodel: echo\n")
    return models.load("echo", folder / "echo.yaml")


def test_tasks_that_generate_are_scored(options: LmEvalOptions, tmp_path: Path) -> None:
    with serving(ChatServer()) as server:
        found = profile(served(server.url, tmp_path), {"speech": ["says"]}, options)
    assert found.scores.row(0, named=True)["score"] == pytest.approx(1 / 3)
    assert sorted(found.items["correct"]) == [0.0, 0.0, 1.0]


def test_tasks_that_compare_likelihoods_stop(options: LmEvalOptions, tmp_path: Path) -> None:
    with (
        serving(ChatServer()) as server,
        pytest.raises(ParamsError, match=r"'picks' compares log-likelihoods.*'echo'"),
    ):
        profile(served(server.url, tmp_path), {"speech": ["picks"]}, options)


def test_a_failed_request_is_no_wrong_answer(options: LmEvalOptions, tmp_path: Path) -> None:
    faulty = ChatServer(lambda body, tries: "HTML" if "lion" in str(body) else None)
    with serving(faulty) as server:
        with pytest.raises(RequestError, match="1 of 3 requests .* failed"):
            profile(served(server.url, tmp_path), {"speech": ["says"]}, options)
        asked = sum(server.tries.values())
        server.plan = lambda body, tries: None
        found = profile(served(server.url, tmp_path), {"speech": ["says"]}, options)
        assert sum(server.tries.values()) == asked + 1, "finished answers are asked for again"
    assert found.scores.row(0, named=True)["n"] == 3
