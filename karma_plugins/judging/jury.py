"""The jury: from what the judges said to one reward for each answer, whatever order anything came in.

All sums run in numpy over rows sorted by (prompt_id, response_id) and judges sorted by name, so that equal
votes give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.params import JurySection
from karma_plugins.schemas import REWARDS

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
#: Bradley-Terry: each answer also wins and loses so many comparisons against a fixed average answer, which
#: keeps the strengths finite and joins groups that were never compared.
PRIOR = 0.5


@dataclass(frozen=True)
class Ballot:
    """All votes: a row for each answer and a column for each judge, both sorted, NaN where there is no score.

    `answers` has prompt_id, response_id, model, length (characters); `prompt` numbers the prompts in order.
    """

    answers: pl.DataFrame
    prompt: Codes
    judges: tuple[str, ...]
    scores: Array


def ballot(
    answers: pl.DataFrame,
    scored: Mapping[str, pl.DataFrame],
    settled: Mapping[str, pl.DataFrame],
    settings: JurySection,
) -> Ballot:
    """Gather every judge's scores, aligned within the prompt as `settings.align` says.

    `answers` are sorted by prompt_id and response_id; `scored` and `settled` hold each judge's scores
    (columns response_id, score) and settled pairs. A judge that scored any answer speaks by its scores, any
    other by its pairs.
    """
    rows = answers.select("prompt_id", "response_id", "model", "length")
    prompt = rows["prompt_id"].rle_id().cast(pl.Int64).to_numpy()
    names = tuple(sorted(scored))
    from_pairs = win_share if settings.comparisons == "win-share" else bradley_terry
    columns = []
    for name in names:
        given = from_pairs(settled[name]) if scored[name].is_empty() else scored[name]
        joined = rows.select("response_id").join(given, on="response_id", how="left", maintain_order="left")
        columns.append(_aligned(joined["score"].fill_null(np.nan).to_numpy(), prompt, settings.align))
    return Ballot(rows, prompt, names, np.column_stack(columns))


def rewards(
    votes: Ballot, weights: Mapping[str, float], missing: Literal["same-judges", "drop"]
) -> pl.DataFrame:
    """Table `rewards`: the weighted mean of the votes of each answer.

    Answers that no judge of weight scored get no row; with `missing` = `drop`, neither do those that lack a
    vote. `disagreement` is the population standard deviation over the judges, null for one.
    """
    seats = [i for i, name in enumerate(votes.judges) if weights[name] > 0]
    total, weight, count = (np.zeros(len(votes.prompt)) for _ in range(3))
    for i in seats:
        given = ~np.isnan(votes.scores[:, i])
        total += np.where(given, weights[votes.judges[i]] * votes.scores[:, i], 0.0)
        weight += np.where(given, weights[votes.judges[i]], 0.0)
        count += given
    with np.errstate(invalid="ignore"):
        reward = total / weight
    seated = replace(votes, judges=tuple(votes.judges[i] for i in seats), scores=votes.scores[:, seats])
    table = votes.answers.select("response_id", "prompt_id").with_columns(
        reward=reward,
        n_judges=count.astype(np.int64),
        judges=_names(seated),
        disagreement=pl.Series(_spread(seated.scores), nan_to_null=True),
    )
    least = len(seats) if missing == "drop" else 1
    return table.filter(pl.col("n_judges") >= least).select(REWARDS.columns.names()).sort(REWARDS.key)


def _names(votes: Ballot) -> pl.Series:
    """The judges of each answer's votes, joined by `+`."""
    # One number for each pattern of votes: unique rows take thirty times as long as unique numbers.
    pattern = ~np.isnan(votes.scores) @ (1 << np.arange(len(votes.judges)))
    patterns, which = np.unique(pattern, return_inverse=True)
    names = ["+".join(n for i, n in enumerate(votes.judges) if p >> i & 1) for p in patterns.tolist()]
    return pl.Series("judges", names, dtype=pl.String)[which.ravel()]


def _spread(scores: Array) -> Array:
    """Standard deviation over the judges of each row, NaN where fewer than two voted."""
    given = ~np.isnan(scores)
    count, total, squares = (np.zeros(len(scores)) for _ in range(3))
    for i in range(scores.shape[1]):
        count += given[:, i]
        total += np.where(given[:, i], scores[:, i], 0.0)
    mean = total / np.maximum(count, 1)
    for i in range(scores.shape[1]):
        squares += np.where(given[:, i], (scores[:, i] - mean) ** 2, 0.0)
    return np.where(count > 1, np.sqrt(squares / np.maximum(count, 1)), np.nan)


# --- from comparisons to scores -----------------------------------------------------------------------------


