"""Which pairs of answers a pairwise judge is asked about: of kin models, a few to a prompt, spread by chance.

The rule: of a prompt's pairs, one is taken after another until there are `compare_per_prompt`; each time the
one whose two answers stand in the fewest pairs so far (both together), and among equals the one of the lowest
noise, which belongs to `compare_seed` and the two response ids. Pairs that no judge is asked about (the same
text twice, an answer without text) come last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.judging.answers import IDENTICAL
from karma_plugins.params import JudgeEntry
from karma_plugins.runtime import noise


def pairs(answers: pl.DataFrame, kin: pl.DataFrame | None, entry: JudgeEntry) -> pl.DataFrame:
    """The pairs of answers to one prompt that are compared, once for each order shown.

    `answers` are those of whole prompts, sorted; `kin` says who is kin (see `kin_models`; null: everybody).
    Columns prompt_id, response_a, response_b (a < b), order, row_a, row_b (places in `answers`) and unfit.
    """
    every = _formed(answers, kin)
    chosen = _spread(every, answers["response_id"], entry)
    if entry.both_orders:
        chosen = chosen.join(pl.DataFrame({"order": ["ab", "ba"]}), how="cross")
    else:
        # The ids are hashes, so that the lesser one is any of the two models' answers by chance.
        chosen = chosen.with_columns(order=pl.lit("ab"))
    return chosen.sort("prompt_id", "response_a", "response_b", "order")


def kin_models(
    kinship: pl.DataFrame, models: pl.Series, competencies: pl.Series, radius: float
) -> pl.DataFrame:
    """Which models are compared in which competency: columns competency, model, model_b, both ways round.

    A model with itself; and kin by the acting metric, overall or in the competency, at most `radius` away.
    """
    acting = kinship.filter(pl.col("primary") & (pl.col("kinship") >= 1 - radius)).select(
        "competency", "model_a", "model_b"
    )
    every = pl.DataFrame({"competency": competencies.unique()})
    overall = acting.filter(pl.col("competency").is_null()).drop("competency").join(every, how="cross")
    same = pl.DataFrame({"model_a": models.unique()}).with_columns(model_b="model_a").join(every, how="cross")
    near = pl.concat(
        [part.select("competency", "model_a", "model_b") for part in (acting.drop_nulls(), overall, same)]
    )
    turned = near.select("competency", model_a="model_b", model_b="model_a")
    return (
        pl.concat([near, turned]).unique().rename({"model_a": "model"}).sort("competency", "model", "model_b")
    )


def _formed(answers: pl.DataFrame, kin: pl.DataFrame | None) -> pl.DataFrame:
    """All pairs of kin answers to a prompt: prompt_id, response_a, response_b, row_a, row_b, unfit."""
    rows = answers.select(
        "prompt_id", "response_id", "model", "competency", "unfit", text=pl.col("text").hash()
    ).with_row_index("row")
    other = rows.drop("competency")
    if kin is None:
        every = rows.join(other, on="prompt_id", suffix="_b")
    else:
        near = rows.join(kin, on=["competency", "model"])
        every = near.join(
            other, left_on=["prompt_id", "model_b"], right_on=["prompt_id", "model"], suffix="_b"
        )
    same = pl.when(pl.col("text") == pl.col("text_b")).then(pl.lit(IDENTICAL))
    return (
        every.filter(pl.col("row") < pl.col("row_b"))
        .select(
            "prompt_id",
            response_a="response_id",
            response_b="response_id_b",
            row_a="row",
            row_b="row_b",
            unfit=pl.coalesce("unfit", "unfit_b", same),
        )
        .sort("row_a", "row_b")
    )


def _spread(every: pl.DataFrame, ids: pl.Series, entry: JudgeEntry) -> pl.DataFrame:
    """The pairs that the rule above takes, in order."""
    most = entry.compare_per_prompt
    if most is None or every.is_empty():
        return every
    a, b = (every[name].to_numpy().astype(np.int64) for name in ("row_a", "row_b"))
    prompt = every["prompt_id"].rle_id().to_numpy()
    starts = np.flatnonzero(np.diff(prompt, prepend=-1))
    number = _numbers(ids)
    chance = noise.of_pairs(entry.compare_seed, number[a], number[b])
    unfit = every["unfit"]
    last = np.where(
        unfit.is_null().to_numpy(), 0, np.where((unfit == IDENTICAL).fill_null(False).to_numpy(), 1, 2)
    )
    late = last * (2.0 * len(ids) + 2) + chance
    taken = np.zeros(len(a), dtype=bool)
    count = np.zeros(len(ids))
    for _ in range(min(most, int(np.diff(starts, append=len(a)).max()))):
        key = np.where(taken, np.inf, late + count[a] + count[b])
        least = np.minimum.reduceat(key, starts)
        candidates = np.flatnonzero((key == least[prompt]) & ~taken)
        _, first = np.unique(prompt[candidates], return_index=True)
        chosen = candidates[first]
        taken[chosen] = True
        count[a[chosen]] += 1
        count[b[chosen]] += 1
    return every.filter(pl.Series(taken))


def _numbers(ids: pl.Series) -> NDArray[Any]:
    """64 bits for each response id: the id itself, where it is 16 hex digits."""
    number = ids.str.to_integer(base=16, dtype=pl.UInt64, strict=False)
    other = [
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") if own is None else own
        for text, own in zip(ids, number, strict=True)
    ] if number.null_count() else number  # fmt: skip
    return pl.Series(other, dtype=pl.UInt64).to_numpy()


def kin_pairs(
    competencies: pl.Series,
    models: Sequence[str],
    samples: int,
    kinship: pl.DataFrame | None,
    entry: JudgeEntry,
) -> int:
    """How many comparisons a pairwise judge is asked for at most: every model gives `samples` answers.

    `competencies` are the prompts', one for each. Without kinship all models are taken to be kin.
    """
    answers = len(models) * samples
    each = dict.fromkeys(competencies.unique(), answers * (answers - 1) // 2)
    if kinship is not None and entry.kin_radius < 1:
        near = kin_models(kinship, pl.Series(models), competencies, entry.kin_radius)
        in_pool = near.filter(pl.col("model").is_in(models), pl.col("model_b").is_in(models))
        for competency in each:
            here = in_pool.filter(pl.col("competency") == competency)
            unlike = here.filter(pl.col("model") < pl.col("model_b")).height
            each[competency] = unlike * samples**2 + len(models) * samples * (samples - 1) // 2
    most = {
        competency: pairs if entry.compare_per_prompt is None else min(pairs, entry.compare_per_prompt)
        for competency, pairs in each.items()
    }
    orders = 2 if entry.both_orders else 1
    return orders * sum(most[str(c)] * int(n) for c, n in competencies.value_counts().iter_rows())
