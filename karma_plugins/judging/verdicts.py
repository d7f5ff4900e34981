"""What counts as a verdict: whatever a judge returns is checked, and what is none becomes a failure row with
its reason, never a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import polars as pl

from karma_plugins.contracts import Judge, Verdict
from karma_plugins.errors import KarmaError
from karma_plugins.registry import Bound
from karma_plugins.schemas import JUDGEMENTS, Schema

VERDICTS = pl.Schema({"value": pl.Float64, "status": pl.String, "reason": pl.String})
OUTSIDE, UNEVEN = "outside [0, 1]", "a tie with an uneven value"
SKIPPED = Verdict(None, "skipped", "no recorded verdict")
#: Where an object lies in memory is no part of a reason: the same failure reads the same in every run.
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")

Call = Callable[[Sequence[Any], Any], Sequence[Any]]


def checked(call: Call, cases: Sequence[Any], options: Any) -> list[Verdict]:
    """One checked verdict for each thing asked: what the judge returns, or a failure and what was wrong.

    A KarmaError passes: it is about the judge's options or its server, not about an answer.
    """
    try:
        answered = list(call(cases, options))
    except (KarmaError, ImportError):  # a package that is not installed is no fault of an answer
        raise
    except Exception as error:  # noqa: BLE001 (the author's code runs here, and its faults are rows)
        return [failure(f"{type(error).__name__}: {error}")] * len(cases)
    if len(answered) != len(cases):
        return [failure(f"{len(answered)} verdicts for {len(cases)} asked")] * len(cases)
    return [_verdict(value) for value in answered]


def failure(reason: str) -> Verdict:
    """A failed verdict; its reason is one line of at most 200 characters."""
    line = ADDRESS.sub("0x", " ".join(reason.split()))
    return Verdict(None, "failed", line if len(line) <= 200 else f"{line[:199]}…")


def _verdict(value: Any) -> Verdict:
    if not isinstance(value, Verdict):
        value = Verdict(value)
    if value.status in ("skipped", "failed"):
        if value.value is not None:
            return failure(f"verdict with status {value.status} and a value")
        return Verdict(None, value.status, failure(value.reason or "no reason given").reason)
    if value.status not in ("ok", "tie"):
        return failure(f"unknown status {value.status!r}")
    if not isinstance(value.value, Real):
        return failure(f"{type(value.value).__name__} instead of a number")
    number = float(value.value)
    if not math.isfinite(number):
        return failure(f"{number} is no score")
    if not 0.0 <= number <= 1.0:
        return failure(OUTSIDE)
    if value.status == "tie" and number != 0.5:
        return failure(UNEVEN)
    return Verdict(number, value.status, None)


def verdict_frame(verdicts: Sequence[Verdict]) -> pl.DataFrame:
    """Verdicts as columns value, status and reason."""
    rows = [(v.value, v.status, v.reason) for v in verdicts]
    return pl.DataFrame(rows, schema=VERDICTS, orient="row")


def signed(frame: pl.DataFrame, judge: Bound[Judge], schema: Schema) -> pl.DataFrame:
    """The frame as a table, with the judge's name as params has it, and its version."""
    return frame.with_columns(judge=pl.lit(judge.name), version=pl.lit(judge.version)).select(
        schema.columns.names()
    )


def unspoken(judge: Bound[Judge], answers: pl.DataFrame, verdict: Verdict) -> pl.DataFrame:
    """Rows of table `judgements` for answers without a score: unfit ones skipped, others by the verdict."""
    unfit = pl.col("unfit").is_not_null()
    rows = answers.select(
        "prompt_id",
        "response_id",
        score=pl.lit(None, pl.Float64),
        status=pl.when(unfit).then(pl.lit("skipped")).otherwise(pl.lit(verdict.status)),
        reason=pl.coalesce("unfit", pl.lit(verdict.reason)),
    )
    return signed(rows, judge, JUDGEMENTS)


def with_ties(comparisons: pl.DataFrame) -> pl.DataFrame:
    """An even probability is a tie, whatever the judge called it."""
    tie = pl.col("status").is_in(["ok", "tie"]) & (pl.col("p_a") == 0.5)
    return comparisons.with_columns(status=pl.when(tie).then(pl.lit("tie")).otherwise("status"))
