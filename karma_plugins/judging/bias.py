"""The bias report: what the jury's habits are, measured on the very votes that became rewards.

Answers to one prompt are not independent, so every interval (95%) treats the prompt as the unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass, replace
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.judging import yardsticks
from karma_plugins.judging.agreement import opinions, preferences
from karma_plugins.judging.jury import Array, Ballot, Codes, group_mean
from karma_plugins.judging.nepotism import Favour
from karma_plugins.runtime.statistics import Z, cohen_kappa, krippendorff_alpha, wilson
from karma_plugins.schemas import BIAS

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Habit:
    """One row of table `bias`; `judge` null = the rewards, `value` null where `reason` says why."""

    measure: str
    judge: str | None
    detail: str | None
    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    fair: float | None = None
    reason: str | None = None


def report(
    votes: Ballot,
    tally: pl.DataFrame,
    settled: Mapping[str, pl.DataFrame],
    rewards: pl.DataFrame,
    favours: Iterable[Favour],
    *,
    by_pairs: Iterable[str],
    aligned: bool,
) -> pl.DataFrame:
    """Table `bias`.

    `votes` are the scores as the judges gave them, `tally` counts the judges' words (columns judge, status,
    reason, count), `settled` holds each judge's settled pairs, `favours` what nepotism was before and after
    its correction. `by_pairs` are the judges that speak by their pairs; `aligned` says whether scores are
    aligned within the prompt.
    """
    speaking = {name: settled[name] for name in by_pairs}
    unlike = yardsticks.apart(votes, speaking, aligned=aligned)
    habits = [*unspoken(tally), *agreement(votes, settled, unlike), *opposite_orders(votes, settled)]
    if unlike:
        n = rewards.filter(pl.col("n_judges") > 1).height
        habits.append(Habit("disagreement", None, None, None, n, reason=yardsticks.APART))
    for i, judge in enumerate(votes.judges):
        if judge in speaking:
            habits += _in_pairs(judge, votes, settled[judge])
        else:
            habits += _in_scores(judge, votes, votes.scores[:, i])
        habits += positions(judge, settled[judge])
        habits.append(length_correlation(judge, votes, votes.scores[:, i]))
    rewarded = votes.answers.select("response_id").join(
        rewards.select("response_id", "reward"), on="response_id", how="left", maintain_order="left"
    )
    habits.append(length_correlation(None, votes, rewarded["reward"].fill_null(np.nan).to_numpy()))
    habits += [
        Habit(f.measure, f.judge, f.kin_to, f.value, f.n, f.low, f.high, 0.0, f.reason) for f in favours
    ]
    return pl.DataFrame([asdict(habit) for habit in habits], schema=BIAS.columns).sort(BIAS.key)


def metrics(bias: pl.DataFrame) -> dict[str, float]:
    """The report's numbers by name: `bias.<measure>.<judge>` (`reward` for the rewards), `.low`, `.high`."""
    numbers: dict[str, float] = {}
    valued = bias.filter((pl.col("measure") != "unspoken") & pl.col("value").is_not_null())
    for row in valued.iter_rows(named=True):
        name = ".".join(filter(None, ("bias", row["measure"], row["judge"] or "reward", row["detail"])))
        numbers[f"{name}.value"] = row["value"]
        numbers |= {f"{name}.{end}": row[end] for end in ("low", "high") if row[end] is not None}
    return numbers


def unspoken(tally: pl.DataFrame) -> list[Habit]:
    """Share of each judge's verdicts that are none, by reason up to its first colon."""
    kind = pl.col("reason").str.split(": ").list.first()
    heard = dict(tally.group_by("judge").agg(pl.col("count").sum()).iter_rows())
    none = tally.filter(~pl.col("status").is_in(["ok", "tie"]))
    counts = none.group_by("judge", kind).agg(pl.col("count").sum())
    return [
        Habit("unspoken", judge, reason, count / heard[judge], heard[judge])
        for judge, reason, count in counts.sort("judge", "reason").iter_rows()
    ]


