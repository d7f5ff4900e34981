"""Kills the work of a stage again and again, then lets it end; run by test_kills.py in a process of its own.

usage: kill_stages.py STAGE FOLDER MOMENTS SEED with FOLDER/base a model; prints as JSON how many kills hit,
how the killed ended, and what a calm run and the killed one wrote.

Every attempt is a fork of a process that has imported all and done nothing. A third of the kills each are
SIGKILL, SIGTERM and SIGINT, at random moments of the time that a calm run takes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft  # noqa: F401 (imported once, before the forks)
import polars as pl
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401
from trl import DPOTrainer, RewardTrainer, RLOOTrainer  # noqa: F401

from karma_plugins import console, evaluation, generation, models, schemas, tables, training
from karma_plugins.contracts import Judge, Profile, Profiler
from karma_plugins.generation.generators import transformers as sampling
from karma_plugins.judging.deciding import decide
from karma_plugins.judging.hearing import heard
from karma_plugins.judging.judges import likelihood, reference
from karma_plugins.params import EvaluateSection, GenerateSection, JudgeEntry, JurySection, TrainSection
from karma_plugins.registry import Bound, Juror, Origin
from karma_plugins.runtime.shards import ShardCache
from karma_plugins.schemas import ITEMS, SCORES
from tests.judging import jury_cases as cases
from tests.training.preferences import objective, pairs

HERE = Origin("tests", "0")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
#: Seconds after which an attempt counts as one that hangs.
ENDLESS = 240


def _cache(folder: Path, stage: str) -> ShardCache:
    return ShardCache(folder / ".karma" / "shards" / stage)


def _prompts(split: str = "train") -> pl.DataFrame:
    return cases.prompts(24).with_columns(split=pl.lit(split))


def generate(folder: Path) -> None:
    plugin = sampling.karma_register_generators()[0]
    options = sampling.TransformersOptions(max_new_tokens=16, batch_size=2)
    answers = generation.generate(
        _prompts(), models.load("base", folder / "base"), Bound("transformers", plugin, options, HERE),
        GenerateSection(samples=2, shard=4), shards=_cache(folder, "generate"),
    )  # fmt: skip
    tables.write(answers, folder / "data" / "responses.parquet", schemas.RESPONSES)


def _answers() -> pl.DataFrame:
    return cases.responses(
        (f"p{i:04d}", model, f"{model} {'says ' * (i % 5)}{i}") for i in range(24) for model in "abc"
    )


def judge(folder: Path) -> None:
    plugin = likelihood.karma_register_judges()[0]
    options = likelihood.LikelihoodOptions(model=str(folder / "base"), batch_size=2)
    verdicts = heard(
        _prompts(), _answers(), Bound("likelihood", plugin, options, HERE), JudgeEntry(shard=4),
        shards=_cache(folder, "judge"),
    )  # fmt: skip
    tables.write_verdicts(verdicts, folder / "data" / "verdicts")


def jury(folder: Path) -> None:
    def score(answers: Any, _: Any) -> list[float]:
        return [len(answer.text) % 7 / 7 for answer in answers]

    verdicts = list(
        heard(_prompts(), _answers(), cases.bound(Judge(name="length", score=score)), JudgeEntry())
    )
    tables.write_verdicts(verdicts, folder / "heard" / "length")
    for _ in range(6):  # a moment long enough to be met
        decided = decide(
            _answers().lazy(), tables.scan_verdicts({"length": folder / "heard" / "length"}),
            cases.kinship({}), JurySection(),
        )  # fmt: skip
        tables.write(decided.rewards, folder / "data" / "jury" / "rewards.parquet", schemas.REWARDS)
        tables.write(decided.bias, folder / "data" / "jury" / "bias.parquet", schemas.BIAS)
        tables.write_json(decided.counts, folder / "data" / "jury.json")


def train(folder: Path, name: str = "dpo") -> None:
    done = training.train(
        pairs(24, phases=2), models.load("base", folder / "base"), objective(name),
        TrainSection(base="base", batch_size=4, epochs=2, checkpoint_steps=2, learning_rate=1e-3),
        output=folder / "data" / "model", checkpoints=folder / ".karma" / "train",
    )  # fmt: skip
    tables.write_json(done.metrics, folder / "data" / "train.json")
    tables.write_csv(done.curve, folder / "data" / "train.csv")


def evaluate(folder: Path) -> None:
    def profile(model: Any, wanted: Any, _: Any) -> Profile:
        row = (model.name, "sums", "t", "acc", 0.5, 0.1, 10)
        return Profile(pl.DataFrame([row], schema=SCORES.columns, orient="row"), ITEMS.empty())

    plugin = sampling.karma_register_generators()[0]
    options = sampling.TransformersOptions(max_new_tokens=16, batch_size=2)
    judges = {"reference": JudgeEntry()}
    result = evaluation.evaluate(
        models.load("base", folder / "base"), models.load("aligned", folder / "other"), _prompts("heldout"),
        [Juror(cases.bound(reference.karma_register_judges()[0]))],
        cases.bound(Profiler(name="fixed", profile=profile)), {"sums": ["t"]},
        Bound("transformers", plugin, options, HERE), EvaluateSection(judges=judges, bootstrap=100),
        shards=_cache(folder, "evaluate"),
    )  # fmt: skip
    tables.write(result.answers, folder / "data" / "heldout.parquet", schemas.HELDOUT)
    tables.write_json(result.metrics, folder / "data" / "evaluate.json")


STAGES: dict[str, Callable[[Path], None]] = {
    "generate": generate, "judge": judge, "jury": jury, "train": train, "evaluate": evaluate,
}  # fmt: skip


def hashes(folder: Path) -> dict[str, str]:
    """Of every file below the folder of outs."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for path in sorted((folder / "data").rglob("*"))
        if path.is_file()
    }


