"""Which of two answers judges prefer: what any two can be compared in, whatever scale their numbers have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from karma_plugins.contracts import Verdicts
from karma_plugins.judging.jury import Array, Ballot, Codes, settle


@dataclass(frozen=True)
class Contests:
    """Pairs of answers: number of the prompt, rows of the two (-1 = no candidate's), p = that a is better."""

    prompt: Codes
    a: Codes
    b: Codes
    p: Array


@dataclass(frozen=True)
class Opinions:
    """What a judge prefers: by its settled pairs where it compared, else by its scores (NaN where none)."""

    judge: str
    settled: pl.DataFrame
    scores: Array

    @property
    def compares(self) -> bool:
        """Whether it settled pairs, so that its scores are shares of wins."""
        return self.settled.height > 0


def opinions(votes: Ballot, settled: Mapping[str, pl.DataFrame]) -> list[Opinions]:
    """Each judge's, in the order of `votes`."""
    return [Opinions(name, settled[name], votes.scores[:, i]) for i, name in enumerate(votes.judges)]


def preferences(one: Opinions, other: Opinions, votes: Ballot) -> tuple[Codes, Array, Array]:
    """The pairs on which both have an opinion: number of the prompt, and p of each judge that a is better."""
    if one.compares and other.compares:
        keys = ["prompt_id", "response_a", "response_b"]
        shared = one.settled.join(other.settled, on=keys).sort(keys)
        prompt = shared["prompt_id"].rle_id().cast(pl.Int64).to_numpy()
        return prompt, shared["p"].to_numpy(), shared["p_right"].to_numpy()
    if one.compares:
        contests = inside(one.settled, votes)
        return _where_known(contests.prompt, contests.p, _preferred(other.scores, contests))
    if other.compares:
        contests = inside(other.settled, votes)
        return _where_known(contests.prompt, _preferred(one.scores, contests), contests.p)
    contests = within_prompts(votes, one.scores)
    return _where_known(contests.prompt, contests.p, _preferred(other.scores, contests))


def inside(settled: pl.DataFrame, votes: Ballot) -> Contests:
    """The settled pairs whose answers are both candidates'."""
    row = votes.answers.select("response_id").with_row_index("row")
    pairs = settled.join(row, left_on="response_a", right_on="response_id")
    pairs = pairs.join(row, left_on="response_b", right_on="response_id", suffix="_b").sort("row", "row_b")
    a, b = (pairs[name].cast(pl.Int64).to_numpy() for name in ("row", "row_b"))
    return Contests(votes.prompt[a], a, b, pairs["p"].to_numpy())


def within_prompts(votes: Ballot, scores: Array) -> Contests:
    """All pairs of scored answers to one prompt; the higher score is preferred."""
    scored = np.flatnonzero(~np.isnan(scores))
    prompt = votes.prompt[scored]
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for apart in range(1, int(np.bincount(prompt).max(initial=1))):
        first = np.flatnonzero(prompt[:-apart] == prompt[apart:])
        firsts.append(first)
        seconds.append(first + apart)
    a, b = scored[np.concatenate(firsts)], scored[np.concatenate(seconds)]
    return Contests(votes.prompt[a], a, b, (np.sign(scores[a] - scores[b]) + 1) / 2)


def _preferred(scores: Array, contests: Contests) -> Array:
    return (np.sign(scores[contests.a] - scores[contests.b]) + 1) / 2


def _where_known(prompt: Codes, one: Array, other: Array) -> tuple[Codes, Array, Array]:
    known = ~np.isnan(one) & ~np.isnan(other)
    return prompt[known], one[known], other[known]


def views(verdicts: Verdicts) -> tuple[Ballot, list[Opinions]]:
    """What each judge of these verdicts prefers, with nothing known of the answers but their ids."""
    ids = [
        verdicts.judgements.select("prompt_id", "response_id"),
        *(
            verdicts.comparisons.select("prompt_id", response_id=side)
            for side in ("response_a", "response_b")
        ),
    ]
    answers = pl.concat(ids).unique().sort("prompt_id", "response_id")
    names = sorted({*verdicts.judgements["judge"], *verdicts.comparisons["judge"]})
    settled = {name: settle(verdicts.comparisons.filter(judge=name)) for name in names}
    columns = [
        answers.join(
            verdicts.judgements.filter(judge=name, status="ok").select("response_id", "score"),
            on="response_id",
            how="left",
            maintain_order="left",
        )["score"]
        .fill_null(np.nan)
        .to_numpy()
        for name in names
    ]
    prompt = answers["prompt_id"].rle_id().cast(pl.Int64).to_numpy()
    scores = np.column_stack(columns) if columns else np.zeros((answers.height, 0))
    votes = Ballot(answers, prompt, tuple(names), scores)
    return votes, opinions(votes, settled)
