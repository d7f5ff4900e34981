"""The lineage benchmark on simulated families of many kinds: is a metric as good on quizzes unlike the zoo's?

    python -m benchmarks.simulated_families [--seeds 20] [--first 0]

An option has an appeal that all models share and one of the model's own, of which a child keeps a part; the
right option gains by ability, which differs between models, subjects and generations. A model gives the
option of most appeal, or the softmax as probabilities.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from karma_plugins import schemas
from karma_plugins.contracts import Evidence, Model
from karma_plugins.kinship import family
from karma_plugins.kinship.metrics import capa, error_consistency, rare_errors

METRICS = {"capa": capa, "error-consistency": error_consistency, "rare-errors": rare_errors}
SUBJECTS = 6


@dataclass(frozen=True)
class Setting:
    """A kind of family and quiz: three trunks with two children each, three of which have a child."""

    questions: int = 300
    options: int = 4
    kept: float = 0.7
    lure: float = 1.5
    ability: float = 0.5
    outgrown: float = 0.4
    subjects: float = 0.5
    missing: float = 0.0


USUAL = Setting()
SETTINGS = {
    "usual": USUAL,
    "50 questions": replace(USUAL, questions=50),
    "100 questions": replace(USUAL, questions=100),
    "1000 questions": replace(USUAL, questions=1000),
    "3 options": replace(USUAL, options=3),
    "10 options": replace(USUAL, options=10),
    "little kept": replace(USUAL, kept=0.5),
    "much kept": replace(USUAL, kept=0.9),
    "misleading": replace(USUAL, lure=3.0),
    "weak models": replace(USUAL, ability=-1.0),
    "strong models": replace(USUAL, ability=2.5),
    "very strong": replace(USUAL, ability=4.0),
    "children outgrow": replace(USUAL, outgrown=1.5),
    "specialists": replace(USUAL, subjects=1.5),
    "40% missing": replace(USUAL, missing=0.4),
}


def simulated(setting: Setting, seed: int, *, probabilities: bool) -> tuple[Evidence, dict[str, str]]:
    """A family's answers, and each child's parent."""
    rng = np.random.default_rng(seed)
    shape = (setting.questions, setting.options)
    subject = rng.integers(SUBJECTS, size=setting.questions)
    shared = setting.lure * rng.normal(size=shape)
    shared[:, 0] = rng.normal(0, 1.2, setting.questions) + np.log(setting.options - 1)  # 0 is right
    parents = {f"{t}{c}": t for t in "abc" for c in "01"} | {f"{t}00": f"{t}0" for t in "abc"}
    own, able, parts = {}, {}, []
    for name in (*"abc", *parents):
        fresh = 0.7 * rng.normal(size=shape)
        if name in parents:
            parent = parents[name]
            own[name] = setting.kept * own[parent] + np.sqrt(1 - setting.kept**2) * fresh
            grown = rng.normal(setting.outgrown, max(setting.outgrown, 0.5))
            able[name] = able[parent] + grown + 0.7 * setting.subjects * rng.normal(size=SUBJECTS)
        else:
            own[name] = fresh
            able[name] = setting.ability + 0.6 * rng.normal() + setting.subjects * rng.normal(size=SUBJECTS)
        appeal = shared + own[name] + 0.6 * rng.gumbel(size=shape)
        appeal[:, 0] += able[name][subject]
        asked = rng.random(setting.questions) >= setting.missing
        parts.append(_items(name, appeal, probabilities=probabilities).filter(asked))
    items = pl.concat(parts).sort(schemas.ITEMS.key)
    models = [Model(name, Path(name), None) for name in sorted(own)]
    return Evidence(models, schemas.SCORES.empty(), items), parents


def _items(name: str, appeal: np.ndarray, *, probabilities: bool) -> pl.DataFrame:
    shares = np.exp(appeal - appeal.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    choice = appeal.argmax(axis=1)
    frame = pl.DataFrame(
        {
            "model": name, "competency": "quiz", "task": "quiz", "answer": 0, "n_choices": appeal.shape[1],
            "item_id": [f"{i:05}" for i in range(len(appeal))], "choice": choice, "correct": choice == 0,
            "choice_probs": shares.tolist() if probabilities else None,
        }
    )  # fmt: skip
    return frame.select(pl.col(c).cast(t) for c, t in schemas.ITEMS.columns.items())


def reciprocal_ranks(setting: Setting, seed: int, *, probabilities: bool) -> dict[str, list[float]]:
    """The reciprocal rank of every child's parent by each metric."""
    given, parents = simulated(setting, seed, probabilities=probabilities)
    found = {}
    for name, module in METRICS.items():
        plugin = module.karma_register_kinship_metrics()[0]
        frame = plugin.measure(given, plugin.options(bootstrap=0)).with_columns(metric=pl.lit(name))
        found[name] = (1 / family.ranks(frame, parents)["rank"]).to_list()
    return found


def main() -> None:
    """Run and print mean reciprocal ranks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    for kind in ("choices", "probabilities"):
        print(f"{kind:18}", *(f"{name:>18}" for name in METRICS))
        means = []
        for name, setting in SETTINGS.items():
            rows = [reciprocal_ranks(setting, seed, probabilities=kind != "choices") for seed in seeds]
            means.append([np.mean([row[m] for row in rows]) for m in METRICS])
            print(f"{name:18}", *(f"{mean:18.3f}" for mean in means[-1]), flush=True)
        print(f"{'mean':18}", *(f"{mean:18.3f}" for mean in np.mean(means, axis=0)))


if __name__ == "__main__":
    main()
