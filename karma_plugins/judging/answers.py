"""The answers that are judged: all of them in a few small columns, and their texts some prompts at a time.

A judge only ever sees answers that hold text; every other answer is a row with status `skipped` and a reason.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from karma_plugins.errors import TableError

MISSING, EMPTY, IDENTICAL = "no answer", "empty answer", "identical answers"
#: Answers, and pairs of answers, that are looked at in one go; a chunk holds whole prompts.
CHUNK, CHUNK_PAIRS = 32_768, 262_144


def index(responses: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """All answers, sorted, without their texts: prompt_id, response_id, model, length (characters), unfit.

    `unfit` says why an answer can't be judged, null where it can. Raises TableError where two have one id.
    """
    text = pl.col("text")
    empty = text.str.strip_chars() == ""
    unfit = pl.when(text.is_null()).then(pl.lit(MISSING)).when(empty).then(pl.lit(EMPTY))
    length = text.str.len_chars().cast(pl.Int64)
    answers = (
        responses.lazy()
        .select("prompt_id", "response_id", "model", length=length, unfit=unfit)
        .collect(engine="streaming")
        .sort("prompt_id", "response_id")
    )
    if (twice := answers["response_id"].hash().is_duplicated()).any():
        same = answers.filter(twice)["response_id"]
        if (same := same.filter(same.is_duplicated())).len():
            raise TableError(
                f"responses: two answers have the id '{same[0]}'. Generate or import them again."
            )
    return answers


def check_prompts(answers: pl.DataFrame, prompts: pl.DataFrame) -> None:
    """Raise TableError where an answer of the index belongs to no prompt in table prompts."""
    strangers = answers.join(prompts, on="prompt_id", how="anti")
    if strangers.height:
        model, prompt = strangers.select("model", "prompt_id").row(0)
        raise TableError(
            f"responses: {strangers.height} answers belong to no prompt in table prompts (first: '{prompt}' "
            f"by '{model}'). Run generate again, or correct the recorded answers."
        )


def chunks(answers: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The index in slices of whole prompts, cut by the whole of it alone."""
    if answers.is_empty():
        return
    prompt = answers["prompt_id"].rle_id().to_numpy()
    size = np.bincount(prompt)
    ends = np.cumsum(size)
    pairs = np.cumsum(size * (size - 1) // 2)
    start = 0
    while start < len(size):
        answers_done, pairs_done = (totals[start - 1] if start else 0 for totals in (ends, pairs))
        stop = min(
            int(np.searchsorted(ends, answers_done + CHUNK, side="right")),
            int(np.searchsorted(pairs, pairs_done + CHUNK_PAIRS, side="right")),
        )
        stop = max(stop, start + 1)
        yield answers[int(answers_done) : int(ends[stop - 1])]
        start = stop


def with_texts(
    chunk: pl.DataFrame, prompts: pl.DataFrame, responses: pl.DataFrame | pl.LazyFrame
) -> pl.DataFrame:
    """A chunk of the index with what a judge sees of each answer: text, and its prompt's columns."""
    first, last = chunk["prompt_id"][0], chunk["prompt_id"][-1]
    # Tables of answers are sorted by prompt, so that a reader skips what lies outside.
    here = pl.col("prompt_id").is_between(pl.lit(first), pl.lit(last))
    texts = responses.lazy().filter(here).select("response_id", "text").collect()
    shown = prompts.filter(here).select("prompt_id", "messages", "competency", "reference", "constraints")
    return chunk.join(texts, on="response_id", how="left", maintain_order="left").join(
        shown, on="prompt_id", how="left", maintain_order="left"
    )
