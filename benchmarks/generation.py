"""Answers a second of generator `transformers` against the best bare sampling loop over `model.generate`.

    python -m benchmarks.generation [FOLDER OF WEIGHTS] [PROMPTS.jsonl]

Both sides answer the same conversations with the same model, dtype, temperature and number of new tokens. The
bare loop sorts by length, samples with transformers' own `do_sample=True`, and is given the best of its own
batch sizes; the generator is measured at each of them too and judged by its best. Rounds alternate, and each
side's median counts.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from karma_plugins import models
from karma_plugins.contracts import Request
from karma_plugins.generation import row_seed
from karma_plugins.generation.generators.transformers import TransformersOptions, generate
from karma_plugins.models import loading
from karma_plugins.prompts import prompt_id

FOLDER, PROMPTS = "data/zoo/models/pupil", "data/zoo/prompts.jsonl"
TEMPERATURE, NEW_TOKENS, SAMPLES, ROUNDS = 0.9, 32, 2, 5
BATCH_SIZES = (64, 128, 256)


def bare(weights: Any, tokenizer: Any, conversations: Sequence[Any], batch_size: int) -> list[str]:
    """What a user would write: templates, sort by length, batch, sample, decode."""
    import torch

    texts = tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=True)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    answers = [""] * len(texts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        inputs = tokenizer(
            [texts[i] for i in chosen], return_tensors="pt", padding=True, add_special_tokens=False
        ).to(weights.device)
        with torch.inference_mode():
            output = weights.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                top_p=1.0,
                max_new_tokens=NEW_TOKENS,
            )
        decoded = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, decoded, strict=True):
            answers[i] = text
    return answers


def compare(folder: str = FOLDER, prompts: str = PROMPTS, rounds: int = ROUNDS) -> dict[str, float]:
    """Answers a second of both sides, each at its best batch size, and their ratio."""
    lines = Path(prompts).read_text(encoding="utf-8").splitlines()
    conversations = [record["messages"] for line in lines if (record := json.loads(line))["split"] == "train"]
    model = models.load("benchmark", folder)
    requests = [
        Request(prompt_id(messages), messages, sample, row_seed(0, prompt_id(messages), "benchmark", sample))
        for messages in conversations
        for sample in range(SAMPLES)
    ]
    repeated = [request.messages for request in requests]
    tokenizer, weights = loading.load_tokenizer(model.source), loading.load_model(model.source)
    runs: dict[tuple[str, int], Callable[[], object]] = {}
    for size in BATCH_SIZES:
        options = TransformersOptions(temperature=TEMPERATURE, max_new_tokens=NEW_TOKENS, batch_size=size)
        runs["bare", size] = lambda size=size: bare(weights, tokenizer, repeated, size)
        runs["generator", size] = lambda options=options: generate(model, requests, options)
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in runs}
    for number in range(rounds + 1):
        for key, run in runs.items():
            begun = time.perf_counter()
            run()
            if number:  # the first round warms up
                seconds[key].append(time.perf_counter() - begun)
    rates = {key: len(requests) / statistics.median(taken) for key, taken in seconds.items()}
    best = {side: max(rate for (s, _), rate in rates.items() if s == side) for side in ("bare", "generator")}
    return {
        "answers": len(requests),
        **{f"{side} at batch size {size}": round(rate, 1) for (side, size), rate in rates.items()},
        "ratio": round(best["generator"] / best["bare"], 3),
    }


if __name__ == "__main__":
    print(json.dumps(compare(*sys.argv[1:3]), indent=1))
