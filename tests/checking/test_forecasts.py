"""`karma check` says what servers will be asked: requests, tokens and money, and which caps that breaks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from karma_plugins import generation, models, params, prompts
from karma_plugins.cli import main as karma
from karma_plugins.registry import manager, selection
from karma_plugins.requesting.spending import ledger
from tests.chat_server import ChatServer, serving

PRICES = {"prompt_price": 1.0, "completion_price": 4.0}


@pytest.fixture
def pipeline(initialised: Callable[[str], Path]) -> Path:
    """A fresh pipeline of endpoints with eight training prompts of one word each."""
    folder = initialised("endpoint")
    rows = [{"prompt": f"word{i}", "competency": "knowledge", "reference": "yes"} for i in range(8)]
    rows.append({"prompt": "held", "competency": "knowledge", "split": "heldout"})
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def check(judges: dict[str, Any] | None = None, **sampling: Any) -> Result:
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["prompts"]["heldout"] = 0.0
    document["generate"]["samples"] = 1
    for model in document["models"].values():
        model["sampling"] = {"max_new_tokens": 30, **sampling}
    if judges is not None:
        document["judge"]["judges"], document["jury"] = judges, {}
    Path("params.yaml").write_text(yaml.safe_dump(document))
    return CliRunner().invoke(karma, ["check"])


def expected(result: Result, who: str) -> list[float]:
    """The numbers of the line about somebody, without those of the address."""
    lines = [line for line in result.output.splitlines() if line.startswith(f"To expect: {who}: ")]
    [line] = [line for line in lines if " requests to " in line]
    return [float(n) for n in re.findall(r"[\d.]+", re.sub(r"http\S+", "", line.split(f"{who}: ")[1]))]


def test_a_model_behind_an_endpoint(pipeline: Path) -> None:
    result = check(limits=PRICES)
    assert result.exit_code == 0, result.output
    requests, prompt, answer, cost = expected(result, "first")
    assert (requests, answer) == (8, 8 * 30)
    assert prompt == 8 * (2 + 8)
    assert cost == pytest.approx((prompt * 1.0 + answer * 4.0) / 1e6)
    assert not (pipeline / ".karma" / "requests").exists()


def test_what_is_kept_is_free(pipeline: Path) -> None:
    ledger.cache_clear()
    with serving(ChatServer()) as server:
        Path("models/first.yaml").write_text(f"endpoint: {server.url}\nmodel: echo\n")
        check()
        table = prompts.read(params.load("prompts", params.PromptsSection))
        model = models.load("first", "models/first.yaml")
        bound = selection.generator("endpoint", {"max_new_tokens": 30}, manager.load(), where="here")
        generation.generate(
            table.filter(split="train").head(3), model, bound, params.GenerateSection(samples=1)
        )
        assert expected(check(), "first")[:2] == [5, 3]
        assert sum(server.tries.values()) == 3


def test_a_cap_that_breaks_is_an_error_before_anything_is_sent(pipeline: Path) -> None:
    result = check(limits={"max_requests": 7})
    assert result.exit_code == 1
    assert "models.first.sampling.limits: in all it may come to 8, and max_requests is 7" in result.stderr


def test_judges_behind_an_endpoint(pipeline: Path) -> None:
    """Two answers to each of eight prompts: 16 to be rated, and 8 pairs in two orders, 3 samples each."""
    shared = {"model": "models/first.yaml", "max_tokens": 50, "limits": {**PRICES, "max_requests": 20}}
    read = {"reads": "models/first.yaml", **shared}
    judges = {
        "llm-rubric": {"plugin": "llm-rubric", **read},
        "pairs": {"plugin": "llm-pairwise", "samples": 3, **read},
    }
    result = check(judges)
    assert result.exit_code == 0, result.output
    requests, prompt, answer, cost = expected(result, "judge llm-rubric")
    assert (requests, answer) == (16, 16 * 50)
    assert cost == pytest.approx((prompt * 1.0 + answer * 4.0) / 1e6)
    assert "judge pairs: at most 16 comparisons, pairs in both orders\n" in result.output
    pairs = expected(result, "judge pairs")
    assert pairs[:1] + pairs[2:3] == [48, 48 * 50]
    assert "judge.judges.pairs.limits: in all it may come to 48, and max_requests is 20" in result.stderr
    # A longer answer is another 16 times as many tokens to read.
    longer = expected(check(judges, max_new_tokens=130), "judge llm-rubric")
    assert longer[1] - prompt == 16 * 100


def test_judges_of_the_evaluation(pipeline: Path) -> None:
    """One held-out prompt, two samples by two models: four answers to rate, four pairs in two orders."""
    shared = {"model": "models/first.yaml", "max_tokens": 50, "limits": {**PRICES, "max_requests": 5}}
    judges = {"llm-rubric": shared, "pairs": {"plugin": "llm-pairwise", **shared}}
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["evaluate"] |= {"judges": judges, "samples": 2}
    Path("params.yaml").write_text(yaml.safe_dump(document))
    result = check()
    assert expected(result, "evaluate, judge llm-rubric")[::2][:2] == [4, 4 * 50]
    assert expected(result, "evaluate, judge pairs")[::2][:2] == [8, 8 * 50]
    assert "evaluate.judges.pairs.limits: in all it may come to 8, and max_requests is 5" in result.stderr


def test_without_held_out_prompts_that_alone_is_said(pipeline: Path) -> None:
    rows = [row for row in Path("prompts.jsonl").read_text().splitlines() if "heldout" not in row]
    Path("prompts.jsonl").write_text("\n".join(rows))
    result = check()
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if "held" in line] == result.stderr.splitlines()[:1]


def test_a_judge_whose_key_is_not_set(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEY_OF_NOBODY", raising=False)
    Path("models/judge.yaml").write_text(
        "endpoint: http://127.0.0.1:9/v1\nmodel: x\napi_key_env: KEY_OF_NOBODY\n"
    )
    result = check({"llm-rubric": {"model": "models/judge.yaml"}})
    assert result.exit_code == 1
    assert "environment variable KEY_OF_NOBODY is not set" in result.stderr
