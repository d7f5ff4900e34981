"""Hearing a judge: what it is asked, in which batches, and what of its words counts as a verdict.

Batches are cut from the whole sorted input and kept by their content. Whatever a judge returns is checked:
what is no verdict becomes a failure row with its reason, never a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import polars as pl

from karma_plugins.contracts import Answer, AnswerPair, Judge, Report, Verdict, Verdicts
from karma_plugins.judging.answers import IDENTICAL, gathered
from karma_plugins.judging.pairs import kin_models, pairs
from karma_plugins.judging.recalling import recalled
from karma_plugins.judging.verdicts import (
    SKIPPED,
    VERDICTS,
    Call,
    checked,
    signed,
    unspoken,
    verdict_frame,
    with_ties,
)
from karma_plugins.models import fingerprint
from karma_plugins.params import JudgeEntry
from karma_plugins.registry import Bound
from karma_plugins.registry.lock import plugin_digest
from karma_plugins.runtime.progress import progress
from karma_plugins.runtime.shards import NoShards, Shards, key
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS

SEEN = ("response_id", "prompt_id", "model", "messages", "text", "competency", "reference", "constraints")


def hear(
    prompts: pl.DataFrame,
    responses: pl.DataFrame,
    judge: Bound[Judge],
    entry: JudgeEntry,
    *,
    kinship: pl.DataFrame | None = None,
    recorded: Verdicts | None = None,
    shards: Shards | None = None,
    report: Report | None = None,
) -> Verdicts:
    """What one judge says about the answers in table `responses`: tables `judgements` and `comparisons`.

    `kinship` says whose answers a pairwise judge compares (null: anybody's). A failure ends as a row
    with status `failed` and a reason. Raises TableError where a response belongs to no prompt, and whatever
    KarmaError the judge raises about its options.
    """
    answers = gathered(prompts, responses)
    hearing = Hearing(answers, entry.shard, shards or NoShards(), report)
    judgements, comparisons = [JUDGEMENTS.empty()], [COMPARISONS.empty()]
    if judge.plugin.score is not None:
        judgements.append(scored(judge, judge.plugin.score, hearing))
    if judge.plugin.compare is not None:
        kin = None
        if kinship is not None and entry.kin_radius < 1:
            kin = kin_models(kinship, answers["model"], prompts["competency"], entry.kin_radius)
        comparisons.append(compared(judge, judge.plugin.compare, pairs(answers, kin, entry), hearing))
    if judge.plugin.recall is not None:
        recall = recalled(judge, judge.plugin.recall, answers, recorded)
        judgements.append(recall.judgements)
        comparisons.append(recall.comparisons)
    return Verdicts(pl.concat(judgements).sort(JUDGEMENTS.key), pl.concat(comparisons).sort(COMPARISONS.key))


def summary(verdicts: Verdicts) -> dict[str, float]:
    """How many verdicts of each status a judge gave."""
    return {
        f"{name}.{status}": count
        for name, table in (("judgements", verdicts.judgements), ("comparisons", verdicts.comparisons))
        for status, count in table.group_by("status").len().sort("status").iter_rows()
    }


@dataclass
class Hearing:
    """What all judges' calls share: the answers, how they are cut into shards, and who hears of progress."""

    answers: pl.DataFrame
    shard: int
    shards: Shards
    report: Report | None
    done: int = 0

    def run(
        self,
        judge: Bound[Judge],
        asked: int,
        seen: Callable[[slice], pl.DataFrame],
        ask: Callable[[pl.DataFrame], list[Verdict]],
    ) -> pl.DataFrame:
        """The verdicts on all that is asked, in order: value, status, reason. `seen` cuts out a shard."""
        plugin, options = judge.plugin, judge.options
        keeps = plugin.keeps_shards(options) if callable(plugin.keeps_shards) else plugin.keeps_shards
        size = self.shard if keeps else max(asked, 1)
        parts = [slice(start, start + size) for start in range(0, asked, size)]
        keys = _keys(judge, map(seen, parts)) if keeps else [""] * len(parts)
        frames = [VERDICTS.to_frame()]
        with progress(f"judge {judge.name}", asked) as advance:
            keeper = self.shards if keeps else NoShards()
            for frame in keeper.run(keys, lambda i: verdict_frame(ask(seen(parts[i])))):
                frames.append(frame)
                advance(frame.height)
                self.done += frame.height
                if self.report is not None:
                    self.report({"verdicts": self.done}, self.done)
        return pl.concat(frames)


def _keys(judge: Bound[Judge], shards: Iterable[pl.DataFrame]) -> list[str]:
    """All that decides each shard's verdicts: the judge's code, options and files, and what it sees."""
    code = plugin_digest(judge.plugin, judge.origin)
    read = [fingerprint(path) for path in judge.files]
    options = judge.options.model_dump_json()
    return [key(judge.version, code, options, *read, shard.write_json()) for shard in shards]


# --- judges that score --------------------------------------------------------------------------------------


def scored(judge: Bound[Judge], call: Call, hearing: Hearing) -> pl.DataFrame:
    """Table `judgements` of a judge that scores answers one by one."""
    fit = hearing.answers.filter(pl.col("unfit").is_null())
    seen = fit.select(SEEN)

    def ask(shard: pl.DataFrame) -> list[Verdict]:
        asked = [Answer(**row) for row in shard.iter_rows(named=True)]
        return checked(call, asked, judge.options)

    found = hearing.run(judge, fit.height, lambda part: seen[part], ask)
    judged = pl.concat([fit.select("prompt_id", "response_id"), found], how="horizontal")
    unfit = hearing.answers.filter(pl.col("unfit").is_not_null())
    skipped = unspoken(judge, unfit, SKIPPED)
    return pl.concat([signed(judged.rename({"value": "score"}), judge, JUDGEMENTS), skipped])


# --- judges that compare ------------------------------------------------------------------------------------


def compared(judge: Bound[Judge], call: Call, pairs: pl.DataFrame, hearing: Hearing) -> pl.DataFrame:
    """Table `comparisons` of a pairwise judge; `response_a` is shown first where `order` is `ab`."""
    fit = pairs.filter(pl.col("unfit").is_null())
    straight = pl.col("order") == "ab"
    places = fit.select(
        first=pl.when(straight).then("row_a").otherwise("row_b"),
        second=pl.when(straight).then("row_b").otherwise("row_a"),
    )
    answers = hearing.answers.select(SEEN)

    def seen(part: slice) -> pl.DataFrame:
        second = answers[places["second"][part]].select(pl.all().name.suffix("_b"))
        return pl.concat([answers[places["first"][part]], second], how="horizontal")

    def ask(shard: pl.DataFrame) -> list[Verdict]:
        sides = (shard.select(SEEN), shard.select(pl.col(f"{name}_b").alias(name) for name in SEEN))
        a, b = ([Answer(**row) for row in side.iter_rows(named=True)] for side in sides)
        return checked(call, list(map(AnswerPair, a, b)), judge.options)

    found = hearing.run(judge, fit.height, seen, ask)
    judged = pl.concat(
        [fit.select("prompt_id", "response_a", "response_b", "order"), found], how="horizontal"
    )
    first = pl.when(pl.col("order") == "ab").then("value").otherwise(1 - pl.col("value"))
    judged = judged.with_columns(p_a=first).drop("value")
    # The same text twice is no question to a judge: neither can be the better one.
    same = pl.col("unfit") == IDENTICAL
    unfit = pairs.filter(pl.col("unfit").is_not_null()).select(
        "prompt_id", "response_a", "response_b", "order",
        status=pl.when(same).then(pl.lit("tie")).otherwise(pl.lit("skipped")),
        reason="unfit",
        p_a=pl.when(same).then(pl.lit(0.5)),
    )  # fmt: skip
    return signed(with_ties(pl.concat([judged, unfit])), judge, COMPARISONS)
