from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from karma_plugins import generation, models, schemas
from karma_plugins.contracts import Request
from karma_plugins.errors import ModelError, ParamsError
from karma_plugins.generation.generators import endpoint
from karma_plugins.generation.generators.endpoint import EndpointOptions, generate
from karma_plugins.params import GenerateSection, validate
from karma_plugins.prompts import prompt_id
from karma_plugins.registry import Bound
from karma_plugins.registry.manager import OURS
from karma_plugins.requesting.spending import ledger
from tests.chat_server import ChatServer, serving
from tests.tiny import write_model

REPOSITORY = Path(__file__).resolve().parent.parent.parent.parent
QUICK = EndpointOptions(max_new_tokens=8, limits={"backoff": 0.001, "retries": 1, "concurrency": 4})


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """Answers are kept in a folder of the test's own, and nothing has been spent."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    ledger.cache_clear()


def write_prompts(path: Path, count: int) -> pl.DataFrame:
    messages = [[{"role": "user", "content": f"question {i}"}] for i in range(count)]
    rows = {
        "prompt_id": [prompt_id(m) for m in messages],
        "messages": messages,
        "competency": ["knowledge"] * count,
        "reference": [None] * count,
        "constraints": [None] * count,
        "split": ["train"] * count,
    }
    table = pl.DataFrame(rows, schema=schemas.PROMPTS.columns)
    table.write_parquet(path)
    return table


def descriptor(folder: Path, url: str, model: str) -> Path:
    path = folder / "far.yaml"
    path.write_text(f"endpoint: {url}\nmodel: {model}\n", encoding="utf-8")
    return path


def test_answers_and_failures_of_a_server_become_rows(tmp_path):
    def plan(body, tries):
        return "refusal" if body["messages"][-1]["content"].endswith("3") else None

    prompts = write_prompts(tmp_path / "prompts.parquet", 10)
    bound = Bound("endpoint", endpoint.karma_register_generators()[0], QUICK, OURS)
    with serving(ChatServer(plan)) as server:
        model = models.load("far", descriptor(tmp_path, server.url, "echo-1"))
        table = generation.generate(prompts, model, bound, GenerateSection(samples=2))
        again = generation.generate(prompts, model, bound, GenerateSection(samples=2))
    assert table.height == 20
    assert table["error"].drop_nulls().to_list() == ["refusal: I can't help with that."] * 2
    assert table["seed"].null_count() == 0
    assert table["completion_tokens"].drop_nulls().to_list() == [7] * 18
    assert again.equals(table)
    assert sum(server.tries.values()) == 20 + 2


def test_the_request_says_what_the_options_say(tmp_path):
    options = EndpointOptions(
        temperature=0.5, top_p=0.9, max_new_tokens=None, stop=("\n",), extra={"top_k": 5}
    )
    with serving(ChatServer()) as server:
        model = models.load("far", descriptor(tmp_path, server.url, "echo-1"))
        generate(model, [Request("a", [{"role": "user", "content": "hi"}], 0, seed=2**62 + 5)], options)
    (sent,) = server.tries
    for part in (
        '"temperature": 0.5',
        '"top_p": 0.9',
        '"stop": ["\\n"]',
        '"top_k": 5',
        '"seed": 5',
        '"model": "echo-1"',
    ):
        assert part in sent
    assert "max_tokens" not in sent


def test_options_are_checked_inside_limits_too():
    with pytest.raises(ParamsError, match="unknown key 'limits.max_request'.* Did you mean 'max_requests'"):
        validate(EndpointOptions, {"limits": {"max_request": 3}}, where="test")
    with pytest.raises(ParamsError, match="max_cost needs"):
        validate(EndpointOptions, {"limits": {"max_cost": 3}}, where="test")


def test_a_model_that_is_no_endpoint_says_so(tmp_path):
    (tmp_path / "responses.jsonl").write_text("")
    with pytest.raises(ModelError, match="needs a descriptor with 'endpoint'"):
        generate(models.load("near", tmp_path), [], QUICK)


STAGE = """
import sys
from pathlib import Path
import polars as pl
from karma_plugins import generation, models, tables
from karma_plugins.generation.generators import endpoint
from karma_plugins.registry.manager import OURS
from karma_plugins.params import GenerateSection
from karma_plugins.registry import Bound

folder = Path(sys.argv[1])
options = endpoint.EndpointOptions(temperature=0.0, max_new_tokens=8, limits={"concurrency": 4})
table = generation.generate(
    pl.read_parquet(folder / "prompts.parquet"), models.load("far", folder / "far.yaml"),
    Bound("endpoint", endpoint.karma_register_generators()[0], options, OURS), GenerateSection(samples=2),
)
tables.write(table, Path(sys.argv[2]), generation.RESPONSES)
"""


def stage(folder: Path, out: Path, root: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"DVC_ROOT": str(root), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([sys.executable, "-c", STAGE, folder, out], env=environment)


@pytest.mark.skipif(find_spec("openai") is None, reason="needs `pip install transformers[serving]`")
def test_transformers_serve_and_a_kill_in_mid_run(tmp_path):
    """After a kill no finished request is sent again, and the bytes are those of an undisturbed run."""
    weights = write_model(tmp_path / "weights")
    write_prompts(tmp_path / "prompts.parquet", 40)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-c", "from transformers.cli.transformers import main; main()",
        "serve", "--host", "127.0.0.1", "--port", str(port), str(weights),
    ]  # fmt: skip
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    descriptor(tmp_path, f"http://127.0.0.1:{port}/v1", str(weights))
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert server.stdout is not None
            lines = iter(server.stdout)
            next(line for line in lines if "running on" in line)
            answered = (line for line in lines if "POST /v1/chat/completions" in line and " 200" in line)
            first = stage(tmp_path, tmp_path / "out.parquet", tmp_path / "root")
            for _ in range(30):
                next(answered)
            first.send_signal(signal.SIGKILL)
            first.wait()
            assert stage(tmp_path, tmp_path / "out.parquet", tmp_path / "root").wait() == 0
            assert stage(tmp_path, tmp_path / "whole.parquet", tmp_path / "other").wait() == 0
        finally:
            server.kill()
        sent = 30 + sum(1 for _ in answered)
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table["text"].null_count() < table.height
    # 80 by the undisturbed run, 80 by the killed one and its second half, and what a kill caught on its way.
    assert 160 <= sent <= 160 + 8