def forked(work: Callable[[Path], None], folder: Path) -> int:
    """Begin an attempt; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with (folder / "said").open("a") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        torch.set_num_threads(1)
        os.environ["DVC_ROOT"] = str(folder)
        warnings.simplefilter("always")
        console.guard(work, folder)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:  # before or after the guard, where a process of its own has `interruptible`
        code = console.INTERRUPTED
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fresh(folder: Path, source: Path) -> Path:
    """An empty folder of work with the models of the source."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("base", "other"):
        (folder / name).symlink_to(source / name)
    return folder


def main(stage: str, source: Path, moments: int, seed: int) -> dict[str, Any]:
    work, draw = STAGES[stage], random.Random(seed)
    calm = fresh(source / "calm", source)
    begun = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(forked(work, calm), 0)[1]) == 0, (calm / "said").read_text()
    took = time.monotonic() - begun
    folder, ends, hits, faults = fresh(source / "killed", source), Counter[str](), 0, []
    attempts = 0
    while hits < moments and attempts < 4 * moments:
        attempts += 1
        signum = SIGNALS[hits % len(SIGNALS)]
        child = forked(work, folder)
        time.sleep(draw.random() * took)
        os.kill(child, signum)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:  # it had ended: once more from the beginning
            faults += [f"{stage}: other bytes"] if hashes(folder) != hashes(calm) else []
            folder = fresh(folder, source)
            continue
        hits += 1
        ends[f"{signum.name} {code}"] += 1
        if code not in (-signum, 130 if signum == signal.SIGINT else -signum):
            faults.append(f"{stage}: {signum.name} ended with {code}: {(folder / 'said').read_text()[-300:]}")
    code = os.waitstatus_to_exitcode(os.waitpid(forked(work, folder), 0)[1])
    said = (folder / "said").read_text()
    if code:
        faults.append(f"{stage}: ended with {code}: {said[-500:]}")
    faults += [f"{stage}: a traceback: {said[-900:]}"] if "Traceback" in said else []
    faults += [f"{stage}: {name} is left" for name in map(str, (folder / "data").rglob("*.partial"))]
    same = hashes(folder) == hashes(calm)
    return {"hits": hits, "seconds": took, "ends": ends, "same": same, "faults": faults,
            "damaged": said.count("damaged"), "files": len(hashes(calm))}  # fmt: skip


if __name__ == "__main__":
    name, place, count, number = sys.argv[1:]
    sys.stdout.write(json.dumps(main(name, Path(place), int(count), int(number))))
