"""The jury decides: the verdicts of all judges become rewards, and their habits a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from karma_plugins.contracts import Report, Shards, Verdicts
from karma_plugins.errors import ParamsError
from karma_plugins.judging import bias, nepotism, yardsticks
from karma_plugins.judging.answers import EMPTY, MISSING, index
from karma_plugins.judging.hearing import hear
from karma_plugins.judging.jury import ballot, rewards, settle
from karma_plugins.params import JurySection
from karma_plugins.registry import Juror
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS, JUDGES

__all__ = ["Decision", "Judged", "Juror", "decide", "judge"]


class Said(Protocol):
    """What one judge said: tables `judgements` and `comparisons`, at hand or to be read."""

    @property
    def judgements(self) -> pl.DataFrame | pl.LazyFrame:
        """Scores."""

    @property
    def comparisons(self) -> pl.DataFrame | pl.LazyFrame:
        """Pairs."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the jury made of the verdicts: tables `rewards`, `bias` and `judges` in their schemas, and what
    they come to in numbers by name.
    """

    rewards: pl.DataFrame
    bias: pl.DataFrame
    judges: pl.DataFrame
    counts: dict[str, float]


@dataclass(frozen=True, slots=True)
class Judged(Decision):
    """A decision with what the judges said: tables `judgements` and `comparisons`."""

    judgements: pl.DataFrame
    comparisons: pl.DataFrame


def judge(
    prompts: pl.DataFrame,
    responses: pl.DataFrame,
    kinship: pl.DataFrame | None,
    jury: Sequence[Juror],
    settings: JurySection,
    *,
    recorded: Verdicts | None = None,
    shards: Shards | None = None,
    report: Report | None = None,
) -> Judged:
    """Hear every judge and decide: stages `judge` and `jury` in one call.

    `kinship` says whose answers a pairwise judge compares (null: all answers to a prompt). A failure is a row
    with status `failed` and a reason. Raises ParamsError for a jury without weight, TableError where a
    response belongs to no prompt, EmptyResultError for a judge without one verdict, and whatever KarmaError a
    judge raises about its options.
    """
    names = [juror.judge.name for juror in jury]
    if len(set(names)) < len(names):
        raise ParamsError(f"Two judges have the same name ({', '.join(sorted(names))}). Rename one.")
    settings.weights_of(names)
    testimony = {
        juror.judge.name: hear(
            prompts, responses, juror.judge, juror.entry,
            kinship=kinship, recorded=recorded, shards=shards, report=report,
        )
        for juror in jury
    }  # fmt: skip
    decision = decide(responses, testimony, kinship, settings)
    judgements = pl.concat([JUDGEMENTS.empty(), *(verdicts.judgements for verdicts in testimony.values())])
    comparisons = pl.concat([COMPARISONS.empty(), *(verdicts.comparisons for verdicts in testimony.values())])
    return Judged(
        decision.rewards,
        decision.bias,
        decision.judges,
        decision.counts,
        judgements.sort(JUDGEMENTS.key),
        comparisons.sort(COMPARISONS.key),
    )


def decide(
    responses: pl.DataFrame | pl.LazyFrame,
    testimony: Mapping[str, Said],
    kinship: pl.DataFrame | None,
    settings: JurySection,
) -> Decision:
    """From what each judge said about the answers in table `responses` to rewards and the bias report.

    Tables may be lazy: of texts only the lengths are read, of verdicts one judge's at a time. Without
    kinship, nepotism is not measured. Raises ParamsError where no judge has a weight, or `settings` names a
    judge or candidate that there is none of.
    """
    weights = settings.weights_of(list(testimony))
    answers = index(responses)
    tally = pl.concat([_tally(name, testimony[name]) for name in weights])
    scored = {name: _scores(testimony[name]) for name in weights}
    settled = {name: settle(testimony[name].comparisons) for name in weights}
    by_pairs = [name for name in weights if scored[name].is_empty()]
    votes = ballot(answers, scored, settled, settings)
    kin_to = {} if kinship is None else settings.kin_to
    near = nepotism.closeness(votes, kinship, kin_to)
    favours, counted = nepotism.favours(votes, near, kin_to), votes
    if settings.nepotism_correction:
        counted = nepotism.corrected(votes, near, favours)
        favours = favours + nepotism.favours(counted, near, kin_to, "nepotism_after_correction")
    rewarded = rewards(counted, weights, settings.missing)
    aligned = settings.align != "none"
    if yardsticks.apart(votes, {name: settled[name] for name in by_pairs}, aligned=aligned):
        # The spread of numbers on different scales is no disagreement.
        rewarded = rewarded.with_columns(disagreement=pl.lit(None, pl.Float64))
    habits = bias.report(votes, tally, settled, rewarded, favours, by_pairs=by_pairs, aligned=aligned)
    counts = _counts(answers, tally, rewarded) | bias.metrics(habits)
    return Decision(rewarded, habits, _judges(tally, weights), counts)


def _tally(name: str, testimony: Said) -> pl.DataFrame:
    """How many words of a judge there are: judge, table, version, status, reason, count."""
    parts = [
        rows.lazy()
        .group_by("version", "status", "reason")
        .agg(count=pl.len().cast(pl.Int64))
        .select(pl.lit(name).alias("judge"), pl.lit(table).alias("table"), pl.all())
        for table, rows in (("judgements", testimony.judgements), ("comparisons", testimony.comparisons))
    ]
    return pl.concat(parts).collect().sort("table", "version", "status", "reason")


def _scores(testimony: Said) -> pl.DataFrame:
    """What a judge scored: response_id, score."""
    given = testimony.judgements.lazy().filter(pl.col("status") == "ok")
    return given.select("response_id", "score").collect()


def _judges(tally: pl.DataFrame, weights: Mapping[str, float]) -> pl.DataFrame:
    """Table `judges`."""

    def of(*statuses: str) -> pl.Expr:
        return pl.col("count").filter(pl.col("status").is_in(statuses)).sum()

    counted = tally.group_by("judge").agg(
        pl.col("version").unique().sort().str.join(", "),
        verdicts=of("ok", "tie"),
        skipped=of("skipped"),
        failed=of("failed"),
    )
    seats = pl.DataFrame({"judge": list(weights), "weight": list(weights.values())})
    table = seats.join(counted, on="judge", how="left").with_columns(
        pl.col("verdicts", "skipped", "failed").fill_null(0), pl.col("version").fill_null("")
    )
    return table.select(JUDGES.columns.names()).sort(JUDGES.key)


def _counts(answers: pl.DataFrame, tally: pl.DataFrame, rewarded: pl.DataFrame) -> dict[str, float]:
    """How many answers, verdicts by judge and status, and rewards there are; reasons are in table `bias`."""
    counts: dict[str, float] = {
        "answers.all": answers.height,
        "answers.missing": answers.filter(pl.col("unfit") == MISSING).height,
        "answers.empty": answers.filter(pl.col("unfit") == EMPTY).height,
        "rewards.all": rewarded.height,
        "rewards.none": answers.height - rewarded.height,
    }
    given = (
        tally.group_by("table", "judge", "status").agg(pl.col("count").sum()).sort("table", "judge", "status")
    )
    for table, judge, status, count in given.iter_rows():
        counts[f"{table}.{judge}.{status}"] = count
    return counts
