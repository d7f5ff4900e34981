"""What can be compared of two judges: their preferences always, their numbers on one scale alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from karma_plugins.contracts import Verdicts
from karma_plugins.judging import bias
from karma_plugins.judging.jury import Ballot, settle, win_share
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS, REWARDS

PROMPTS = 100


def answers() -> pl.DataFrame:
    """Two candidates' answers, b's the longer one."""
    rows = [(f"p{i:03d}", f"{m}{i:03d}", m, 10 + 5 * (m == "b")) for i in range(PROMPTS) for m in "ab"]
    names = ("prompt_id", "response_id", "model", "length")
    return pl.DataFrame(rows, schema=names, orient="row").sort("prompt_id", "response_id")


def comparisons(judge: str, pairs: list[tuple[str, str, str, float]]) -> pl.DataFrame:
    """From (prompt_id, response_a, response_b, p_a)."""
    rows = [
        {"prompt_id": prompt, "response_a": a, "response_b": b, "judge": judge, "version": "", "p_a": p,
         "order": "ab", "status": "tie" if p == 0.5 else "ok", "reason": None}
        for prompt, a, b, p in pairs
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=COMPARISONS.columns)


def report(
    scores: dict[str, np.ndarray[Any, Any]], pairs: dict[str, pl.DataFrame], *, aligned: bool = False
) -> pl.DataFrame:
    """The bias report of judges that score (`scores`, by row of `answers`) and judges that compare."""
    rows = answers()
    settled = {name: settle(pairs.get(name, COMPARISONS.empty())) for name in (*scores, *pairs)}
    columns = []
    for name in sorted(settled):
        if name in scores:
            columns.append(scores[name])
            continue
        joined = rows.join(win_share(settled[name]), on="response_id", how="left", maintain_order="left")
        columns.append(joined["score"].fill_null(np.nan).to_numpy())
    prompt = rows["prompt_id"].rle_id().cast(pl.Int64).to_numpy()
    votes = Ballot(rows, prompt, tuple(sorted(settled)), np.column_stack(columns), aligned)
    said = Verdicts(JUDGEMENTS.empty(), pl.concat([COMPARISONS.empty(), *pairs.values()]))
    return bias.report(votes, said, settled, REWARDS.empty(), [])


def habit(table: pl.DataFrame, measure: str, judge: str | None, detail: str | None = None) -> dict[str, Any]:
    rows = table.filter(
        (pl.col("measure") == measure)
        & pl.col("judge").eq_missing(judge)
        & pl.col("detail").eq_missing(detail)
    )
    assert rows.height == 1
    return rows.row(0, named=True)


def against(baseline: str, ties: int) -> pl.DataFrame:
    """Every answer against a baseline's, the first few tied."""
    pairs = [
        (row["prompt_id"], f"{baseline}-{row['prompt_id']}", row["response_id"], 0.5 if i < ties else i % 2)
        for i, row in enumerate(answers().iter_rows(named=True))
    ]
    return comparisons(baseline, pairs)


def labels(flipped: int) -> pl.DataFrame:
    """Answer a is labelled better, in the first few prompts b."""
    return comparisons(
        "label", [(f"p{i:03d}", f"a{i:03d}", f"b{i:03d}", float(i >= flipped)) for i in range(PROMPTS)]
    )


def test_judges_with_baselines_of_their_own() -> None:
    table = report({}, {"one": against("one", 4), "two": against("two", 0)})
    row = habit(table, "krippendorff_alpha", "one", "two")
    assert row["value"] is None and "compared with other answers" in row["reason"]
    assert habit(table, "ties", "one")["value"] == 4 / (2 * PROMPTS)
    assert habit(table, "ties", "two")["value"] == 0.0
    row = habit(table, "longer_wins", "one")
    assert row["value"] is None and "answers of no candidate" in row["reason"]
    assert habit(table, "opposite_order", "one", "two")["reason"].startswith("no pair of answers")


def test_judges_with_one_baseline_are_on_one_scale() -> None:
    one = against("base", 4)
    table = report(
        {}, {"one": one.with_columns(judge=pl.lit("one")), "two": one.with_columns(judge=pl.lit("two"))}
    )
    assert habit(table, "krippendorff_alpha", "one", "two")["value"] == pytest.approx(1.0)


def test_label_and_score() -> None:
    """In 20 of 100 prompts the label is the wrong way round."""
    scores = np.tile([0.8, 0.6], PROMPTS)
    table = report({"score": scores}, {"label": labels(20)})
    row = habit(table, "opposite_order", "label", "score")
    assert (row["value"], row["n"]) == (0.2, PROMPTS)
    assert row["low"] < 0.2 < row["high"]
    row = habit(table, "krippendorff_alpha", "label", "score")
    assert row["value"] is None and "different scales" in row["reason"]
    assert habit(table, "longer_wins", "label")["value"] == 0.2
    assert habit(table, "cohen_kappa", "label", "score")["value"] == pytest.approx(0.0)


def test_aligned_scores_are_on_one_scale() -> None:
    scores = np.tile([1.0, 0.0], PROMPTS)
    table = report({"score": scores}, {"label": labels(20)}, aligned=True)
    assert habit(table, "krippendorff_alpha", "label", "score")["value"] > 0.5


def test_judges_that_score_are_compared_as_before() -> None:
    scores = np.linspace(0, 1, 2 * PROMPTS)
    table = report({"one": scores, "two": scores, "three": 1 - scores}, {})
    assert habit(table, "krippendorff_alpha", "one", "two")["value"] == pytest.approx(1.0)
    assert habit(table, "krippendorff_alpha", None)["n"] == 6 * PROMPTS
    assert habit(table, "opposite_order", "one", "three")["value"] == 1.0
    assert habit(table, "opposite_order", "one", "two")["value"] == 0.0
