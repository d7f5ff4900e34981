"""What users ask of texts before they train on them: seen in evaluation? languages, lengths, refusals.

Only prompts seen in evaluation are dropped; the rest is counted, so that a reader of the card can judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karma_plugins.errors import TableError
from karma_plugins.runtime.noise import mixed
from karma_plugins.texts import records

WORD = r"[\p{L}\p{N}]+"
#: How an answer that refuses opens, in lower case and with straight apostrophes.
REFUSAL = (
    r"\b(i('m| am) (very |really )?sorry,? but|i apologi[sz]e,? but|i('m| am) (unable|not able) to|"
    r"i (can't|cannot|can not|won't|will not|must decline to) "
    r"(help|assist|provide|create|write|generate|fulfil|do that|answer|comply|engage|support|discuss|share)|"
    r"as an ai( language)? model|as a (large )?language model)"
)
QUANTILES = {"least": 0.0, "quarter": 0.25, "median": 0.5, "three_quarters": 0.75, "greatest": 1.0}
#: Texts whose language is looked at: a detection takes milliseconds.
LANGUAGE_SAMPLE = 300


def overlap(prompts: pl.DataFrame, items: Iterable[str], *, ngram: int = 13) -> pl.DataFrame:
    """How much of each prompt stands in evaluation items: columns prompt_id, overlap in [0,1], sorted by id.

    overlap = share of the prompt's runs of `ngram` words (letters and digits, lower case) that are also a run
    of some item; a text of fewer words is one run by itself. The prompt is all its user messages (Brown et
    al. 2020, appendix C).
    """
    prompt_texts = prompts.select(
        "prompt_id",
        text=pl.col("messages")
        .list.eval(
            pl.when(pl.element().struct.field("role") == "user")
            .then(pl.element().struct.field("content"))
            .drop_nulls()
        )
        .list.join("\n"),
    ).sort("prompt_id")
    known = np.unique(_runs(pl.Series(list(items), dtype=pl.String), ngram)[1])
    owner, runs = _runs(prompt_texts["text"], ngram)
    seen = np.isin(runs, known)
    total = np.bincount(owner, minlength=prompt_texts.height)
    hits = np.bincount(owner, weights=seen, minlength=prompt_texts.height)
    return prompt_texts.select("prompt_id", overlap=pl.Series(hits / np.maximum(total, 1)))


def drop_seen(
    prompts: pl.DataFrame, items: Iterable[str], *, ngram: int = 13, share: float = 0.5
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Drop training prompts seen in evaluation: what stays, and the dropped prompt_id with their overlap.

    Seen means an overlap of `share` or more (0 = any). Held-out prompts stay: they are evaluation themselves.
    """
    table = prompts.join(
        overlap(prompts, items, ngram=ngram), on="prompt_id", how="left", maintain_order="left"
    )
    seen = (pl.col("split") == "train") & (pl.col("overlap") >= share) & (pl.col("overlap") > 0)
    return table.filter(~seen).drop("overlap"), table.filter(seen).select("prompt_id", "overlap")


def read_items(path: Path) -> list[str]:
    """The texts of evaluation items: every string in .jsonl, .json, .csv or .parquet files, lines of .txt.

    `path` is such a file or a folder of them. Of nested records each string counts. Raises TableError for a
    file that can't be read.
    """
    if not path.exists():
        raise TableError(f"evaluation items '{path}': no such file.")
    files = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
    if not files:
        raise TableError(f"evaluation items '{path}': the folder holds no file.")
    return [text for file in files for text in _texts(file)]


def languages(texts: pl.Series) -> dict[str, int]:
    """Counts of detected languages (ISO 639-1) of the first 300 texts; `unknown` where text is too short."""
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0  # without it the library's answers are random
    counts: dict[str, int] = {}
    for text in texts.head(LANGUAGE_SAMPLE):
        try:
            language = detect(text)
        except LangDetectException:
            language = "unknown"
        counts[language] = counts.get(language, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def refuses(text: pl.Expr) -> pl.Expr:
    """Whether an answer opens as a refusal does (English only; null for no answer)."""
    return (
        text.str.slice(0, 200)
        .str.replace_all("’", "'", literal=True)
        .str.to_lowercase()
        .str.contains(REFUSAL)
    )


def lengths(texts: pl.Series) -> dict[str, int]:
    """Quantiles of the texts' lengths in characters."""
    length = texts.drop_nulls().str.len_chars().to_numpy()
    if not len(length):
        return {}
    return {name: int(np.quantile(length, q, method="lower")) for name, q in QUANTILES.items()}


def counted(pairs: pl.DataFrame) -> dict[str, Any]:
    """Quantiles of the lengths of chosen and rejected answers in table pairs, and how many refuse.

    `chosen_longer` is the share of pairs whose chosen answer is the longer one: far from a half, length was
    rewarded.
    """
    sides = {side: pairs[side].list.last().struct.field("content") for side in ("chosen", "rejected")}
    figures: dict[str, Any] = {side: lengths(text) for side, text in sides.items()}
    figures["refusals"] = {
        side: int(pairs.select(refuses(pl.lit(text)).sum()).item()) for side, text in sides.items()
    }
    longer = sides["chosen"].str.len_chars() > sides["rejected"].str.len_chars()
    figures["chosen_longer"] = int(longer.sum()) / max(pairs.height, 1)
    return figures


def _runs(texts: pl.Series, ngram: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Every run of words as (number of its text, hash)."""
    words = texts.str.to_lowercase().str.extract_all(WORD).to_frame("word").with_row_index("text")
    counts = words["word"].list.len().to_numpy().astype(np.int64)
    flat = words.select(pl.col("word").explode(empty_as_null=False)).to_series().hash(0).to_numpy()
    size = np.minimum(counts, ngram)
    runs = np.where(counts > 0, counts - size + 1, 0)
    owner = np.repeat(np.arange(len(counts)), runs)
    first = np.cumsum(counts) - counts
    start = np.arange(len(owner)) - np.repeat(np.cumsum(runs) - runs, runs) + np.repeat(first, runs)
    hashed = np.repeat(size, runs).astype(np.uint64)
    for i in range(ngram):
        inside = i < np.repeat(size, runs)
        step = mixed(hashed ^ flat[np.minimum(start + i, max(len(flat) - 1, 0))]) if len(flat) else hashed
        hashed = np.where(inside, step + np.uint64(i + 1), hashed)
    return owner, hashed


def _texts(path: Path) -> Iterable[str]:
    if path.suffix == ".txt":
        with records.opened(path) as stream:
            return [line for _, line in records.text_lines(path, stream) if line.strip()]
    return [text for _, value in records.values(path, counts=Counter()) for text in _strings(value)]


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)
