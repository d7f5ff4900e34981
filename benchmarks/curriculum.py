"""Judged answers to an ordered preference dataset: `curriculum.build` beside a bare polars query.

    python benchmarks/curriculum.py                                 # 100,000 prompts x 10 models
    python benchmarks/curriculum.py --prompts 1000000 --only karma  # time and memory

Both do the same joins of the same tables and write one pair a prompt, of kin models with the widest margin,
ordered, with texts. The bare query knows no report, seed, difficulty, cap or card. Each run is a
fresh process, timed after its imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

RADIUS = 0.3
SLICE = 50_000
TABLES = ("prompts", "responses", "rewards", "kinship")
KINDS = ("instruction", "knowledge", "reasoning")
WORDS = ("the", "sum", "of", "these", "numbers", "is", "seven", "because", "we", "add", "in", "turn")


def make(folder: Path, prompts: int, models: int, characters: int) -> None:
    """Write made-up tables, some prompts at a time, so that making them needs little memory."""
    import numpy as np
    import polars as pl

    random = np.random.default_rng(0)
    names = [f"model-{i}" for i in range(models)]
    phrases = pl.Series([" ".join(random.choice(WORDS, characters // 5)) for _ in range(1000)])
    for table in TABLES:
        (folder / table).mkdir()
    kinship_table(random, names).write_parquet(folder / "kinship" / "0.parquet")
    for start in range(0, prompts, SLICE):
        asked = prompts_table(random, start, min(SLICE, prompts - start))
        responses, rewards = answers_tables(random, asked["prompt_id"], names, phrases)
        for table, frame in (("prompts", asked), ("responses", responses), ("rewards", rewards)):
            frame.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(
                folder / table / f"{start:09d}.parquet"
            )


def ids(random: np.random.Generator, count: int) -> pl.Series:
    """Ids of 16 hex digits."""
    import polars as pl

    return pl.Series([f"{number:016x}" for number in random.integers(0, 2**63, count)])


def prompts_table(random: np.random.Generator, start: int, count: int) -> pl.DataFrame:
    """Short questions of three competencies."""
    import polars as pl

    from karma_plugins.schemas import PROMPTS

    rows = {
        "prompt_id": ids(random, count),
        "messages": [[{"role": "user", "content": f"What is {i}?"}] for i in range(start, start + count)],
        "competency": random.choice(KINDS, count),
        "split": "train",
    }
    rows |= {"reference": None, "constraints": None}
    return pl.DataFrame(rows, schema_overrides=PROMPTS.columns).select(PROMPTS.columns.names())


def answers_tables(
    random: np.random.Generator, prompt_ids: pl.Series, names: list[str], phrases: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One answer of every model to every prompt, each with a reward of eleven values."""
    import numpy as np
    import polars as pl

    from karma_plugins.schemas import RESPONSES, REWARDS

    n = len(prompt_ids) * len(names)
    owner = np.repeat(np.arange(len(prompt_ids)), len(names))
    own = {"response_id": ids(random, n), "prompt_id": prompt_ids.gather(owner)}
    texts = (
        phrases.gather(random.integers(0, len(phrases), n)) + " " + pl.Series(np.arange(n)).cast(pl.String)
    )
    answer = {
        "model": names * len(prompt_ids),
        "sample": 0,
        "text": texts,
        "finish_reason": "stop",
        "seed": 1,
    }
    reward = {"reward": random.integers(0, 11, n) / 10, "n_judges": 2, "judges": "one+two"}
    blank = {"prompt_tokens": 12, "completion_tokens": 40, "error": None}
    return (
        pl.DataFrame(own | answer | blank, schema_overrides=RESPONSES.columns).select(
            RESPONSES.columns.names()
        ),
        pl.DataFrame(own | reward | {"disagreement": random.random(n) / 5}, schema_overrides=REWARDS.columns),
    )


def kinship_table(random: np.random.Generator, names: list[str]) -> pl.DataFrame:
    """A kinship by chance of any two models."""
    import polars as pl

    from karma_plugins.schemas import KINSHIP

    rows = [
        {"metric": "made-up", "model_a": a, "model_b": b, "kinship": random.random(), "uncertain": False,
         "version": "1", "primary": True}
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=KINSHIP.columns)


