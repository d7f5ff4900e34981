"""Pairs, answers and verdicts as plain rows, filtered: what `karma show` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from karma_plugins.study.reporting.browsing import content
from karma_plugins.study.reporting.collecting import ReportError, Run

#: Columns that hold texts, which are shown below the others.
TEXTS = ("prompt", "reference", "chosen", "rejected", "text", "base", "aligned", "reason")
#: The columns that each filter goes by, of which a table has one or none.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "model": ("model", "chosen_model", "rejected_model"), "prompt_id": ("prompt_id",), "judge": ("judge",),
    "competency": ("competency",), "status": ("status",), "margin": ("margin",), "kinship": ("kinship",),
    "contains": TEXTS,
}  # fmt: skip


def rows(run: Run, what: str, filters: Mapping[str, Any]) -> pl.DataFrame:
    """The rows of `pairs`, `answers`, `heldout` or `verdicts` that pass the filters, null ones not given.

    Raises ReportError where the run has none of them, or a filter goes by a column that they don't have.
    """
    frame = {"pairs": _pairs, "answers": _answers, "heldout": _heldout, "verdicts": _verdicts}[what](run)
    if frame is None:
        raise ReportError(
            f"karma show {what}: this run has none. Run the stage that makes them: `dvc repro`."
        )
    known = frame.collect_schema().names()
    for name, value in filters.items():
        if value is None or value == ():
            continue
        columns = [column for column in COLUMNS[name] if column in known]
        if not columns:
            raise ReportError(
                f"karma show {what}: has no {name}, so it can't be filtered by it. Leave it out."
            )
        frame = frame.filter(pl.any_horizontal(_passes(name, value, column) for column in columns))
    return frame.collect()


def _passes(name: str, value: Any, column: str) -> pl.Expr:
    held = pl.col(column)
    if isinstance(value, tuple):
        return held.is_between(*value).fill_null(value=False)
    if name == "contains":
        return held.str.to_lowercase().str.contains(value.lower(), literal=True).fill_null(value=False)
    return (held.str.starts_with(value) if name == "prompt_id" else held == value).fill_null(value=False)


def _prompts(run: Run) -> pl.LazyFrame | None:
    prompts = run.table("prompts")
    if prompts is None:
        return None
    return prompts.lazy().select(
        "prompt_id", "competency", "reference", prompt=content("messages", roles=True)
    )


def _pairs(run: Run) -> pl.LazyFrame | None:
    table = run.table("pairs")
    if table is None:
        return None
    texts = {
        "prompt": content("prompt", roles=True),
        "chosen": content("chosen"),
        "rejected": content("rejected"),
    }
    return table.lazy().sort("order").with_columns(**texts)


def _answers(run: Run) -> pl.LazyFrame | None:
    prompts, rewards = _prompts(run), run.place("data/jury/rewards.parquet")
    if prompts is None:
        return None
    answers = run.responses().select("prompt_id", "model", "sample", "response_id", "text", reason="error")
    if rewards is not None:
        answers = answers.join(
            pl.scan_parquet(rewards).select("response_id", "reward"), on="response_id", how="left"
        )
    return answers.join(prompts, on="prompt_id", how="left").sort("prompt_id", "model", "sample")


def _heldout(run: Run) -> pl.LazyFrame | None:
    prompts, table = _prompts(run), run.table("heldout")
    if prompts is None or table is None:
        return None
    change = pl.col("aligned_reward") - pl.col("base_reward")
    prompt_texts = prompts.drop("competency")
    return (
        table.lazy()
        .with_columns(change=change)
        .join(prompt_texts, on="prompt_id", how="left")
        .sort("change", "prompt_id", "sample", nulls_last=True)
    )


def _verdicts(run: Run) -> pl.LazyFrame:
    judgements, comparisons = run.verdicts()
    whole = pl.concat([judgements, comparisons], how="diagonal")
    model = run.responses().select("response_id", "model")
    return whole.join(model, on="response_id", how="left").sort(
        "prompt_id", "judge", "response_id", "response_a"
    )
