"""How fast kinship is: CAPA of all pairs against a loop over lm-sim, and many models with their bootstrap.

    python -m benchmarks.kinship [--quick] [--out FILE.json]

Times are of the same answers in one run. Ours starts from table `items` and ends with rows of table
`kinship`; lm-sim starts from lists of arrays, so nothing is charged to it for reading. The loop is timed on
some pairs and scaled to all of them (`--every` times them all).
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from karma_plugins import schemas
from karma_plugins.contracts import Evidence, Model
from karma_plugins.kinship.metrics import capa, rare_errors

OPTIONS = 10


def quiz(models: int, questions: int, *, probabilities: bool) -> tuple[Evidence, Any, Any]:
    """Random models on ten-option questions: evidence, probabilities, right options."""
    rng = np.random.default_rng(0)
    answer = rng.integers(OPTIONS, size=questions)
    if probabilities:
        probs = rng.dirichlet(np.full(OPTIONS, 0.3), (models, questions))
        choice = probs.argmax(axis=2)
        listed: pl.Series | pl.Expr = pl.Series(probs.reshape(-1, OPTIONS)).arr.to_list()
    else:
        guess = rng.integers(OPTIONS, size=(models, questions))
        choice = np.where(rng.random((models, questions)) < 0.4, answer, guess)
        probs, listed = None, pl.lit(None, pl.List(pl.Float64))
    names = [f"m{i:03}" for i in range(models)]
    items = pl.DataFrame(
        {
            "model": np.repeat(names, questions),
            "item_id": np.tile([f"{i:06}" for i in range(questions)], models),
            "correct": (choice == answer).astype(float).ravel(),
            "choice": choice.ravel(),
            "answer": np.tile(answer, models),
        }
    ).with_columns(
        competency=pl.lit("c"), task=pl.lit("t"), n_choices=pl.lit(OPTIONS, pl.Int64), choice_probs=listed
    )
    given = [Model(name, Path(name), None) for name in names]
    return Evidence(given, schemas.SCORES.empty(), items.select(schemas.ITEMS.columns.names())), probs, answer


def against_lm_sim(models: int, questions: int, pairs: int | None) -> dict[str, float]:
    """Seconds of both for all pairs, and the largest difference on the pairs that lm-sim was asked for."""
    from lmsim.metrics import CAPA

    evidence, probs, answer = quiz(models, questions, probabilities=True)
    options = capa.CapaOptions(bootstrap=0)
    capa.measure(evidence, options)  # warm
    start = time.perf_counter()
    frame = capa.measure(evidence, options)
    ours = time.perf_counter() - start
    found = dict(
        zip(
            frame.filter(pl.col("competency").is_null()).select("model_a", "model_b").iter_rows(),
            frame.filter(pl.col("competency").is_null())["raw"],
            strict=True,
        )
    )
    lists, right = [list(rows) for rows in probs], answer.tolist()
    every = models * (models - 1) // 2
    worst, asked, start = 0.0, 0, time.perf_counter()
    for a, b in islice(combinations(range(models), 2), pairs):
        theirs = CAPA().compute_k(lists[a], lists[b], right)
        worst = max(worst, abs(float(theirs) - found[f"m{a:03}", f"m{b:03}"]))
        asked += 1
    loop = (time.perf_counter() - start) * every / asked
    return {
        "models": models, "questions": questions, "pairs": every, "pairs_timed": asked, "seconds": ours,
        "lm_sim_seconds": loop, "times_faster": loop / ours, "largest_difference": worst,
    }  # fmt: skip


def bootstrap(name: str, models: int, questions: int, rounds: int) -> dict[str, float | str]:
    """Seconds of all pairs with intervals."""
    evidence, *_ = quiz(models, questions, probabilities=False)
    module: Any = {"capa": capa, "rare-errors": rare_errors}[name]
    plugin = module.karma_register_kinship_metrics()[0]
    start, used = time.perf_counter(), time.process_time()
    frame = plugin.measure(evidence, plugin.options(bootstrap=rounds))
    seconds, used = time.perf_counter() - start, time.process_time() - used
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "metric": name, "models": models, "questions": questions, "rounds": rounds, "rows": frame.height,
        "seconds": seconds, "processor_seconds": used,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9,
    }  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, to see that it runs")
    parser.add_argument("--every", action="store_true", help="time lm-sim on every pair")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    size = 1000 if arguments.quick else 10_000
    result = {
        "capa_against_lm_sim": against_lm_sim(29, size, None if arguments.every else 20),
        "bootstrap": [
            bootstrap(n, 40 if arguments.quick else 200, size, 200) for n in ("capa", "rare-errors")
        ],
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
