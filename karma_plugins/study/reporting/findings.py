"""What a run says, in figures and words: the answers to a reader's first questions, from tables and metrics.

Everything here is plain data; nothing here is HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from karma_plugins.study.reporting.collecting import Run

#: What became of a figure, in one word, so that colour is never the only sign.
WORSE, FELL, SAME, ROSE, BETTER = "worse", "fell, may be chance", "unchanged", "rose, may be chance", "better"
#: What `dvc plots` draws of a run, by the names of the files.
PLOTS = ("results", "dropped", "loss")
#: Habits that would make a judge unfair, and what each says of one whose value is above what is fair.
HABITS: Mapping[str, tuple[str, str]] = {
    "nepotism": ("favours its kin", "is harsh on its kin"),
    "first_wins": ("favours the answer shown first", "favours the answer shown second"),
    "longer_wins": ("the longer answer wins more often", "the shorter answer wins more often"),
    "length_correlation": ("scores rise with length", "scores fall with length"),
}


@dataclass(frozen=True, slots=True)
class Change:
    """A measure before and after: of held-out prompts or of a benchmark, by competency.

    low and high are the 95% interval of the difference, null where none is known; n is what was counted.
    """

    kind: str
    competency: str
    n: int | None
    before: float
    after: float
    difference: float
    low: float | None
    high: float | None
    win_rate: float | None = None

    @property
    def word(self) -> str:
        """What became of it: WORSE and BETTER only where the interval leaves out zero."""
        if self.difference == 0:
            return SAME
        known = self.low is not None and self.high is not None
        if self.difference < 0:
            return WORSE if known and self.high < 0 else FELL  # type: ignore[operator]
        return BETTER if known and self.low > 0 else ROSE  # type: ignore[operator]

    @property
    def is_lower(self) -> bool:
        """Whether it went down at all."""
        return self.difference < 0


def changes(evaluation: Mapping[str, Any]) -> list[Change]:
    """Held-out prompts (all, then each competency), then benchmarks, from metrics/evaluate.json."""
    if not evaluation:
        return []
    blocks = [("all", evaluation, evaluation["prompts"]["counted"])]
    blocks += [(name, block, block["prompts"]) for name, block in evaluation["competency"].items()]
    rows = []
    for name, block, n in blocks:
        accuracy, change = block["accuracy"], block["accuracy"]["difference"]
        rows.append(
            Change(
                "held-out prompts", name, n, accuracy["base"]["mean"], accuracy["aligned"]["mean"],
                change["mean"], change["low"], change["high"], block["win_rate"]["mean"],
            )
        )  # fmt: skip
    for name, block in benchmarks(evaluation).items():
        change = block["difference"]
        rows.append(
            Change(
                "benchmark", name, block["items"], block["base"], block["aligned"], change["mean"],
                change["low"], change["high"],
            )
        )  # fmt: skip
    return rows


def benchmarks(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The benchmarks of an evaluation by competency; of one of before intervals were kept without them."""
    if "benchmarks" in evaluation:
        return dict(evaluation["benchmarks"])
    before, after = (evaluation.get("profile", {}).get(label, {}) for label in ("base", "aligned"))
    return {
        name: {
            "base": score, "aligned": after[name], "items": None,
            "difference": {"mean": after[name] - score, "low": None, "high": None},
        }
        for name, score in before.items()
        if score is not None and after.get(name) is not None
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """Models that belong together by the acting metric; `sure` is the least share of resampled tables."""

    name: str
    models: tuple[str, ...]
    sure: float


@dataclass(frozen=True, slots=True)
class Kin:
    """Who is kin to whom by one metric: families, who is alone, the cut, and pairs in doubt."""

    metric: str
    cut: float | None
    families: tuple[Family, ...]
    alone: tuple[str, ...]
    uncertain: int
    unknown: int
    pairs: int
    one: bool


def acting_metric(kinship: pl.DataFrame) -> str | None:
    """The metric that pairing and judging act on."""
    acting = kinship.filter("primary")["metric"]
    return str(acting[0]) if len(acting) else None


def kin(run: Run) -> Kin | None:
    """Families by the acting metric; null where kinship was not measured."""
    kinship, families = run.table("kinship"), run.table("families")
    if kinship is None or (metric := acting_metric(kinship)) is None:
        return None
    overall = kinship.filter(pl.col("competency").is_null(), metric=metric)
    counts = {
        "uncertain": int(overall["uncertain"].sum()),
        "unknown": overall["kinship"].null_count(),
        "pairs": overall.height,
    }
    rows = families.filter(metric=metric) if families is not None else None
    if rows is None or rows.is_empty():
        return Kin(metric, None, (), (), one=False, **counts)
    named = rows.drop_nulls("family").sort("family", "model")
    groups = [
        Family(str(name), tuple(mates["model"]), float(mates["sure"].to_numpy().min()))
        for (name,), mates in named.group_by("family", maintain_order=True)
    ]
    groups.sort(key=lambda family: (-len(family.models), family.name))
    alone = tuple(rows.filter(pl.col("family").is_null())["model"])
    one = len(groups) == 1 and len(groups[0].models) == rows.height > 1
    return Kin(metric, float(rows["cut"][0]), tuple(groups), alone, one=one, **counts)


@dataclass(frozen=True, slots=True)
class Funnel:
    """From possible pairs to those kept, with what was dropped by reason, the most first."""

    possible: int
    kept: int
    dropped: tuple[tuple[str, int], ...]


def funnel(curriculum: Mapping[str, Any]) -> Funnel | None:
    """The funnel of metrics/curriculum.json; null where no curriculum was made."""
    if not curriculum:
        return None
    pairs = curriculum["pairs"]
    dropped = sorted(pairs["dropped"].items(), key=lambda item: (-item[1], item[0]))
    return Funnel(pairs["possible"], pairs["kept"], tuple(dropped))


@dataclass(frozen=True, slots=True)
class Habit:
    """A row of table `bias` that may make a judge unfair; `says` is its finding in words, where it is one."""

    judge: str
    measure: str
    detail: str
    value: float | None
    low: float | None
    high: float | None
    fair: float | None
    n: int
    reason: str
    says: str


def habits(bias: pl.DataFrame | None) -> list[Habit]:
    """Table `bias` row by row; a habit is found where its interval leaves out what would be fair."""
    return [] if bias is None else [_habit(row) for row in bias.iter_rows(named=True)]


def _habit(row: Mapping[str, Any]) -> Habit:
    words, says = HABITS.get(row["measure"]), ""
    known = None not in (row["value"], row["low"], row["high"], row["fair"])
    if words and known and not row["low"] <= row["fair"] <= row["high"]:
        says = words[0] if row["value"] > row["fair"] else words[1]
    return Habit(
        row["judge"] or "the rewards", row["measure"], row["detail"] or "", row["value"], row["low"],
        row["high"], row["fair"], row["n"], row["reason"] or "", says,
    )  # fmt: skip


def outcomes(heldout: pl.DataFrame | None) -> dict[str, int]:
    """How many counted prompts the aligned model answers worse, alike and better, by mean reward."""
    if heldout is None:
        return {}
    means = (
        heldout.filter("counted")
        .group_by("prompt_id")
        .agg(change=(pl.col("aligned_reward") - pl.col("base_reward")).mean())
    )
    change = means["change"].round(9)
    return {
        "worse": int((change < 0).sum()),
        "unchanged": int((change == 0).sum()),
        "better": int((change > 0).sum()),
    }


def headline(run: Run) -> dict[str, float]:
    """A dozen figures that say how a run ended, for metrics/summary.json; only those that are known.

    Shares are in [0,1]; `benchmark_worst` is the least difference of a benchmark, `answers_worse` the share
    of held-out prompts that the aligned model answers worse, `verdicts_failed` that of the judges' words.
    """
    figures: dict[str, float | None] = {}
    summary = changes(run.metrics("evaluate"))
    if summary:
        overall = summary[0]
        figures |= {
            "accuracy_base": overall.before, "accuracy_aligned": overall.after,
            "difference": overall.difference, "difference_low": overall.low, "difference_high": overall.high,
            "win_rate": overall.win_rate,
        }  # fmt: skip
    if of_benchmarks := [change.difference for change in summary if change.kind == "benchmark"]:
        figures["benchmark_worst"] = min(of_benchmarks)
    if counts := outcomes(run.table("heldout")):
        figures["answers_worse"] = counts["worse"] / max(sum(counts.values()), 1)
    if (pairs := funnel(run.metrics("curriculum"))) is not None:
        figures |= {"pairs": pairs.kept, "pairs_kept": pairs.kept / pairs.possible}
    if (families := kin(run)) is not None and families.cut is not None:
        figures["families"] = len(families.families) + len(families.alone)
    if (judges := run.table("judges")) is not None and (said := _said(judges)):
        figures["verdicts_failed"] = int(judges["failed"].sum()) / said
    return {key: float(value) for key, value in figures.items() if value is not None}


def _said(judges: pl.DataFrame) -> int:
    return int(judges.select(pl.sum_horizontal("verdicts", "skipped", "failed").sum()).item())


RESULTS = pl.Schema(
    {
        "measure": pl.String,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "base": pl.Float64,
        "aligned": pl.Float64,
        "outcome": pl.String,
    }
)
LOSS = pl.Schema({"step": pl.Int64, "phase": pl.Int64, "loss": pl.Float64})


def points(run: Run) -> dict[str, pl.DataFrame]:
    """What `dvc plots` draws, by the file's name.

    `results` as RESULTS, `dropped` (reason, pairs; the kept ones last) and `loss` as LOSS; empty
    tables where a stage is not there.
    """
    results = [
        (f"{c.kind}: {c.competency}", c.difference, c.low, c.high, c.before, c.after, c.word)
        for c in changes(run.metrics("evaluate"))
    ]
    funnelled = funnel(run.metrics("curriculum"))
    dropped = [*funnelled.dropped, ("kept", funnelled.kept)] if funnelled else []
    return {
        "results": pl.DataFrame(results, schema=RESULTS, orient="row"),
        "dropped": pl.DataFrame(dropped, schema={"reason": pl.String, "pairs": pl.Int64}, orient="row"),
        "loss": _loss(run.points("train")),
    }


def _loss(history: pl.DataFrame | None) -> pl.DataFrame:
    if history is None:
        return pl.DataFrame(schema=LOSS)
    rows = history.filter(metric="loss").sort("step", "phase")
    return rows.select("step", "phase", loss="value").cast(LOSS)
