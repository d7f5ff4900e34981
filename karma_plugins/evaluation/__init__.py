"""What the training did: the aligned model against its base, on held-out prompts and on the profile's tasks.

Both models answer the same prompts with the same sampling noise, so that every comparison is paired by
prompt. A prompt counts only if the same judges rewarded every answer of both models; what is left out is
counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from karma_plugins import generation, profiling
from karma_plugins.contracts import Generator, Model, Profiler, Report, Shards
from karma_plugins.errors import EmptyResultError
from karma_plugins.evaluation.measured import blocks, of
from karma_plugins.judging import deciding
from karma_plugins.params import EvaluateSection, GenerateSection, JurySection
from karma_plugins.profiling import comparing
from karma_plugins.registry import Bound, Juror
from karma_plugins.runtime import statistics
from karma_plugins.schemas import HELDOUT, RESPONSES
from karma_plugins.texts import forms

BASE, ALIGNED = "base", "aligned"
#: What is measured on held-out prompts, by its key in the metrics, with the column of the outcomes.
MEASURES = {
    "accuracy.base": "base",
    "accuracy.aligned": "aligned",
    "accuracy.difference": "difference",
    "win_rate": "win",
}
POINTS = pl.Schema(
    {"competency": pl.String, "measure": pl.String, "mean": pl.Float64, "low": pl.Float64, "high": pl.Float64}
)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found.

    `metrics` is nested, ready for metrics/evaluate.json; `points` the same as a table for plots (competency,
    measure, mean, low, high; competency `all` first); `outcomes` one row for each prompt that counted
    (prompt_id, competency, base, aligned, difference, win); `answers` table `heldout`.
    """

    metrics: dict[str, Any]
    points: pl.DataFrame
    outcomes: pl.DataFrame
    answers: pl.DataFrame


def evaluate(
    base: Model,
    aligned: Model,
    prompts: pl.DataFrame,
    jury: Sequence[Juror],
    profiler: Bound[Profiler],
    tasks: Mapping[str, Sequence[str]],
    generator: Bound[Generator],
    settings: EvaluateSection,
    *,
    shards: Shards | None = None,
    report: Report | None = None,
) -> Evaluation:
    """Compare `aligned` with `base` on the held-out rows of table `prompts` and on the profiler's tasks.

    Raises EmptyResultError where no prompt is held out, or none could be judged for both models.
    """
    questions = heldout(prompts, settings)
    answers = pl.concat(
        [
            _answers(model, label, questions, generator, settings, shards, report)
            for label, model in ((BASE, base), (ALIGNED, aligned))
        ]
    )
    judged = deciding.judge(
        questions, answers, None, jury, JurySection(weights=settings.weights), shards=shards, report=report
    )
    compared = outcomes(questions, answers, judged.rewards)
    if compared.is_empty():
        raise EmptyResultError(
            f"evaluate: none of {questions.height} held-out prompts has judged answers of both models. "
            "Look at evaluate.judges."
        )
    profiles = {
        label: profiling.profile(replace(model, name=label), profiler, tasks, shards=shards)
        for label, model in ((BASE, base), (ALIGNED, aligned))
    }
    metrics = compare(compared, settings) | {
        "prompts": _counts(questions, answers, judged.rewards, compared),
        "profile": {label: _means(profile.scores) for label, profile in profiles.items()},
        "benchmarks": comparing.compared(profiles[BASE], profiles[ALIGNED]),
        "form": forms.report(_texts(answers, BASE), _texts(answers, ALIGNED), settings.forms),
    }
    return Evaluation(
        metrics, points(metrics), compared, side_by_side(questions, answers, judged.rewards, compared)
    )


