"""The jury decides: the verdicts of all judges become rewards, and their habits a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from karma_plugins.contracts import Report, Verdicts
from karma_plugins.errors import ParamsError
from karma_plugins.judging import bias, nepotism
from karma_plugins.judging.answers import EMPTY, MISSING, fitness
from karma_plugins.judging.hearing import hear
from karma_plugins.judging.jury import ballot, rewards, settle
from karma_plugins.params import JurySection
from karma_plugins.registry import Juror
from karma_plugins.runtime.shards import Shards
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS, JUDGES

__all__ = ["Judged", "Juror", "decide", "judge"]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judges said and what the jury made of it.

    Tables `judgements`, `comparisons`, `rewards`, `bias` and `judges` in their schemas, and what they come to
    in numbers by name.
    """

    judgements: pl.DataFrame
    comparisons: pl.DataFrame
    rewards: pl.DataFrame
    bias: pl.DataFrame
    judges: pl.DataFrame
    counts: dict[str, float]


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

    `kinship` says whose answers a pairwise judge compares (null: all answers to a prompt). A judge's failure
    ends as a row with status `failed` and a reason. Raises ParamsError for a jury without weight, TableError
    where a response belongs to no prompt, and whatever KarmaError a judge raises about its options.
    """
    names = [juror.judge.name for juror in jury]
    if len(set(names)) < len(names):
        raise ParamsError(f"Two judges have the same name ({', '.join(sorted(names))}). Rename one.")
    settings.weights_of(names)
    heard = [
        hear(
            prompts, responses, juror.judge, juror.entry,
            kinship=kinship, recorded=recorded, shards=shards, report=report,
        )
        for juror in jury
    ]  # fmt: skip
    said = Verdicts(
        pl.concat([JUDGEMENTS.empty(), *(verdicts.judgements for verdicts in heard)]),
        pl.concat([COMPARISONS.empty(), *(verdicts.comparisons for verdicts in heard)]),
    )
    return decide(responses, said, names, kinship, settings)


def decide(
    responses: pl.DataFrame,
    said: Verdicts,
    judges: Sequence[str],
    kinship: pl.DataFrame | None,
    settings: JurySection,
) -> Judged:
    """From what `judges` said about the answers in table `responses` to rewards and the bias report.

    Without kinship, nepotism is not measured. Raises ParamsError where no judge has a weight, or `settings`
    names a judge or candidate that there is none of.
    """
    weights = settings.weights_of(judges)
    names = list(weights)
    said = Verdicts(said.judgements.sort(JUDGEMENTS.key), said.comparisons.sort(COMPARISONS.key))
    answers = fitness(responses)
    settled = {name: settle(said.comparisons.filter(pl.col("judge") == name)) for name in names}
    votes = ballot(answers, said.judgements, settled, names, settings)
    kin_to = {} if kinship is None else settings.kin_to
    near = nepotism.closeness(votes, kinship, kin_to)
    favours, counted = nepotism.favours(votes, near, kin_to), votes
    if settings.nepotism_correction:
        counted = nepotism.corrected(votes, near, favours)
        favours = favours + nepotism.favours(counted, near, kin_to, "nepotism_after_correction")
    rewarded = rewards(counted, weights, settings.missing)
    habits = bias.report(votes, said, settled, rewarded, favours)
    counts = _counts(answers, said, rewarded) | bias.metrics(habits)
    return Judged(said.judgements, said.comparisons, rewarded, habits, _table(said, weights), counts)


def _table(said: Verdicts, weights: Mapping[str, float]) -> pl.DataFrame:
    """Table `judges`."""
    both = pl.concat(
        [table.select("judge", "version", "status") for table in (said.judgements, said.comparisons)]
    )
    status = pl.col("status")
    counted = both.group_by("judge").agg(
        pl.col("version").unique().sort().str.join(", "),
        verdicts=status.is_in(["ok", "tie"]).sum().cast(pl.Int64),
        skipped=(status == "skipped").sum().cast(pl.Int64),
        failed=(status == "failed").sum().cast(pl.Int64),
    )
    seats = pl.DataFrame({"judge": list(weights), "weight": list(weights.values())})
    none = pl.col("verdicts", "skipped", "failed").fill_null(0)
    table = seats.join(counted, on="judge", how="left").with_columns(none, pl.col("version").fill_null(""))
    return table.select(JUDGES.columns.names()).sort(JUDGES.key)


def _counts(answers: pl.DataFrame, said: Verdicts, rewarded: pl.DataFrame) -> dict[str, float]:
    """How many answers, verdicts by judge and status, and rewards there are; reasons are in table `bias`."""
    counts: dict[str, float] = {
        "answers.all": answers.height,
        "answers.missing": answers.filter(pl.col("unfit") == MISSING).height,
        "answers.empty": answers.filter(pl.col("unfit") == EMPTY).height,
        "rewards.all": rewarded.height,
        "rewards.none": answers.height - rewarded.height,
    }
    for name, table in (("judgements", said.judgements), ("comparisons", said.comparisons)):
        for judge, status, count in (
            table.group_by("judge", "status").len().sort("judge", "status").iter_rows()
        ):
            counts[f"{name}.{judge}.{status}"] = count
    return counts
