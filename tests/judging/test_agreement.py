"""Which answers judges prefer can be compared whatever their numbers mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from karma_plugins.contracts import Verdicts
from karma_plugins.judging.agreement import preferences, views
from karma_plugins.judging.bias import opposite_orders
from karma_plugins.judging.jury import Ballot, settle, win_share
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS

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


def ballot(
    scores: dict[str, np.ndarray[Any, Any]], pairs: dict[str, pl.DataFrame]
) -> tuple[Ballot, dict[str, pl.DataFrame]]:
    """The votes of judges that score (`scores`, by row of `answers`) and of judges that compare."""
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
    return Ballot(rows, prompt, tuple(sorted(settled)), np.column_stack(columns)), settled


def labels(flipped: int, judge: str = "label") -> pl.DataFrame:
    """Answer a is labelled better, in the first few prompts b."""
    return comparisons(
        judge, [(f"p{i:03d}", f"a{i:03d}", f"b{i:03d}", float(i >= flipped)) for i in range(PROMPTS)]
    )


def test_label_and_score() -> None:
    """In 20 of 100 prompts the label is the wrong way round."""
    (habit,) = opposite_orders(*ballot({"score": np.tile([0.8, 0.6], PROMPTS)}, {"label": labels(20)}))
    assert (habit.judge, habit.detail, habit.value, habit.n) == ("label", "score", 0.2, PROMPTS)
    assert habit.low is not None and habit.high is not None and habit.low < 0.2 < habit.high


def test_two_judges_that_compare() -> None:
    (habit,) = opposite_orders(*ballot({}, {"label": labels(20), "people": labels(50, "people")}))
    assert (habit.value, habit.n) == (0.3, PROMPTS)


def test_equal_scores_and_missing_ones_decide_nothing() -> None:
    scores = np.tile([0.5, 0.5], PROMPTS)
    scores[:20] = np.nan
    scores[20:40] = np.tile([0.9, 0.1], 10)
    (habit,) = opposite_orders(*ballot({"score": scores}, {"label": labels(5)}))
    assert (habit.value, habit.n) == (0.0, 10)


def test_judges_that_met_other_answers_share_no_pair() -> None:
    def against(baseline: str) -> pl.DataFrame:
        rows = [
            (r["prompt_id"], f"{baseline}-{r['prompt_id']}", r["response_id"], 1.0)
            for r in answers().to_dicts()
        ]
        return comparisons(baseline, rows)

    (habit,) = opposite_orders(*ballot({}, {"one": against("one"), "two": against("two")}))
    assert habit.value is None and habit.reason


def test_judges_that_score_alone_are_left_to_alpha() -> None:
    assert opposite_orders(*ballot({"one": np.ones(2 * PROMPTS), "two": np.ones(2 * PROMPTS)}, {})) == []


def test_views_of_bare_verdicts() -> None:
    said = Verdicts(JUDGEMENTS.empty(), pl.concat([labels(20), labels(50, "people")]))
    votes, (label, people) = views(said)
    _, p, q = preferences(label, people, votes)
    assert len(p) == PROMPTS and (p != q).mean() == 0.3