def positions(judge: str, settled: pl.DataFrame) -> list[Habit]:
    """How a verdict depends on which answer was shown first, on pairs that were shown in both orders."""
    both = settled.filter(pl.col("p_ab").is_not_null() & pl.col("p_ba").is_not_null())
    if both.is_empty():
        return []
    prompt = both["prompt_id"].rle_id().cast(pl.Int64).to_numpy()
    p_ab, p_ba = both["p_ab"].to_numpy(), both["p_ba"].to_numpy()
    decided = (p_ab != 0.5) & (p_ba != 0.5)
    flips = ((p_ab > 0.5) != (p_ba > 0.5))[decided]
    first = np.concatenate([p_ab[p_ab != 0.5] > 0.5, p_ba[p_ba != 0.5] < 0.5])
    both_orders = np.concatenate([prompt[p_ab != 0.5], prompt[p_ba != 0.5]])
    return [
        _share("position_flips", judge, flips, prompt[decided], fair=0.0),
        _share("first_wins", judge, first, both_orders, fair=0.5),
    ]


def length_correlation(judge: str | None, votes: Ballot, scores: Array) -> Habit:
    """Pearson's correlation of score and length within the prompt; its interval by Fisher's z."""
    given = ~np.isnan(scores)
    prompt, length = votes.prompt[given], votes.answers["length"].fill_null(0).to_numpy()[given].astype(float)
    x, y = (values - group_mean(values, prompt) for values in (length, scores[given]))
    free = len(x) - int(np.count_nonzero(np.bincount(prompt)))
    spread = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    if free < 4 or spread <= 1e-12:
        reason = "scores or lengths do not vary within prompts"
        return Habit("length_correlation", judge, None, None, len(x), fair=0.0, reason=reason)
    value = max(-1.0, min(1.0, float((x * y).sum()) / spread))
    z, half = math.atanh(max(-1 + 1e-15, min(1 - 1e-15, value))), Z / math.sqrt(free - 2)
    return Habit(
        "length_correlation", judge, None, value, len(x), math.tanh(z - half), math.tanh(z + half), 0.0
    )


def agreement(
    votes: Ballot, settled: Mapping[str, pl.DataFrame], unlike: Set[tuple[str, str]] = frozenset()
) -> list[Habit]:
    """Krippendorff's alpha of all scores and of each two judges', Cohen's kappa of their settled pairs.

    `unlike` are the pairs of judges whose scores are on different scales: no alpha then.
    """
    habits = []
    if len(votes.judges) > 2:
        habits.append(_alpha(None, None, votes.scores, unlike=bool(unlike)))
    for i, j in combinations(range(len(votes.judges)), 2):
        one, other = votes.judges[i], votes.judges[j]
        habits.append(_alpha(one, other, votes.scores[:, [i, j]], unlike=(one, other) in unlike))
        shared = settled[one].join(settled[other], on=["prompt_id", "response_a", "response_b"])
        if shared.height:
            sides = (np.sign(shared[name].to_numpy() - 0.5) for name in ("p", "p_right"))
            value = cohen_kappa(*sides)
            reason = "both judges always say the same" if value is None else None
            habits.append(Habit("cohen_kappa", one, other, value, shared.height, reason=reason))
    return habits


def opposite_orders(votes: Ballot, settled: Mapping[str, pl.DataFrame]) -> list[Habit]:
    """How often two judges, one of which compares, prefer opposite answers, such as a label and a score."""
    habits = []
    for one, other in combinations(opinions(votes, settled), 2):
        if not (one.compares or other.compares):
            continue
        prompt, p, q = preferences(one, other, votes)
        decided = (p != 0.5) & (q != 0.5)
        opposite = ((p > 0.5) != (q > 0.5))[decided]
        habit = _share("opposite_order", one.judge, opposite, prompt[decided], fair=0.0)
        habits.append(replace(habit, detail=other.judge))
    return habits


def _alpha(one: str | None, other: str | None, scores: Array, *, unlike: bool) -> Habit:
    value, n = krippendorff_alpha(scores)
    if unlike:
        return Habit("krippendorff_alpha", one, other, None, n, reason=yardsticks.APART)
    reason = "no answer has two scores, or all scores are equal" if value is None else None
    return Habit("krippendorff_alpha", one, other, value, n, reason=reason)


