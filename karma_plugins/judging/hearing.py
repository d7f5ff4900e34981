"""Hearing a judge: what it is asked, in which batches, and whether it said anything.

Answers are gone through in chunks of whole prompts, so that memory does not grow with their number. Chunks,
and the batches in them, are cut by the whole sorted input; batches are kept by their content. A judge that
gave no verdict at all stops the run: it would leave the jury in silence.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import polars as pl

from karma_plugins.contracts import Answer, AnswerPair, Judge, Piece, Report, Shards, Verdicts
from karma_plugins.errors import EmptyResultError
from karma_plugins.judging.answers import IDENTICAL, check_prompts, chunks, index, with_texts
from karma_plugins.judging.pairs import kin_models, pairs
from karma_plugins.judging.recalling import recalled
from karma_plugins.judging.verdicts import (
    SKIPPED,
    VERDICTS,
    checked,
    signed,
    unspoken,
    verdict_frame,
    with_ties,
)  # fmt: skip
from karma_plugins.models import fingerprint
from karma_plugins.params import JudgeEntry
from karma_plugins.registry import Bound
from karma_plugins.registry.lock import plugin_digest
from karma_plugins.runtime.progress import Advance, progress
from karma_plugins.runtime.shards import NoShards, key
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS
from karma_plugins.tables import LazyVerdicts

SEEN = ("response_id", "prompt_id", "model", "messages", "text", "competency", "reference", "constraints")
#: The share of failures among a judge's words from which on they are warned about.
MANY = 0.05


def hear(
    prompts: pl.DataFrame,
    responses: pl.DataFrame | pl.LazyFrame,
    judge: Bound[Judge],
    entry: JudgeEntry,
    *,
    kinship: pl.DataFrame | None = None,
    recorded: Verdicts | None = None,
    shards: Shards | None = None,
    report: Report | None = None,
) -> Verdicts:
    """What one judge says about the answers in table `responses`: tables `judgements` and `comparisons`.

    As `heard`, all chunks together.
    """
    parts = list(
        heard(
            prompts, responses, judge, entry,
            kinship=kinship, recorded=recorded, shards=shards, report=report,
        )
    )  # fmt: skip
    return Verdicts(
        pl.concat([JUDGEMENTS.empty(), *(part.judgements for part in parts)]),
        pl.concat([COMPARISONS.empty(), *(part.comparisons for part in parts)]),
    )


def heard(
    prompts: pl.DataFrame,
    responses: pl.DataFrame | pl.LazyFrame,
    judge: Bound[Judge],
    entry: JudgeEntry,
    *,
    kinship: pl.DataFrame | None = None,
    recorded: Verdicts | None = None,
    shards: Shards | None = None,
    report: Report | None = None,
) -> Iterator[Verdicts]:
    """What one judge says, some prompts at a time: rows of both tables, sorted, one chunk after another.

    `responses` may be lazy; texts are then read only for the chunk at hand. `kinship` says whose answers a
    pairwise judge compares (null: anybody's). A failure is a row with status `failed` and a reason. Raises
    TableError where a response belongs to no prompt, EmptyResultError at the end where the judge gave no
    verdict, with its first reason, and whatever KarmaError the judge raises about its options.
    """
    answers = index(responses)
    check_prompts(answers, prompts)
    plugin, kin = judge.plugin, None
    if plugin.compare is not None and kinship is not None and entry.kin_radius < 1:
        kin = kin_models(kinship, answers["model"], prompts["competency"], entry.kin_radius)
    recall = None if plugin.recall is None else recalled(judge, plugin.recall, answers, recorded)
    hearing = Hearing(judge, entry, shards or NoShards(), report)
    with progress(f"judge {judge.name}", _most(answers, judge, entry)) as advance:
        hearing.advance = advance
        for chunk in chunks(answers):
            judgements, comparisons = [JUDGEMENTS.empty()], [COMPARISONS.empty()]
            asks = plugin.score is not None or plugin.compare is not None
            shown = with_texts(chunk, prompts, responses) if asks else chunk
            if plugin.score is not None:
                judgements.append(scored(shown, hearing))
            if plugin.compare is not None:
                comparisons.append(compared(shown, pairs(shown, kin, entry), hearing))
            if recall is not None:
                first, last = (pl.lit(chunk["prompt_id"][i]) for i in (0, -1))
                here = pl.col("prompt_id").is_between(first, last)
                judgements.append(recall.judgements.filter(here))
                comparisons.append(recall.comparisons.filter(here))
            part = Verdicts(
                pl.concat(judgements).sort(JUDGEMENTS.key), pl.concat(comparisons).sort(COMPARISONS.key)
            )
            hearing.count(part)
            yield part
    hearing.conclude()


def summary(verdicts: LazyVerdicts) -> dict[str, float]:
    """How many verdicts of each status a judge gave."""
    return {
        f"{name}.{status}": count
        for name, table in (("judgements", verdicts.judgements), ("comparisons", verdicts.comparisons))
        for status, count in table.group_by("status").len().sort("status").collect().iter_rows()
    }


def _most(answers: pl.DataFrame, judge: Bound[Judge], entry: JudgeEntry) -> int:
    """How many verdicts the judge is asked for at most."""
    most = 0
    if judge.plugin.score is not None:
        most += answers["unfit"].null_count()
    if judge.plugin.compare is not None:
        sizes = answers["prompt_id"].rle().struct.field("len").value_counts().iter_rows()
        pairs = sum(prompts * entry.pairs_of(size) for size, prompts in sizes)
        most += pairs * (2 if entry.both_orders else 1)
    return most


@dataclass
class Hearing:
    """What all calls of a judge share: how it is asked, who hears of progress, and what it said so far."""

    judge: Bound[Judge]
    entry: JudgeEntry
    shards: Shards
    report: Report | None
    advance: Advance = lambda pieces, /: None
    done: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """All that decides verdicts beside what is seen: the judge's code, options and files."""
        plugin, options = self.judge.plugin, self.judge.options
        keeps = plugin.keeps_shards
        self.keeps = keeps(options) if callable(keeps) else keeps
        self.keeper = self.shards if self.keeps else NoShards()
        self.basis: tuple[str, ...] = ()
        if self.keeps:
            code = plugin_digest(plugin, self.judge.origin)
            files = map(fingerprint, self.judge.files)
            self.basis = (self.judge.version, code, options.model_dump_json(), *files)

    def run(
        self,
        count: int,
        seen: Callable[[slice], pl.DataFrame],
        ask: Callable[[Bound[Judge], pl.DataFrame], pl.DataFrame],
    ) -> pl.DataFrame:
        """The verdicts on all that is asked, in order: value, status, reason. `seen` cuts out a shard."""
        size = self.entry.shard if self.keeps else max(count, 1)
        pieces = [self._piece(seen(slice(start, start + size)), ask) for start in range(0, count, size)]
        frames, mute = [VERDICTS.to_frame()], []
        for piece, frame in zip(pieces, self.keeper.run(pieces), strict=True):
            frames.append(frame)
            if (frame["status"] == "failed").all():
                mute.append(piece.key)
            self.advance(frame.height)
            self.done += frame.height
            if self.report is not None:
                self.report({"verdicts": self.done}, self.done)
        # What failed for a whole shard may have been the machine: asked again, it is not to fail unasked.
        self.keeper.forget(mute)
        return pl.concat(frames)

    def _piece(self, shard: pl.DataFrame, ask: Callable[[Bound[Judge], pl.DataFrame], pl.DataFrame]) -> Piece:
        """One shard of what is asked, as work for any process."""
        known = key(*self.basis, shard.write_json()) if self.keeps else ""
        first, last = (shard["prompt_id"][i] for i in (0, -1))
        return Piece(known, ask, (self.judge, shard), f"judge {self.judge.name}, prompts {first} to {last}")

    def count(self, verdicts: Verdicts) -> None:
        """Take note of what was said."""
        for table in (verdicts.judgements, verdicts.comparisons):
            for status, reason, count in table.group_by("status", "reason").len().sort("reason").iter_rows():
                self.statuses[status] += count
                if status in ("failed", "skipped"):
                    self.reasons[f"{status}: {reason}"] += count

    def conclude(self) -> None:
        """Stop where nothing was a verdict; warn, with counts, where much failed."""
        name, total, failed = self.judge.name, self.statuses.total(), self.statuses["failed"]
        wrong = [(reason, n) for reason, n in self.reasons.items() if reason.startswith("failed")]
        if not self.statuses["ok"] + self.statuses["tie"]:
            reasons = wrong or list(self.reasons.items())
            if not reasons:
                why = (
                    "no two answers to a prompt are of kin models"
                    if self.judge.plugin.compare
                    else "no answer"
                )
                reasons = [(why, 0)]
            raise EmptyResultError(
                f"judge '{name}' gave no verdict on {total} rows. First reason: {reasons[0][0]}. Mend it, or "
                "take the judge out."
            )
        given = total - self.statuses["skipped"]
        if failed >= MANY * given:
            often = sorted(wrong, key=lambda item: (-item[1], item[0]))[:3]
            counts = "; ".join(f"{reason.removeprefix('failed: ')} ({n})" for reason, n in often)
            warnings.warn(
                f"judge '{name}': {failed} of {given} verdicts failed ({failed / given:.1%}): {counts}",
                stacklevel=3,
            )


# --- judges that score --------------------------------------------------------------------------------------


def scored(answers: pl.DataFrame, hearing: Hearing) -> pl.DataFrame:
    """Rows of table `judgements` of a judge that scores answers one by one."""
    judge = hearing.judge
    fit = answers.filter(pl.col("unfit").is_null())
    seen = fit.select(SEEN)
    verdicts = hearing.run(fit.height, lambda part: seen[part], ask_scores)
    judged = pl.concat([fit.select("prompt_id", "response_id"), verdicts], how="horizontal")
    skipped = unspoken(judge, answers.filter(pl.col("unfit").is_not_null()), SKIPPED)
    return pl.concat([signed(judged.rename({"value": "score"}), judge, JUDGEMENTS), skipped])


def ask_scores(judge: Bound[Judge], shard: pl.DataFrame) -> pl.DataFrame:
    """What the judge says of each answer of a shard: value, status, reason."""
    call = judge.plugin.score
    assert call is not None  # noqa: S101 (asked of judges that score)
    return verdict_frame(checked(call, _answers(shard), judge.options))


def _answers(rows: pl.DataFrame) -> list[Answer]:
    return [Answer(**row) for row in rows.iter_rows(named=True)]


# --- judges that compare ------------------------------------------------------------------------------------


def compared(answers: pl.DataFrame, pairs: pl.DataFrame, hearing: Hearing) -> pl.DataFrame:
    """Rows of table `comparisons` of a pairwise judge; `response_a` is shown first where `order` is `ab`."""
    fit = pairs.filter(pl.col("unfit").is_null())
    straight = pl.col("order") == "ab"
    places = fit.select(
        first=pl.when(straight).then("row_a").otherwise("row_b"),
        second=pl.when(straight).then("row_b").otherwise("row_a"),
    )
    shown = answers.select(SEEN)

    def seen(part: slice) -> pl.DataFrame:
        second = shown[places["second"][part]].select(pl.all().name.suffix("_b"))
        return pl.concat([shown[places["first"][part]], second], how="horizontal")

    verdicts = hearing.run(fit.height, seen, ask_comparisons)
    judged = pl.concat(
        [fit.select("prompt_id", "response_a", "response_b", "order"), verdicts], how="horizontal"
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
    return signed(with_ties(pl.concat([judged, unfit])), hearing.judge, COMPARISONS)


def ask_comparisons(judge: Bound[Judge], shard: pl.DataFrame) -> pl.DataFrame:
    """What the judge says of each pair of a shard, the second answer's columns ending in `_b`."""
    call = judge.plugin.compare
    assert call is not None  # noqa: S101 (asked of judges that compare)
    second = shard.select(pl.col(f"{name}_b").alias(name) for name in SEEN)
    pairs = list(map(AnswerPair, _answers(shard.select(SEEN)), _answers(second)))
    return verdict_frame(checked(call, pairs, judge.options))
