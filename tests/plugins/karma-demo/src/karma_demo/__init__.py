"""A judge that likes answers of a given length, and a metric that calls models kin when they score alike."""

from collections.abc import Sequence

import polars as pl
from pydantic import Field

from karma_plugins import Answer, Evidence, Judge, KinshipMetric, Options, hookimpl


class DemoOptions(Options):
    """What `judge.judges.demo` may hold beside what every entry does."""

    words: int = Field(5, ge=1, description="the best number of words")


def score(answers: Sequence[Answer], options: DemoOptions) -> list[float]:
    """1 for an answer of exactly the best length, less the further away from it."""
    return [1 / (1 + abs(len(answer.text.split()) - options.words)) for answer in answers]


def measure(evidence: Evidence, options: Options) -> pl.DataFrame:
    """1 minus the difference of two models' mean scores."""
    mean = evidence.scores.group_by("model").agg(pl.col("score").mean(), pl.len().alias("n_items"))
    pairs = mean.join(mean, how="cross", suffix="_b").filter(pl.col("model") < pl.col("model_b"))
    return pairs.select(
        competency=pl.lit(None, pl.String),
        model_a="model",
        model_b="model_b",
        kinship=1 - (pl.col("score") - pl.col("score_b")).abs(),
        n_items=pl.col("n_items").cast(pl.Int64),
        reason=pl.when(pl.col("score").is_null() | pl.col("score_b").is_null()).then(pl.lit("no score")),
    )


@hookimpl
def karma_register_judges() -> list[Judge]:
    """The judge."""
    return [Judge(name="demo", score=score, options=DemoOptions)]


@hookimpl
def karma_register_kinship_metrics() -> list[KinshipMetric]:
    """The metric."""
    return [KinshipMetric(name="demo", measure=measure)]
