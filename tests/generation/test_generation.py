from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

from karma_plugins import generation, models
from karma_plugins.contracts import Generator, Model, Options, Reply
from karma_plugins.errors import EmptyResultError, ModelError, PluginError
from karma_plugins.params import GenerateSection
from karma_plugins.prompts import prompt_id
from karma_plugins.registry import Bound
from karma_plugins.registry.manager import OURS
from karma_plugins.runtime.shards import ShardCache
from karma_plugins.schemas import PROMPTS, RESPONSES
from karma_plugins.tables import check
from tests.tiny import write_model


def prompts_of(texts, split="train") -> pl.DataFrame:
    messages = [[{"role": "user", "content": text}] for text in texts]
    rows = {
        "prompt_id": [prompt_id(m) for m in messages],
        "messages": messages,
        "competency": ["knowledge"] * len(texts),
        "reference": [None] * len(texts),
        "constraints": [None] * len(texts),
        "split": [split] * len(texts),
    }
    return pl.DataFrame(rows, schema=PROMPTS.columns).sort("prompt_id")


PROMPTS_TABLE = prompts_of([f"{'word ' * (i % 7)}question {i}" for i in range(10)])


def bound(generate, options=None, **flags) -> Bound[Generator]:
    plugin = Generator(name="parrot", generate=generate, **flags)
    return Bound("parrot", plugin, options or Options(), OURS)


def parrot(model, requests, options):
    return [Reply(f"{r.messages[-1]['content']}/{r.sample}/{r.seed}", "stop") for r in requests]


@pytest.fixture
def model(tmp_path) -> Model:
    path = tmp_path / "descriptor.yaml"
    path.write_text("endpoint: http://127.0.0.1:1/v1\nmodel: x\n")
    return models.load("polly", path)


def test_a_row_for_each_prompt_and_sample(model):
    table = generation.generate(PROMPTS_TABLE, model, bound(parrot), GenerateSection(samples=3))
    check(table, RESPONSES, where="test")
    assert table.height == 30
    assert table.equals(table.sort(RESPONSES.key))
    assert table["seed"].n_unique() == 30
    assert table["response_id"].n_unique() == 30
    assert set(table["model"]) == {"polly"}


def test_order_and_shards_of_prompts_change_nothing(model):
    whole = generation.generate(PROMPTS_TABLE, model, bound(parrot), GenerateSection(samples=2))
    other = generation.generate(
        PROMPTS_TABLE.reverse(), model, bound(parrot), GenerateSection(samples=2, shard=3)
    )
    assert whole.equals(other)


def test_short_conversations_come_first():
    requests = generation.plan(PROMPTS_TABLE, "polly", GenerateSection())
    lengths = [len(r.messages[0]["content"]) for r in requests]
    assert lengths == sorted(lengths)


def test_only_the_asked_split(model):
    both = pl.concat([PROMPTS_TABLE, prompts_of(["held out"], "heldout")])
    assert generation.generate(both, model, bound(parrot), GenerateSection()).height == 10
    table = generation.generate(both, model, bound(parrot), GenerateSection(), split="heldout")
    assert table.height == 1
    with pytest.raises(EmptyResultError, match="heldout"):
        generation.generate(PROMPTS_TABLE, model, bound(parrot), GenerateSection(), split="heldout")