def settle(comparisons: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """The pairs that a judge settled, a row each: prompt_id, response_a < response_b, p_ab, p_ba, p.

    p_ab and p_ba are the probabilities that response_a is better, shown first and shown second (null if never
    asked), p their mean. A pair with a failed or skipped order is left out: half a verdict keeps its bias.
    """
    swap = pl.col("response_a") > pl.col("response_b")
    other = pl.when(pl.col("order") == "ab").then(pl.lit("ba")).otherwise(pl.lit("ab"))
    return (
        comparisons.lazy()
        .select(
            "prompt_id",
            response_a=pl.min_horizontal("response_a", "response_b"),
            response_b=pl.max_horizontal("response_a", "response_b"),
            p=pl.when(swap).then(1 - pl.col("p_a")).otherwise("p_a"),
            order=pl.when(swap).then(other).otherwise("order"),
            spoken=pl.col("status").is_in(["ok", "tie"]),
        )
        .group_by("prompt_id", "response_a", "response_b")
        .agg(
            pl.col("spoken").all(),
            p_ab=pl.col("p").filter(pl.col("order") == "ab").mean(),
            p_ba=pl.col("p").filter(pl.col("order") == "ba").mean(),
        )
        .filter("spoken")
        .drop("spoken")
        .with_columns(p=pl.mean_horizontal("p_ab", "p_ba"))
        .sort("prompt_id", "response_a", "response_b")
        .collect()
    )


def win_share(pairs: pl.DataFrame) -> pl.DataFrame:
    """Columns response_id, score: an answer's mean probability of being better, over its settled pairs."""
    ids, a, b, p = _sides(pairs)
    wins = np.bincount(a, p, len(ids)) + np.bincount(b, 1 - p, len(ids))
    count = np.bincount(a, minlength=len(ids)) + np.bincount(b, minlength=len(ids))
    return pl.DataFrame({"response_id": ids, "score": wins / np.maximum(count, 1)})


def bradley_terry(pairs: pl.DataFrame, *, tolerance: float = 1e-10, rounds: int = 10_000) -> pl.DataFrame:
    """Columns response_id, score: the probability of beating the average answer of the prompt (Bradley, Terry
    1952).

    Strengths are the maximum likelihood with a prior (see PRIOR), found by Hunter's MM iteration (2004).
    """
    ids, a, b, p = _sides(pairs)
    wins = np.bincount(a, p, len(ids)) + np.bincount(b, 1 - p, len(ids)) + PRIOR
    strength = np.ones(len(ids))
    for _ in range(rounds):
        share = 1 / (strength[a] + strength[b])
        met = np.bincount(a, share, len(ids)) + np.bincount(b, share, len(ids)) + 2 * PRIOR / (strength + 1)
        before, strength = strength, wins / met
        if np.all(np.abs(strength - before) <= tolerance * before):
            break
    return pl.DataFrame({"response_id": ids, "score": strength / (1 + strength)})


def _sides(pairs: pl.DataFrame) -> tuple[pl.Series, Codes, Codes, Array]:
    """The answers in settled pairs, sorted; the places of each pair's two among them; and p."""
    ids = pl.concat([pairs["response_a"], pairs["response_b"]]).unique().sort().alias("response_id")
    a = ids.search_sorted(pairs["response_a"]).cast(pl.Int64).to_numpy()
    b = ids.search_sorted(pairs["response_b"]).cast(pl.Int64).to_numpy()
    return ids, a, b, pairs["p"].to_numpy()


# --- alignment ----------------------------------------------------------------------------------------------


def _aligned(scores: Array, prompt: Codes, how: str) -> Array:
    """Scores of one judge on a scale that judges share, prompt by prompt; NaN stays NaN."""
    if how == "none" or not len(scores):
        return scores
    given = ~np.isnan(scores)
    aligned = np.full(len(scores), np.nan)
    aligned[given] = (z_scores if how == "z-score" else ranks)(scores[given], prompt[given])
    return aligned


def z_scores(scores: Array, prompt: Codes) -> Array:
    """Distance from the prompt's mean in population standard deviations; 0 where all are equal."""
    centred = scores - group_mean(scores, prompt)
    spread = np.sqrt(group_mean(centred**2, prompt))
    # Equal scores leave a spread of rounding errors, which must not be blown up to ones.
    flat = spread <= 1e-12
    return np.where(flat, 0.0, centred / np.where(flat, 1.0, spread))


def ranks(scores: Array, prompt: Codes) -> Array:
    """Rank within the prompt from 0 (worst) to 1 (best), ties at their mean; 0.5 for an answer alone."""
    frame = pl.DataFrame({"prompt": prompt, "score": scores})
    rank = frame.select(pl.col("score").rank("average").over("prompt"))["score"].to_numpy()
    others = np.bincount(prompt)[prompt] - 1
    return np.where(others > 0, (rank - 1) / np.maximum(others, 1), 0.5)


def group_mean(values: Array, group: Codes) -> Array:
    """The mean of each value's group."""
    return (np.bincount(group, values) / np.maximum(np.bincount(group), 1))[group]
