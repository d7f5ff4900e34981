"""The answers that are judged.

A judge only ever sees answers that hold text; every other answer is a row with status `skipped` and a reason.
"""

from __future__ import annotations

import polars as pl

from karma_plugins.errors import TableError

MISSING, EMPTY, IDENTICAL = "no answer", "empty answer", "identical answers"


def gathered(prompts: pl.DataFrame, responses: pl.DataFrame) -> pl.DataFrame:
    """All answers with what a judge sees, sorted; `unfit` says why one can't be judged, null where it can."""
    answers = responses.select("response_id", "prompt_id", "model", "sample", "text").join(
        prompts.select("prompt_id", "messages", "competency", "reference", "constraints"),
        on="prompt_id",
        how="left",
    )
    strangers = answers.filter(pl.col("messages").is_null())
    if strangers.height:
        model, prompt = strangers.select("model", "prompt_id").row(0)
        raise TableError(
            f"responses: {strangers.height} answers belong to no prompt in table prompts (first: '{prompt}' "
            f"by '{model}'). Run generate again, or correct the recorded answers."
        )
    return answers.with_columns(_unfit()).sort("prompt_id", "response_id")


def fitness(responses: pl.DataFrame) -> pl.DataFrame:
    """All answers as a jury sees them, sorted: response_id, prompt_id, model, length (characters), unfit."""
    length = pl.col("text").str.len_chars().cast(pl.Int64)
    return responses.select("response_id", "prompt_id", "model", _unfit(), length=length).sort(
        "prompt_id", "response_id"
    )


def _unfit() -> pl.Expr:
    empty = pl.col("text").str.strip_chars() == ""
    unfit = pl.when(pl.col("text").is_null()).then(pl.lit(MISSING)).when(empty).then(pl.lit(EMPTY))
    return unfit.alias("unfit")
