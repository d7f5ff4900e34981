from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from karma_plugins.texts import similarity


def estimate(one: str | None, other: str | None) -> float:
    texts = pl.LazyFrame(
        {"response_id": ["a", "b"], "text": [one, other]},
        schema={"response_id": pl.String, "text": pl.String},
    )
    signature = similarity.signatures(texts, pl.Series(["a", "b"]))
    return float(similarity.jaccard(signature, np.array([0]), np.array([1]))[0])


def exact(one: str, other: str) -> float:
    """Jaccard index of the sets of runs of eight bytes, the last ones padded."""

    def shingles(text: str) -> set[bytes]:
        raw = text.strip().lower().encode()
        return {(raw + b"\0" * 8)[i : i + 8] for i in range(len(raw))}

    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.8, 0.9, 1.0])
def test_the_estimate_is_near_the_exact_similarity(share: float):
    random = np.random.default_rng(round(share * 10))
    found = []
    for _ in range(20):
        words = [f"w{n}" for n in random.integers(0, 10**6, 60)]
        others = [
            w if random.random() < share else f"x{n}"
            for w, n in zip(words, random.integers(0, 10**6, 60), strict=True)
        ]
        one, other = " ".join(words), " ".join(others)
        found.append(estimate(one, other) - exact(one, other))
    assert abs(np.mean(found)) < 0.04
    assert np.sqrt(np.mean(np.square(found))) < 0.1


def test_equal_texts_are_alike_whatever_their_case_and_edges():
    assert estimate("The answer is 42.", "  the ANSWER is 42.\n") == 1.0
    assert estimate("Größe: 日本語のテキスト", "grösse: 日本語のテキスト") < 1.0


def test_short_and_empty_texts():
    assert estimate("Paris", "paris ") == 1.0
    assert estimate("Paris", "Rome") == 0.0
    assert estimate("", None) == 1.0
    assert estimate("", "Paris") == 0.0


def test_signatures_keep_the_order_of_the_ids_and_do_not_depend_on_batches(monkeypatch):
    texts = pl.DataFrame(
        {"response_id": [f"r{i}" for i in range(20)], "text": [f"text number {i * i}" for i in range(20)]}
    )
    ids = texts["response_id"].reverse()
    whole = similarity.signatures(texts.lazy(), ids)
    monkeypatch.setattr(similarity, "BATCH", 3)
    assert (similarity.signatures(texts.lazy(), ids) == whole).all()
    assert (similarity.signatures(texts.lazy(), texts["response_id"]) == whole[::-1]).all()