def karma(folder: Path, out: Path) -> int:
    """The stage's own work: read, build, write the dataset with its card."""
    import polars as pl

    from karma_plugins import curriculum
    from karma_plugins.contracts import Pairing
    from karma_plugins.curriculum import dataset
    from karma_plugins.curriculum.pairings import kin
    from karma_plugins.params import CurriculumSection
    from karma_plugins.registry import Bound
    from karma_plugins.registry.manager import OURS

    settings = CurriculumSection(per_prompt=1, phases=3)
    pairing: Bound[Pairing] = Bound(
        "kin", kin.karma_register_pairings()[0], kin.KinOptions(radius=RADIUS), OURS
    )
    scans = {name: pl.scan_parquet(folder / name / "*.parquet") for name in TABLES}
    made = curriculum.build(
        scans["prompts"].collect(),
        scans["responses"],
        scans["rewards"],
        scans["kinship"].collect(),
        pairing,
        settings,
    )
    dataset.write(made, out, settings)
    return made.pairs.height


def bare(folder: Path, out: Path, engine: str) -> int:
    """The same joins in one polars query: rewards, all pairs of a prompt, kinship, prompts and texts."""
    import polars as pl

    scans = {name: pl.scan_parquet(folder / name / "*.parquet") for name in TABLES}
    text = pl.col("text").str.strip_chars()
    answers = (
        scans["responses"]
        .select("response_id", "prompt_id", "model", digest=text.hash(0), blank=text == "")
        .join(scans["rewards"].select("response_id", "reward", "judges"), on="response_id")
    )
    one = scans["kinship"].select("model_a", "model_b", "kinship")
    kinship = pl.concat([one, one.select(model_a="model_b", model_b="model_a", kinship="kinship")])
    pairs = (
        answers.join(answers, on="prompt_id", suffix="_b")
        .filter(
            pl.col("reward") > pl.col("reward_b"),
            pl.col("judges") == pl.col("judges_b"),
            pl.col("digest") != pl.col("digest_b"),
            ~pl.col("blank"),
            ~pl.col("blank_b"),
        )
        .join(kinship, left_on=["model", "model_b"], right_on=["model_a", "model_b"])
        .filter(pl.col("kinship") >= 1 - RADIUS)
        .with_columns(margin=pl.col("reward") - pl.col("reward_b"))
        .sort("prompt_id", "margin", "response_id", "response_id_b", descending=[False, True, False, False])
        .unique("prompt_id", keep="first", maintain_order=True)
        .join(scans["prompts"].select("prompt_id", "messages"), on="prompt_id")
        .join(scans["responses"].select("response_id", chosen="text"), on="response_id")
        .join(scans["responses"].select(response_id_b="response_id", rejected="text"), on="response_id_b")
        .sort("margin", "prompt_id", descending=[True, False])
        .select(
            prompt="messages",
            chosen=pl.concat_list(pl.struct(role=pl.lit("assistant"), content="chosen")),
            rejected=pl.concat_list(pl.struct(role=pl.lit("assistant"), content="rejected")),
            chosen_model="model", rejected_model="model_b", margin="margin", kinship="kinship",
        )
        .collect(engine=engine)  # type: ignore[call-overload]
    )  # fmt: skip
    out.mkdir()
    pairs.write_parquet(out / "train.parquet")
    return pairs.height


def child(what: str, folder: Path, out: Path) -> None:
    """One timed run, after imports, told as JSON."""
    import polars as pl  # noqa: F401 (imports are no part of the time)

    import karma_plugins.curriculum.dataset  # noqa: F401

    start = time.perf_counter()
    pairs = karma(folder, out) if what == "karma" else bare(folder, out, what.removeprefix("bare-"))
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu, gib = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "cpu": cpu, "gib": gib, "pairs": pairs}))


def measure(what: str, folder: Path) -> dict[str, float]:
    """Run one variant in a fresh process."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, __file__, "--child", what, str(folder), f"{out}/out"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Make the tables, run the variants in turn, and print the best of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--characters", type=int, default=100, help="length of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("karma", "bare-in-memory", "bare-streaming"))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]), Path(arguments.child[2]))
        return
    variants = [arguments.only] if arguments.only else ["karma", "bare-in-memory", "bare-streaming"]
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), arguments.prompts, arguments.models, arguments.characters)
        runs = [{what: measure(what, Path(folder)) for what in variants} for _ in range(arguments.rounds)]
    best = {what: min((run[what] for run in runs), key=lambda found: found["seconds"]) for what in variants}
    for what, found in best.items():
        times = f"{found['seconds']:7.2f} s ({found['cpu']:.2f} s of processor time with imports)"
        print(f"{what:15}{times}, at most {found['gib']:.2f} GiB, {found['pairs']:,} pairs")
    if not arguments.only:
        bare_seconds = min(found["seconds"] for what, found in best.items() if what != "karma")
        ratio = best["karma"]["seconds"] / bare_seconds
        print(f"karma takes {ratio:.2f} times the faster bare query (at most 2 is asked)")


if __name__ == "__main__":
    main()