def test_a_failure_is_a_row_with_its_reason(model):
    def moody(model, requests, options):
        return [Reply(None, error="no mood") if r.sample else Reply("yes") for r in requests]

    table = generation.generate(PROMPTS_TABLE, model, bound(moody), GenerateSection(samples=2))
    check(table, RESPONSES, where="test")
    assert table["error"].null_count() == 10
    assert set(table.filter(pl.col("sample") == 1)["error"]) == {"no mood"}
    assert generation.summary(table)["failed"] == 10


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (lambda *_: [], "0 replies for 10 requests"),
        (lambda _, requests, __: [Reply(None) for _ in requests], "got neither"),
        (lambda _, requests, __: [Reply("a", error="b") for _ in requests], "got both"),
        (lambda *_: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_broken_generator_is_named(model, answers, message):
    with pytest.raises(PluginError, match=message) as caught:
        generation.generate(PROMPTS_TABLE, model, bound(answers), GenerateSection())
    assert "parrot" in str(caught.value)


def test_errors_that_a_user_can_mend_pass(model):
    def refuse(*_):
        raise ModelError("mend me")

    with pytest.raises(ModelError, match="mend me"):
        generation.generate(PROMPTS_TABLE, model, bound(refuse), GenerateSection())


def test_finished_shards_are_used_again_and_unfinished_ones_made(model, tmp_path):
    calls: list[int] = []

    def fails_late(model, requests, options):
        calls.append(len(requests))
        if len(calls) == 3:
            raise ModelError("power cut")
        return parrot(model, requests, options)

    settings, shards = GenerateSection(shard=4), ShardCache(tmp_path / "shards")
    with pytest.raises(ModelError):
        generation.generate(PROMPTS_TABLE, model, bound(fails_late), settings, shards=shards)
    table = generation.generate(PROMPTS_TABLE, model, bound(fails_late), settings, shards=shards)
    assert calls == [4, 4, 2, 2]
    assert table.equals(generation.generate(PROMPTS_TABLE, model, bound(parrot), settings))


def test_other_options_and_other_bytes_of_the_model_make_shards_anew(model, tmp_path):
    class Loud(Options):
        volume: int = 1

    calls: list[int] = []

    def counted(model, requests, options):
        calls.append(options.volume)
        return parrot(model, requests, options)

    shards = ShardCache(tmp_path / "shards")
    for volume in (1, 1, 2):
        generation.generate(
            PROMPTS_TABLE, model, bound(counted, Loud(volume=volume)), GenerateSection(), shards=shards
        )
    assert calls == [1, 2]
    model.path.write_text(model.path.read_text() + "# changed\n")
    generation.generate(PROMPTS_TABLE, model, bound(counted, Loud()), GenerateSection(), shards=shards)
    assert calls == [1, 2, 1]


def test_what_costs_nothing_is_not_kept(model, tmp_path):
    shards = ShardCache(tmp_path / "shards")
    free = bound(parrot, keeps_shards=False)
    generation.generate(PROMPTS_TABLE, model, free, GenerateSection(shard=2), shards=shards)
    assert not (tmp_path / "shards").exists()


KILLED = """
import sys
from pathlib import Path
import polars as pl
from karma_plugins import generation, models, tables
from karma_plugins.generation.generators import transformers
from karma_plugins.registry.manager import OURS
from karma_plugins.params import GenerateSection
from karma_plugins.registry import Bound
from karma_plugins.runtime.shards import ShardCache

folder, out = map(Path, sys.argv[1:])
options = transformers.TransformersOptions(max_new_tokens=60, batch_size=4)
table = generation.generate(
    pl.read_parquet(folder / "prompts.parquet"), models.load("tiny", folder / "model"),
    Bound("transformers", transformers.karma_register_generators()[0], options, OURS),
    GenerateSection(samples=2, shard=4), shards=ShardCache(out.parent / "shards"),
)
tables.write(table, out, generation.RESPONSES)
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path):
    write_model(tmp_path / "model")
    PROMPTS_TABLE.write_parquet(tmp_path / "prompts.parquet")
    killed, whole = tmp_path / "killed" / "out.parquet", tmp_path / "whole" / "out.parquet"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(out):
        return subprocess.Popen([sys.executable, "-c", KILLED, tmp_path, out], env=environment)

    process = start(killed)
    shards = killed.parent / "shards"
    while process.poll() is None and len(list(shards.glob("*.shard"))) < 2:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    kept = {path: path.stat().st_mtime_ns for path in shards.glob("*.shard")}
    assert 2 <= len(kept) < 5
    again, undisturbed = start(killed), start(whole)
    assert again.wait() == undisturbed.wait() == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_where_every_answer_failed_the_first_reason_ends_the_stage(model):
    def mute(model, requests, options):
        return [Reply(None, error=f"{r.prompt_id} is refused") for r in requests]

    with pytest.raises(EmptyResultError, match=r"every one of 20 answers failed.*The first: .* is refused"):
        generation.generate(PROMPTS_TABLE, model, bound(mute), GenerateSection(samples=2))

    def nearly_mute(model, requests, options):
        return [Reply("yes"), *mute(model, requests[1:], options)]

    table = generation.generate(PROMPTS_TABLE, model, bound(nearly_mute), GenerateSection(samples=2))
    assert table["error"].null_count() >= 1
