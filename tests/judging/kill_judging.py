"""Judging in a process of its own, which stops in the middle of its fourth shard and waits to be killed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from karma_plugins.contracts import Answer
from karma_plugins.judging.deciding import Judged
from karma_plugins.runtime.shards import ShardCache
from tests.judging import jury_cases as cases

SHARD, STOP = 5, 4


def run(folder: Path) -> Judged:
    """Judge 40 answers, keeping finished shards in a folder that also counts what the judge was asked."""

    def score(answers: Sequence[Answer], _: object) -> list[float]:
        with (folder / "asked").open("a") as log:
            log.write("".join(f"{answer.response_id}\n" for answer in answers))
        if (folder / "mortal").exists() and len((folder / "asked").read_text().split()) > SHARD * (STOP - 1):
            sys.stdout.write("stopped\n")
            sys.stdout.flush()
            sys.stdin.read()
        return [int(answer.response_id[:4], 16) / 65536 for answer in answers]

    answers = cases.responses((f"p{i:04d}", model, f"{model} {i}") for i in range(20) for model in "ab")
    settings = cases.settings(shard=SHARD)
    return cases.judge(
        cases.prompts(20),
        answers,
        None,
        [cases.juror("slow", score=score)],
        settings,
        shards=ShardCache(folder),
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]))
