"""The lineage benchmark on larger zoos: which kinship metric finds each model's parent.

    python -m benchmarks.family FOLDER [--seeds 11 12 13] [--out FILE.json]

Makes a zoo of 16 models for each seed in FOLDER (some minutes each; one that is there is used again): two
trunks, three children each, four grandchildren each, every child on a mixture of its own. Parents are ranked
among the 15 other models of their zoo; children of all zoos are counted together.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins import kinship, models, profiling, schemas, tables
from karma_plugins.contracts import KinshipMetric, Profiler
from karma_plugins.kinship import family
from karma_plugins.registry import Registry, manager
from karma_plugins.zoo import Member, ZooSettings, build

MIXTURES: tuple[dict[str, float], ...] = (
    {"knowledge": 1, "reasoning": 1, "instruction": 1},
    {"knowledge": 8, "reasoning": 1, "instruction": 1},
    {"knowledge": 1, "reasoning": 8, "instruction": 1},
    {"knowledge": 1, "reasoning": 1, "instruction": 8},
    {"knowledge": 4, "reasoning": 4, "instruction": 1},
)
METRICS: dict[str, dict[str, Any]] = {
    "capability": {"bootstrap": 0},
    "error-consistency": {"bootstrap": 0},
    "capa": {"bootstrap": 0},
    "rare-errors": {"bootstrap": 0},
    "weights": {"bare": True},
}
#: The same from choices alone, as where nobody recorded option probabilities.
HARD = {"capa": {"bootstrap": 0, "kind": "hard"}, "rare-errors": {"bootstrap": 0, "kind": "hard"}}
TASKS = {name: [f"zoo_{name}"] for name in ("knowledge", "reasoning", "instruction")}


def members() -> dict[str, Member]:
    """Two trunks and their descendants."""
    found: dict[str, Any] = {}
    for t in range(2):
        trunk = f"t{t}"
        found[trunk] = {"steps": 110, "mixture": {"knowledge": 1, "reasoning": 2, "instruction": 1}}
        for c in range(3):
            child = f"{trunk}c{c}"
            found[child] = {"parent": trunk, "steps": 60, "mixture": MIXTURES[(c + 1 + t) % 5]}
            for g in range(1 if c else 2):
                mixture = MIXTURES[(c + g + 2 * t + 3) % 5]
                found[f"{child}g{g}"] = {"parent": child, "steps": 40, "mixture": mixture}
    return {name: Member.model_validate(member) for name, member in found.items()}


def profiled(folder: Path, seed: int, registry: Registry) -> None:
    """Make one zoo and profile its models, unless that was done."""
    settings = ZooSettings(seed=seed, threads=1, family=members())
    if not (folder / "family.csv").is_file() or not (folder / "models" / list(settings.family)[-1]).is_dir():
        build(folder, settings)
    options = {"include_path": str(folder / "tasks"), "batch_size": 64}
    profiler = registry.bind(Profiler, "lm-eval", options, where="benchmark")
    for name in settings.family:
        place = folder / "profile" / name
        if not (place / "items.parquet").is_file():
            found = profiling.profile(models.load(name, folder / "models" / name), profiler, TASKS)
            tables.write(found.scores, place / "scores.parquet", schemas.SCORES)
            tables.write(found.items, place / "items.parquet", schemas.ITEMS)


def ranks(folder: Path, registry: Registry) -> pl.DataFrame:
    """The ranks of the parents in one zoo by every metric."""
    names = sorted(path.name for path in (folder / "profile").iterdir())
    pool = [models.load(name, folder / "models" / name) for name in names]
    scores = tables.read_all([folder / "profile" / n / "scores.parquet" for n in names], schemas.SCORES)
    items = tables.read_all([folder / "profile" / n / "items.parquet" for n in names], schemas.ITEMS)
    parts = []
    for suffix, metrics in (("", METRICS), (", choices alone", HARD)):
        bound = [registry.bind(KinshipMetric, n, o, where="benchmark") for n, o in metrics.items()]
        table = kinship.kinship(pool, scores, items, bound, primary="capa")
        parts.append(table.with_columns(pl.col("metric") + suffix))
    return family.ranks(pl.concat(parts), family.read_parents(folder / "family.csv"))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    registry = manager.load()
    parts = []
    for seed in arguments.seeds:
        folder = arguments.folder / f"zoo{seed}"
        profiled(folder, seed, registry)
        found = ranks(folder, registry)
        parts.append(found.with_columns(model=pl.lit(f"{seed}/") + pl.col("model")))
    result = family.benchmark(pl.concat(parts))
    for name, row in result.items():
        recall, mrr = (_interval(row[key]) for key in ("recall_at_1", "mrr"))
        print(f"{name:32} {row['children']:3}  recall@1 {recall}  mrr {mrr}  chance {row['chance']:.3f}")
    print("rare-errors minus capa, mrr:", _interval(result["rare-errors"]["mrr_minus"]["capa"]))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


def _interval(row: dict[str, float]) -> str:
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


if __name__ == "__main__":
    main()
