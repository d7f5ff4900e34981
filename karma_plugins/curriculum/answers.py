"""Judged answers as numbers: what forming pairs needs of three tables, without their texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.errors import TableError
from karma_plugins.texts import similarity

Ints: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """The judged answers to training prompts, by prompt, model and sample; one array entry an answer.

    `prompt` and `model` are positions in `prompts` and `models`; `first` holds the position of each prompt's
    first answer, and one more entry that closes the last prompt. `disagreement` is NaN where one judge judged
    alone, `complexity` is a prompt's (NaN where it has a single answer), `likelihood` an answer's under the
    model to be trained (NaN where unknown). `signature` is there where
    near-duplicates are looked for.
    """

    prompts: pl.DataFrame
    models: pl.Series
    ids: pl.Series
    prompt: Ints
    model: Ints
    reward: Floats
    judges: Ints
    disagreement: Floats
    blank: Bools
    number: Ints
    digest: Ints
    signature: NDArray[np.uint8] | None
    first: Ints
    complexity: Floats
    likelihood: Floats
    counts: Mapping[str, int]


def judged(
    prompts: pl.DataFrame,
    responses: pl.DataFrame | pl.LazyFrame,
    rewards: pl.DataFrame | pl.LazyFrame,
    *,
    signatures: bool = False,
    perplexities: pl.DataFrame | None = None,
    likelihoods: pl.DataFrame | None = None,
) -> Answers:
    """Gather the answers that have a reward; texts are read for their digests and not kept.

    A prompt's complexity is the standard deviation of its answers' rewards, or of their `perplexities`
    (columns response_id, perplexity) where these are given; `likelihoods` (response_id, likelihood) likewise.
    Raises TableError for an answer to an unknown prompt, or an id that is not 16 hex digits.
    """
    training = prompts.filter(pl.col("split") == "train").sort("prompt_id").with_row_index("prompt")
    responses = responses.lazy()
    table, counts = _joined(prompts, training, responses, rewards.lazy())
    models = table["model"].unique().sort()
    table = table.with_columns(
        pl.col("model").cast(pl.Enum(models)).to_physical().cast(pl.UInt32),
        pl.col("judges").rank("dense").cast(pl.UInt32),
        pl.col("response_id").str.to_integer(base=16, dtype=pl.UInt64, strict=False).alias("number"),
    ).sort("prompt", "model", "sample")
    if table["number"].null_count():
        wrong = table.filter(pl.col("number").is_null())["response_id"].sort()[0]
        raise TableError(
            f"responses: response_id '{wrong}' is not 16 hex digits. Generate or import it again."
        )
    prompt, reward = table["prompt"].to_numpy(), table["reward"].to_numpy()
    first = np.searchsorted(prompt, np.arange(training.height + 1))
    return Answers(
        prompts=training,
        models=models,
        ids=table["response_id"],
        prompt=prompt,
        model=table["model"].to_numpy(),
        reward=reward,
        judges=table["judges"].to_numpy(),
        disagreement=table["disagreement"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
        blank=table["blank"].to_numpy(),
        number=table["number"].to_numpy(),
        digest=table["digest"].to_numpy(),
        signature=similarity.signatures(responses, table["response_id"]) if signatures else None,
        first=first,
        complexity=_spread(reward, first)
        if perplexities is None
        else _spread_of_known(
            _value(table["response_id"], perplexities, "perplexity"), prompt, training.height
        ),
        likelihood=np.full(len(reward), np.nan)
        if likelihoods is None
        else _value(table["response_id"], likelihoods, "likelihood"),
        counts=counts,
    )


def _joined(
    prompts: pl.DataFrame, training: pl.DataFrame, responses: pl.LazyFrame, rewards: pl.LazyFrame
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Answers with a reward, to training prompts, and how many answers there were of each fate."""
    text = pl.col("text").str.strip_chars()
    place = (
        prompts.lazy()
        .select("prompt_id", known=True)
        .join(training.lazy().select("prompt_id", "prompt"), on="prompt_id", how="left")
    )
    table = (
        responses.select(
            "response_id",
            "prompt_id",
            "model",
            "sample",
            digest=text.hash(0),
            blank=(text == "").fill_null(True),
            failed=text.is_null(),
        )
        .join(place, on="prompt_id", how="left")
        .join(rewards.select("response_id", "reward", "judges", "disagreement"), on="response_id", how="left")
        .collect(engine="streaming")
    )
    strangers = table.filter(pl.col("known").is_null())
    if strangers.height:
        row = strangers.sort("response_id").row(0, named=True)
        raise TableError(
            f"responses: answer '{row['response_id']}' of model '{row['model']}' is to prompt "
            f"'{row['prompt_id']}', which table prompts does not hold. Make both from the same prompts."
        )
    counts = {"all": table.height, "failed": int(table["failed"].sum())}
    table = table.filter(pl.col("reward").is_not_null(), pl.col("prompt").is_not_null())
    counts["judged"] = table.height
    return table.drop("prompt_id", "known", "failed"), counts


def _value(ids: pl.Series, known: pl.DataFrame, column: str) -> Floats:
    """What is known of each answer, NaN where nothing is."""
    joined = pl.DataFrame({"response_id": ids}).join(
        known, on="response_id", how="left", maintain_order="left"
    )
    return joined[column].fill_null(float("nan")).to_numpy()


def _spread_of_known(values: Floats, prompt: Ints, prompts: int) -> Floats:
    """As `_spread`, over the values that are known."""
    known = ~np.isnan(values)
    return _spread(values[known], np.searchsorted(prompt[known], np.arange(prompts + 1)))


def _spread(reward: Floats, first: Ints) -> Floats:
    """Each prompt's standard deviation of rewards over its answers, NaN for fewer than two."""
    size = np.diff(first)
    spread = np.full(len(size), np.nan)
    answered = size > 0
    starts, sizes = first[:-1][answered], size[answered]
    if len(starts):
        mean = np.add.reduceat(reward, starts) / sizes
        square = (reward - np.repeat(mean, sizes)) ** 2
        deviation = np.sqrt(np.add.reduceat(square, starts) / sizes)
        spread[answered] = np.where(sizes > 1, deviation, np.nan)
    return spread
