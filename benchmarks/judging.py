"""Judging, the jury and the curriculum on many prompts: time and memory of each stage's own work, by size.

    python -m benchmarks.judging                              # 12,500, 25,000 and 50,000 prompts x 20 models
    python -m benchmarks.judging --prompts 400000 --models 10 --judge none     # jury and curriculum alone

A pairwise judge (`--judge compare`) whose verdicts are looked up hears kin answers only; a scoring one hears
every answer. Each stage runs in a fresh process on the tables that the one before wrote, as files of one
model each. Printed: seconds of processor time, the ratio to the size before (2 is linear), the most memory,
and what the judge was asked beside what `karma check` would forecast.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.curriculum import answers_tables, kinship_table, prompts_table

if TYPE_CHECKING:
    from karma_plugins.contracts import Answer, AnswerPair

RADIUS, SLICE = 0.5, 50_000
STAGES = ("judge", "jury", "curriculum")


def make(folder: Path, prompts: int, models: int, characters: int) -> None:
    """Made-up tables as the stages write them: prompts, one file of answers for each model, kinship."""
    import numpy as np
    import polars as pl

    from benchmarks.curriculum import WORDS
    from karma_plugins import schemas, tables

    random = np.random.default_rng(0)
    names = [f"model-{i:02d}" for i in range(models)]
    phrases = pl.Series([" ".join(random.choice(WORDS, characters // 5)) for _ in range(1000)])
    tables.write(kinship_table(random, names), folder / "kinship.parquet", schemas.KINSHIP)
    asked = pl.concat(
        prompts_table(random, start, min(SLICE, prompts - start)) for start in range(0, prompts, SLICE)
    ).sort("prompt_id")
    tables.write(asked, folder / "prompts.parquet", schemas.PROMPTS)
    for name in names:
        answers, _ = answers_tables(random, asked["prompt_id"], [name], phrases)
        tables.write(answers, folder / "responses" / f"{name}.parquet", schemas.RESPONSES)


def looked_up(text: str) -> float:
    """A verdict that costs nothing, with a tenth of ties."""
    import zlib

    return zlib.crc32(text.encode()) % 11 / 10


def score(answers: Sequence[Answer], _: Any) -> list[float]:
    """A number for each answer."""
    return [looked_up(answer.text) for answer in answers]


def compare(pairs: Sequence[AnswerPair], _: Any) -> list[float]:
    """How much more one answer's number is than the other's."""
    return [0.5 + (looked_up(pair.a.text) - looked_up(pair.b.text)) / 2 for pair in pairs]


def judge(folder: Path, how: str) -> dict[str, int]:
    """What stage judge does between reading and writing tables."""
    import polars as pl

    from karma_plugins import schemas, tables
    from karma_plugins.contracts import Judge
    from karma_plugins.judging.hearing import heard
    from karma_plugins.judging.pairs import kin_pairs
    from karma_plugins.params import JudgeEntry
    from karma_plugins.registry import Bound
    from karma_plugins.registry.manager import OURS
    from karma_plugins.runtime.shards import ShardCache

    plugin = Judge(name="made-up", **{how: {"score": score, "compare": compare}[how]})
    bound, entry = Bound("made-up", plugin, plugin.options(), OURS), JudgeEntry(kin_radius=RADIUS)
    prompts = tables.read(folder / "prompts.parquet", schemas.PROMPTS)
    kinship = tables.read(folder / "kinship.parquet", schemas.KINSHIP)
    files = sorted((folder / "responses").glob("*.parquet"))
    shards = ShardCache(folder / "shards")
    verdicts = heard(
        prompts, tables.scan_all(files, schemas.RESPONSES), bound, entry, kinship=kinship, shards=shards
    )
    tables.write_verdicts(verdicts, folder / "verdicts")
    said = tables.scan_verdicts({"made-up": folder / "verdicts"})["made-up"]
    table = said.judgements if how == "score" else said.comparisons
    asked = table.select(pl.len()).collect().item()
    models = [file.stem for file in files]
    expected = prompts.height * len(models)
    if how == "compare":
        expected = kin_pairs(prompts["competency"], models, 1, kinship, entry)
    return {"asked": asked, "forecast": expected}


def made_up_scores(folder: Path) -> None:
    """Table `judgements` of a judge that scored every answer."""
    import polars as pl

    from karma_plugins import schemas, tables

    files = sorted((folder / "responses").glob("*.parquet"))
    ids = tables.scan_all(files, schemas.RESPONSES).select("prompt_id", "response_id").collect()
    said = {"judge": "made-up", "version": "1", "status": "ok", "reason": None}
    tables.write(
        ids.with_columns(
            score=pl.col("response_id").hash() % 11 / 10,
            **{key: pl.lit(value, pl.String) for key, value in said.items()},
        ),
        folder / "verdicts" / "judgements.parquet",
        schemas.JUDGEMENTS,
    )
    tables.write(
        schemas.COMPARISONS.empty(), folder / "verdicts" / "comparisons.parquet", schemas.COMPARISONS
    )


def jury(folder: Path, _: str) -> dict[str, int]:
    """What stage jury does."""
    from karma_plugins import schemas, tables
    from karma_plugins.judging.deciding import decide
    from karma_plugins.params import JurySection

    files = sorted((folder / "responses").glob("*.parquet"))
    decided = decide(
        tables.scan_all(files, schemas.RESPONSES),
        tables.scan_verdicts({"made-up": folder / "verdicts"}),
        tables.read(folder / "kinship.parquet", schemas.KINSHIP),
        JurySection(),
    )
    tables.write(decided.rewards, folder / "rewards.parquet", schemas.REWARDS)
    return {"rewards": decided.rewards.height}


def curriculum(folder: Path, _: str) -> dict[str, int]:
    """What stage curriculum does."""
    from karma_plugins import curriculum, schemas, tables
    from karma_plugins.curriculum import dataset
    from karma_plugins.curriculum.pairings import kin
    from karma_plugins.params import CurriculumSection
    from karma_plugins.registry import Bound
    from karma_plugins.registry.manager import OURS

    settings = CurriculumSection(per_prompt=1, phases=3)
    pairing = Bound("kin", kin.karma_register_pairings()[0], kin.KinOptions(radius=RADIUS), OURS)
    files = sorted((folder / "responses").glob("*.parquet"))
    made = curriculum.build(
        tables.read(folder / "prompts.parquet", schemas.PROMPTS),
        tables.scan_all(files, schemas.RESPONSES),
        tables.scan(folder / "rewards.parquet", schemas.REWARDS),
        tables.read(folder / "kinship.parquet", schemas.KINSHIP),
        pairing,
        settings,
    )
    dataset.write(made, folder / "pairs", settings)
    return {"pairs": made.pairs.height}


def child(stage: str, folder: Path, how: str) -> None:
    """One timed run in a fresh process, told as JSON."""
    import polars as pl  # noqa: F401 (imports are no part of the time)

    import karma_plugins.curriculum.dataset
    import karma_plugins.judging.deciding  # noqa: F401

    start = time.process_time()
    counts = {"judge": judge, "jury": jury, "curriculum": curriculum}[stage](folder, how)
    seconds = time.process_time() - start
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "gib": gib} | counts))


def main() -> None:
    """Run every size in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, nargs="+", default=[12_500, 25_000, 50_000])
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--characters", type=int, default=400, help="length of an answer")
    parser.add_argument("--judge", choices=("compare", "score", "none"), default="compare")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]), arguments.child[2])
        return
    before: dict[str, float] = {}
    for prompts in arguments.prompts:
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), prompts, arguments.models, arguments.characters)
            if arguments.judge == "none":
                made_up_scores(Path(name))
            for stage in STAGES[arguments.judge == "none" :]:
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.judging",
                    "--child",
                    stage,
                    name,
                    arguments.judge,
                ]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                told = json.loads(done.stdout.splitlines()[-1])
                seconds, gib = told.pop("seconds"), told.pop("gib")
                ratio = f", {seconds / before[stage]:.2f} times the size before" if stage in before else ""
                before[stage] = seconds
                counts = ", ".join(f"{key} {value:,}" for key, value in told.items())
                size = f"{prompts:,} prompts x {arguments.models}"
                print(
                    f"{size:22} {stage:11} {seconds:7.1f} s, at most {gib:.2f} GiB, {counts}{ratio}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
