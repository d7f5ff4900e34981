"""Plumbing: recorded answers and judgements of 8 models on 4,000 prompts to pairs.

Runs the own commands of stages generate, judge, jury and curriculum in a folder of their own, MLflow off:
first all in one process, from its start to its end, then each as the process that DVC starts. The first is
the figure that counts, the second says what a start costs. Prints prompts a second, and where the time goes.

    python benchmarks/plumbing.py [--prompts 4000] [--models 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
GOAL = 3000
JUDGES = ("first", "second")
WORDS = ("the", "model", "answers", "a", "question", "about", "some", "thing", "that", "it", "has", "read")
#: One process for all stages; prints the processor seconds of each as JSON.
TOGETHER = """
import json, sys, time
begun = time.process_time()
from stages import curriculum, generate, judge, jury
took = {"imports": time.process_time() - begun}
for name, command, arguments in [
    *[("generate", generate, [model]) for model in sys.argv[1:]],
    ("judge", judge, ["first"]),
    ("judge", judge, ["second"]),
    ("jury", jury, []),
    ("curriculum", curriculum, []),
]:
    begun = time.process_time()
    command.main.main(arguments, standalone_mode=False)
    took[name] = took.get(name, 0.0) + time.process_time() - begun
print(json.dumps(took))
"""


def main() -> None:
    """Prepare the folder, run both ways, print."""
    parser = argparse.ArgumentParser(description="Recorded answers and judgements to pairs.")
    parser.add_argument("--prompts", type=int, default=4000)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    models = [f"model-{i}" for i in range(asked.models)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, models, asked.prompts)
        runs = [together(folder, models) for _ in range(asked.rounds)]
        best, processor, took = min(runs, key=lambda run: run[0])
        print(f"{asked.prompts} prompts, {asked.models} models, {len(JUDGES)} judges; best of {asked.rounds}")
        print(f"one process: {best:.2f} s, {asked.prompts / best:,.0f} prompts a second (goal {GOAL:,})")
        print(f"  processor time, which other work on the machine changes less: {processor:.2f} s, of which")
        took["start and end of Python"] = processor - sum(took.values())
        for stage, seconds in took.items():
            print(f"  {stage}: {seconds:.2f} s")
        alone = apart(folder, models)
        total = sum(alone.values())
        rate = asked.prompts / total
        print(f"a process each, one after the other: {total:.2f} s, {rate:,.0f} prompts a second")
        for stage, seconds in alone.items():
            print(f"  {stage}: {seconds:.2f} s")
        pairs = json.loads((folder / "metrics/curriculum.json").read_text())["pairs"]
        print(f"pairs: {pairs}")


def prepare(folder: Path, models: list[str], prompts: int) -> None:
    """Write what the stages read: an imported folder, params, the lock, table prompts and table kinship."""
    import polars as pl

    from karma_plugins import tables
    from karma_plugins.importers.recorded_folder import RecordedFolder
    from karma_plugins.schemas import KINSHIP

    draw = random.Random(0)
    found = RecordedFolder("plumbing", [])
    for model in models:
        found.add_model(model)
    for i in range(prompts):
        prompt = found.add_prompt([{"role": "user", "content": f"{i}: {_text(draw, 20)}?"}], "instruction")
        for model in models:
            answer = found.add_answer(prompt, model, _text(draw, 100))
            for judge in JUDGES if answer else ():
                found.add_judgement(prompt, answer or "", judge, draw.random())
    found.write(folder / "imported")
    (folder / "params.yaml").write_text(_params(models))
    (folder / "stages").symlink_to(REPOSITORY / "stages")
    kinship = pl.DataFrame(
        [
            ("capability", None, a, b, draw.random(), None, None, None, None, False, None, None, "0", True)
            for a, b in combinations(models, 2)
        ],
        schema=KINSHIP.columns,
        orient="row",
    )
    tables.write(kinship, folder / "data/kinship.parquet", KINSHIP)
    _run(folder, [sys.executable, "-m", "karma_plugins", "lock"])
    _run(folder, [sys.executable, "-m", "stages.prompts"])


def together(folder: Path, models: list[str]) -> tuple[float, float, dict[str, float]]:
    """Seconds, and processor seconds, of one process that runs all stages; the latter of its parts too."""
    begun, busy = time.perf_counter(), _processor()
    told = _run(folder, [sys.executable, "-c", TOGETHER, *models])
    return time.perf_counter() - begun, _processor() - busy, json.loads(told.splitlines()[-1])


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def apart(folder: Path, models: list[str]) -> dict[str, float]:
    """Seconds of each stage, as DVC runs it."""
    commands = {f"generate@{model}": ["stages.generate", model] for model in models}
    commands |= {f"judge@{judge}": ["stages.judge", judge] for judge in JUDGES}
    commands["jury"] = ["stages.jury"]
    commands["curriculum"] = ["stages.curriculum"]
    took = {}
    for stage, command in commands.items():
        begun = time.perf_counter()
        _run(folder, [sys.executable, "-m", *command])
        took[stage] = time.perf_counter() - begun
    return took


def _run(folder: Path, command: list[str]) -> str:
    environment = {**os.environ, "KARMA_TRACKING": "off"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} failed: {done.stderr.strip()}")
    return done.stdout


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def _params(models: list[str]) -> str:
    entries = "\n".join(f"  {m}: {{path: imported/models/{m}, generator: recorded}}" for m in models)
    judges = "\n".join(f"    {judge}: {{plugin: recorded, reads: imported/verdicts}}" for judge in JUDGES)
    return f"""
prompts: {{path: imported/prompts.jsonl}}
models:
{entries}
generate: {{samples: 1}}
judge:
  judges:
{judges}
jury: {{}}
curriculum: {{pairing: kin, pairings: {{kin: {{radius: 0.5}}}}, margin: 0.1, per_prompt: 1, phases: 3}}
"""


if __name__ == "__main__":
    main()