def outcomes(prompts: pl.DataFrame, responses: pl.DataFrame, rewards: pl.DataFrame) -> pl.DataFrame:
    """One row for each prompt whose every answer by both models was rewarded by the same judges.

    Columns prompt_id, competency, base and aligned (mean reward over samples), difference, and win: the share
    of samples in which the aligned model's answer has a higher reward than the base's of the same number, a
    tie counting half.
    """
    rewarded = responses.join(rewards.drop("prompt_id"), on="response_id", how="left")
    of = {label: rewarded.filter(pl.col("model") == label) for label in (BASE, ALIGNED)}
    pairs = (
        of[BASE]
        .join(of[ALIGNED], on=["prompt_id", "sample"], how="full", coalesce=True, suffix="_aligned")
        .sort("prompt_id", "sample")
        .with_columns(
            win=0.5 + 0.5 * (pl.col("reward_aligned") - pl.col("reward")).sign(),
            counts=(pl.col("judges") == pl.col("judges_aligned")).fill_null(value=False),
        )
    )
    compared = pairs.group_by("prompt_id", maintain_order=True).agg(
        pl.col("reward").mean().alias("base"),
        pl.col("reward_aligned").mean().alias("aligned"),
        pl.col("win").mean(),
        pl.col("counts").all(),
    )
    return (
        compared.filter("counts")
        .join(prompts.select("prompt_id", "competency"), on="prompt_id", how="inner")
        .with_columns(difference=pl.col("aligned") - pl.col("base"))
        .select("prompt_id", "competency", "base", "aligned", "difference", "win")
        .sort("prompt_id")
    )


def side_by_side(
    prompts: pl.DataFrame, responses: pl.DataFrame, rewards: pl.DataFrame, counted: pl.DataFrame
) -> pl.DataFrame:
    """Table `heldout`: the text and the reward of each model's answers; `counted` holds `outcomes`."""
    rewarded = responses.join(rewards.select("response_id", "reward"), on="response_id", how="left")
    of = {
        label: rewarded.filter(model=label).select(
            "prompt_id", "sample", pl.col("text").alias(label), pl.col("reward").alias(f"{label}_reward")
        )
        for label in (BASE, ALIGNED)
    }
    both = of[BASE].join(of[ALIGNED], on=["prompt_id", "sample"], how="full", coalesce=True)
    return (
        both.join(prompts.select("prompt_id", "competency"), on="prompt_id", how="inner")
        .with_columns(counted=pl.col("prompt_id").is_in(counted["prompt_id"].implode()))
        .select(HELDOUT.columns.names())
        .sort(HELDOUT.key)
    )


def compare(compared: pl.DataFrame, settings: EvaluateSection) -> dict[str, Any]:
    """The measures over all prompts and, under `competency`, over those of each: mean and 95% interval."""
    return {
        **_measures(compared, settings),
        "competency": {
            str(competency): {"prompts": rows.height} | _measures(rows, settings)
            for (competency,), rows in sorted(
                compared.group_by("competency"), key=lambda group: str(group[0])
            )
        },
    }


def points(metrics: Mapping[str, Any]) -> pl.DataFrame:
    """The metrics as one long table, for `dvc plots`."""
    rows: list[tuple[str, str, float | None, float | None, float | None]] = [
        (competency, measure, *of(block, measure))
        for competency, block in blocks(metrics)
        for measure in MEASURES
    ]
    rows += [
        (competency, f"profile.{label}", score, None, None)
        for label in (BASE, ALIGNED)
        for competency, score in metrics["profile"][label].items()
    ]
    for competency, block in metrics.get("benchmarks", {}).items():
        change = block["difference"]
        rows.append((competency, "benchmark.difference", change["mean"], change["low"], change["high"]))
    return pl.DataFrame(rows, schema=POINTS, orient="row")


def flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The metrics with dotted keys, as MLflow takes them; what is null or no number is left out."""
    numbers: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            numbers |= flat(value, f"{prefix}{key}.")
        elif value is not None and not isinstance(value, str):
            numbers[f"{prefix}{key}"] = value
    return numbers


def table(metrics: Mapping[str, Any]) -> str:
    """The base against the aligned model by competency, as text: means, and 95% intervals in brackets."""
    head = ("competency", "prompts", "base", "aligned", "difference", "win rate")
    rows: list[tuple[str, ...]] = [head]
    for name, block in blocks(metrics):
        n = metrics["prompts"]["counted"] if block is metrics else block["prompts"]
        mean, low, high = of(block, "accuracy.difference")
        win, win_low, win_high = of(block, "win_rate")
        rows.append(
            (
                name,
                str(n),
                f"{of(block, 'accuracy.base')[0]:.3f}",
                f"{of(block, 'accuracy.aligned')[0]:.3f}",
                f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]",
                f"{win:.3f} [{win_low:.3f}, {win_high:.3f}]",
            )
        )
    rows += [_benchmark_row(name, block) for name, block in metrics.get("benchmarks", {}).items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    prompts = metrics["prompts"]
    if prompts["left_out"]:
        lines.append(
            f"{prompts['left_out']} of {prompts['asked']} prompts left out: an answer missing or not judged "
            f"(base {prompts['unrewarded'][BASE]}, aligned {prompts['unrewarded'][ALIGNED]} answers)"
        )
    if "form" in metrics:
        lines.append(forms.sentence(metrics["form"]))
    return "\n".join(lines)


def _benchmark_row(competency: str, block: Mapping[str, Any]) -> tuple[str, str, str, str, str, str]:
    """A line of the table: what became of a benchmark's score, and a word where it fell."""
    change = block["difference"]
    interval = "" if change["low"] is None else f" [{change['low']:+.3f}, {change['high']:+.3f}]"
    return (
        f"benchmark {competency}",
        "" if block["items"] is None else str(block["items"]),
        f"{block['base']:.3f}",
        f"{block['aligned']:.3f}",
        f"{change['mean']:+.3f}{interval}",
        "fell" if change["mean"] < 0 else "",
    )


