"""The answers that are judged, and which pairs of them a pairwise judge is asked about.

A judge only ever sees answers that hold text; every other answer is a row with status `skipped` and a reason.
"""

from __future__ import annotations

import polars as pl

from karma_plugins.errors import TableError
from karma_plugins.params import JudgeEntry

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


def pairs(answers: pl.DataFrame, kinship: pl.DataFrame | None, entry: JudgeEntry) -> pl.DataFrame:
    """The pairs of kin answers to one prompt, once for each order shown; `unfit` as for answers.

    Columns prompt_id, response_a, response_b (a < b), order, row_a, row_b (places in `answers`), unfit.
    """
    rows = answers.select("prompt_id", "response_id", "model", "competency", "text", "unfit").with_row_index(
        "row"
    )
    pairs = rows.join(rows.drop("competency"), on="prompt_id", suffix="_b").filter(
        pl.col("row") < pl.col("row_b")
    )
    if kinship is not None and entry.kin_radius < 1:
        pairs = _only_kin(pairs, kinship, 1 - entry.kin_radius)
    same = pl.when(pl.col("text") == pl.col("text_b")).then(pl.lit(IDENTICAL))
    pairs = pairs.select(
        "prompt_id",
        response_a="response_id",
        response_b="response_id_b",
        row_a="row",
        row_b="row_b",
        unfit=pl.coalesce("unfit", "unfit_b", same),
    )
    if entry.both_orders:
        pairs = pairs.join(pl.DataFrame({"order": ["ab", "ba"]}), how="cross")
    else:
        # The ids are hashes, so that the lesser one is any of the two models' answers by chance.
        pairs = pairs.with_columns(order=pl.lit("ab"))
    return pairs.sort("prompt_id", "response_a", "response_b", "order")


def _only_kin(pairs: pl.DataFrame, kinship: pl.DataFrame, least: float) -> pl.DataFrame:
    """The pairs whose models are one, or kin by the acting metric: overall, or in the prompt's competency."""
    acting = kinship.filter(pl.col("primary") & (pl.col("kinship") >= least)).select(
        "competency", "model_a", "model_b"
    )
    both = pl.concat([acting, acting.select("competency", model_a="model_b", model_b="model_a")])
    kin = pl.concat(
        [
            pairs.join(both.filter(pl.col("competency").is_null()).drop("competency"),
                       left_on=["model", "model_b"], right_on=["model_a", "model_b"], how="semi"),
            pairs.join(both, left_on=["competency", "model", "model_b"],
                       right_on=["competency", "model_a", "model_b"], how="semi"),
            pairs.filter(pl.col("model") == pl.col("model_b")),
        ]
    )  # fmt: skip
    return kin.unique(["row", "row_b"])