def _share(measure: str, judge: str, hits: Bools, prompt: Codes, fair: float | None = None) -> Habit:
    """A share of cases, each of a prompt, with its interval."""
    return _counted(measure, judge, np.bincount(prompt, hits), np.bincount(prompt), fair)


def _counted(
    measure: str,
    judge: str,
    hits: Array | Codes,
    cases: Codes,
    fair: float | None = None,
    reason: str | None = None,
) -> Habit:
    """A share with Wilson's interval, on as many cases as the prompts are worth; counts are by prompt."""
    n = int(cases.sum())
    if not n:
        return Habit(measure, judge, None, None, 0, fair=fair, reason=reason or "nothing to measure it on")
    value = float(hits.sum()) / n
    return Habit(measure, judge, None, value, n, *wilson(value, _worth(hits, cases)), fair)


def _in_pairs(judge: str, votes: Ballot, settled: pl.DataFrame) -> list[Habit]:
    """Ties among all pairs that the judge settled; how often the longer wins in those of two answers of the
    pool, where there is a longer one and a winner: how long an answer from outside is, nobody knows here.
    """
    row = votes.answers.select("response_id", "length").with_row_index("row")
    pairs = settled.select("prompt_id", "response_a", "response_b", "p")
    inside = pairs.join(row, left_on="response_a", right_on="response_id").join(
        row, left_on="response_b", right_on="response_id", suffix="_b"
    )
    prompt = (
        pairs["prompt_id"].rank("dense").cast(pl.Int64).to_numpy() if pairs.height else np.zeros(0, np.int64)
    )
    place = votes.prompt[inside["row"].to_numpy()]
    a, b, p = (inside[name].fill_null(0).to_numpy() for name in ("length", "length_b", "p"))
    decided = (p != 0.5) & (a != b)
    longer, cases = ((p > 0.5) == (a > b))[decided], place[decided]
    reason = None if inside.height else "all its pairs are with answers from outside the pool"
    return [
        _share("ties", judge, pairs["p"].to_numpy() == 0.5, prompt),
        _counted("longer_wins", judge, np.bincount(cases, longer), np.bincount(cases), 0.5, reason),
    ]


def _in_scores(judge: str, votes: Ballot, scores: Array) -> list[Habit]:
    """The same in all pairs of answers to one prompt that the judge scored."""
    scored = np.flatnonzero(~np.isnan(scores))
    prompt, score = votes.prompt[scored], scores[scored]
    length = votes.answers["length"].fill_null(0).to_numpy()[scored]
    size = len(np.bincount(votes.prompt))
    ties, pairs, longer, decided = (np.zeros(size) for _ in range(4))
    for apart in range(1, int(np.bincount(prompt).max(initial=1))):
        first = np.flatnonzero(prompt[:-apart] == prompt[apart:])
        second, here = first + apart, prompt[first]
        tie = score[first] == score[second]
        clear = ~tie & (length[first] != length[second])
        won = (score[first] > score[second]) == (length[first] > length[second])
        for counts, hits in ((pairs, None), (ties, tie), (decided, clear), (longer, clear & won)):
            counts += np.bincount(here, hits, size)
    whole = pairs.astype(np.int64), decided.astype(np.int64)
    return [
        _counted("ties", judge, ties, whole[0]),
        _counted("longer_wins", judge, longer, whole[1], fair=0.5),
    ]


def _worth(hits: Array | Codes, cases: Codes) -> float:
    """How many independent cases the hits (by prompt) are worth, given how they differ between prompts."""
    prompts, n = int(np.count_nonzero(cases)), int(cases.sum())
    value = float(hits.sum()) / n
    if value in (0.0, 1.0):
        return float(prompts)
    off = hits - value * cases
    variance = prompts / max(prompts - 1, 1) * float((off * off).sum()) / n**2
    return min(float(n), value * (1 - value) / variance) if variance > 0 else float(n)