def heldout(prompts: pl.DataFrame, settings: EvaluateSection) -> pl.DataFrame:
    """The prompts that both models are asked; EmptyResultError where none is held out."""
    held_out = prompts.filter(pl.col("split") == "heldout").sort("prompt_id")
    if held_out.is_empty():
        raise EmptyResultError("evaluate: no prompt is held out. Set prompts.heldout, or name a split.")
    if settings.limit is None:
        return held_out
    return held_out.filter(pl.int_range(pl.len()).over("competency") < settings.limit)


def _answers(
    model: Model,
    label: str,
    prompts: pl.DataFrame,
    generator: Bound[Generator],
    settings: EvaluateSection,
    shards: Shards | None,
    report: Report | None,
) -> pl.DataFrame:
    """The model's answers under the name `label`; drawn under one name, so that both get the same noise."""

    def told(metrics: Mapping[str, float], step: int) -> None:
        if report is not None:
            report({f"{label}.{key}": value for key, value in metrics.items()}, step)

    drawn = generation.generate(
        prompts,
        replace(model, name="evaluated"),
        generator,
        GenerateSection(samples=settings.samples, seed=settings.seed),
        split="heldout",
        shards=shards,
        report=told,
    )
    ids = [
        generation.response_id(prompt_id, label, sample, text)
        for prompt_id, sample, text in drawn.select("prompt_id", "sample", "text").iter_rows()
    ]
    return drawn.with_columns(model=pl.lit(label), response_id=pl.Series(ids, dtype=pl.String)).select(
        RESPONSES.columns.names()
    )


def _texts(answers: pl.DataFrame, label: str) -> pl.Series:
    return answers.filter(pl.col("model") == label)["text"]


def _means(scores: pl.DataFrame) -> dict[str, float | None]:
    """Mean score of each competency on the profile's tasks, null where every cell is missing."""
    means = scores.group_by("competency").agg(pl.col("score").sort().mean()).sort("competency")
    return dict(means.iter_rows())


def _measures(rows: pl.DataFrame, settings: EvaluateSection) -> dict[str, Any]:
    values = rows.select(MEASURES.values()).to_numpy().astype(np.float64)
    mean, low, high = statistics.bootstrap(values, rounds=settings.bootstrap, seed=settings.seed)
    measures: dict[str, Any] = {"accuracy": {}}
    for i, measure in enumerate(MEASURES):
        outer, _, inner = measure.partition(".")
        block = {"mean": float(mean[i]), "low": float(low[i]), "high": float(high[i])}
        if inner:
            measures[outer][inner] = block
        else:
            measures[outer] = block
    return measures


def _counts(
    questions: pl.DataFrame, answers: pl.DataFrame, rewards: pl.DataFrame, compared: pl.DataFrame
) -> dict[str, Any]:
    missing = answers.filter(pl.col("text").is_null())
    unrewarded = answers.join(rewards, on="response_id", how="anti")

    def by_model(rows: pl.DataFrame) -> dict[str, int]:
        return {label: rows.filter(pl.col("model") == label).height for label in (BASE, ALIGNED)}

    return {
        "asked": questions.height,
        "counted": compared.height,
        "left_out": questions.height - compared.height,
        "unanswered": by_model(missing),
        "unrewarded": by_model(unrewarded),
    }
