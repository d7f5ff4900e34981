"""Generation: a model answers prompts, each row with sampling noise of its own; finished shards are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import polars as pl

from karma_plugins import models
from karma_plugins.contracts import Generator, Model, Piece, Reply, Report, Request, Shards
from karma_plugins.errors import EmptyResultError, KarmaError, PluginError, not_installed
from karma_plugins.params import GenerateSection
from karma_plugins.registry import Bound, lock
from karma_plugins.runtime.progress import progress
from karma_plugins.runtime.shards import NoShards, key
from karma_plugins.schemas import RESPONSES
from karma_plugins.texts.identity import response_id as response_id


def generate(
    prompts: pl.DataFrame,
    model: Model,
    generator: Bound[Generator],
    settings: GenerateSection,
    *,
    split: str = "train",
    shards: Shards | None = None,
    report: Report | None = None,
) -> pl.DataFrame:
    """`settings.samples` answers of a model to each prompt of a split.

    prompts: table `prompts`. Returns table `responses`, in order of its key; what failed is a row whose
    `error` says why. Shards and their order are fixed by all prompts of the split, so that what was done
    before a restart changes no byte. Raises EmptyResultError where the split holds no prompt or every answer
    failed, PluginError where the generator breaks its contract.
    """
    plugin = generator.plugin
    if plugin.check is not None:
        with _blame(generator, model):
            plugin.check(model, prompts, generator.options)
    chosen = prompts.filter(pl.col("split") == split)
    if chosen.is_empty():
        raise EmptyResultError(
            f"generate {model.name}: split '{split}' has no prompt. Check section 'prompts'."
        )
    if plugin.recall is not None:
        return _some_answered(_recall(prompts, chosen, model, generator, settings.samples), model)
    requests = plan(chosen, model.name, settings)
    size = settings.shard if plugin.keeps_shards else len(requests)
    pieces = _pieces([requests[i : i + size] for i in range(0, len(requests), size)], model, generator)
    keeper = shards if shards is not None and plugin.keeps_shards else NoShards()
    frames: list[pl.DataFrame] = []
    done = failed = 0
    with progress(f"generate {model.name}", len(requests)) as advance:
        for frame in keeper.run(pieces):
            frames.append(frame)
            done, failed = done + frame.height, failed + frame.height - frame["error"].null_count()
            advance(frame.height)
            if report is not None:
                report({"answers": done, "failed": failed}, done)
    return _some_answered(pl.concat(frames).sort(RESPONSES.key), model)


def _some_answered(responses: pl.DataFrame, model: Model) -> pl.DataFrame:
    """The responses, unless all failed: what is wrong then is one thing, and no later stage would name it."""
    failed = responses.filter(pl.col("error").is_not_null())
    if failed.height < responses.height:
        return responses
    raise EmptyResultError(
        f"generate {model.name}: every one of {failed.height} answers failed, so there is nothing to go on "
        f"with. The first: {failed['error'][0]}. Correct that and run the stage again ('{model.path}')."
    )


def plan(prompts: pl.DataFrame, model: str, settings: GenerateSection) -> list[Request]:
    """The requests for a model, short conversations first: an order fixed by what is asked alone."""
    length = pl.col("messages").list.eval(pl.element().struct.field("content").str.len_bytes()).list.sum()
    ordered = prompts.select("prompt_id", "messages", length.alias("length")).sort("length", "prompt_id")
    return [
        Request(identity, messages, sample, row_seed(settings.seed, identity, model, sample))
        for identity, messages in zip(
            ordered["prompt_id"].to_list(), ordered["messages"].to_list(), strict=True
        )
        for sample in range(settings.samples)
    ]


def row_seed(seed: int, prompt_id: str, model: str, sample: int) -> int:
    """The seed of one answer's sampling noise (63 bits), from the stage's seed and whose answer it is."""
    parts = f"{seed}\0{prompt_id}\0{model}\0{sample}"
    return int.from_bytes(hashlib.blake2b(parts.encode(), digest_size=8).digest(), "big") >> 1


def summary(responses: pl.DataFrame) -> dict[str, float]:
    """Counts for metrics: answers, failures, empty and cut-off answers, tokens."""
    return {
        "answers": responses.height - responses["text"].null_count(),
        "failed": responses.height - responses["error"].null_count(),
        "empty": int((responses["text"].str.strip_chars() == "").sum()),
        "cut_off": int((responses["finish_reason"] == "length").sum()),
        "completion_tokens": int(responses["completion_tokens"].sum()),
    }


def _pieces(shares: Sequence[Sequence[Request]], model: Model, generator: Bound[Generator]) -> list[Piece]:
    """The work in pieces, one for each share of the requests."""
    keys = _keys(shares, model, generator) if generator.plugin.keeps_shards else [""] * len(shares)
    return [
        Piece(key, _answers, (share, model, generator), f"generate {model.name}, shard {i} of {len(shares)}")
        for i, (key, share) in enumerate(zip(keys, shares, strict=True), start=1)
    ]


def _keys(shares: Sequence[Sequence[Request]], model: Model, generator: Bound[Generator]) -> list[str]:
    """What decides a shard's rows: the generator's code and options, the model's bytes, the requests."""
    code = lock.plugin_digest(generator.plugin, generator.origin)
    options = generator.options.model_dump_json()
    bytes_of = [models.fingerprint(path) for path in models.files(model)]
    return [
        key(
            generator.plugin.name, generator.version, code, options, *bytes_of, model.name,
            json.dumps([[r.prompt_id, r.messages, r.sample, r.seed] for r in share]),
        )
        for share in shares
    ]  # fmt: skip


def _recall(
    prompts: pl.DataFrame, chosen: pl.DataFrame, model: Model, generator: Bound[Generator], samples: int
) -> pl.DataFrame:
    """The recorded answers to the prompts asked, a failure where there is none."""
    assert generator.plugin.recall is not None  # noqa: S101
    with _blame(generator, model):
        recorded = generator.plugin.recall(model, prompts, generator.options)
    wanted = chosen.select("prompt_id").join(
        pl.select(sample=pl.int_range(samples, dtype=pl.Int64)), how="cross"
    )
    answers = wanted.join(recorded, on=["prompt_id", "sample"], how="left").sort("prompt_id", "sample")
    missing = pl.col("text").is_null() & pl.col("error").is_null()
    texts = zip(*(answers[name].to_list() for name in ("prompt_id", "sample", "text")), strict=True)
    return answers.with_columns(
        pl.Series("response_id", [response_id(p, model.name, s, text) for p, s, text in texts], pl.String),
        pl.lit(model.name).alias("model"),
        pl.lit(None, pl.Int64).alias("seed"),
        pl.when(missing).then(pl.lit("no recorded answer")).otherwise("error").alias("error"),
    ).select(RESPONSES.columns.names())


def _answers(requests: Sequence[Request], model: Model, generator: Bound[Generator]) -> pl.DataFrame:
    replies = _complete(requests, model, generator)
    texts = [reply.text for reply in replies]
    ids = [response_id(r.prompt_id, model.name, r.sample, t) for r, t in zip(requests, texts, strict=True)]
    return pl.DataFrame(
        {
            "response_id": ids,
            "prompt_id": [r.prompt_id for r in requests],
            "model": [model.name] * len(requests),
            "sample": [r.sample for r in requests],
            "text": texts,
            "finish_reason": [reply.finish_reason for reply in replies],
            "prompt_tokens": [reply.prompt_tokens for reply in replies],
            "completion_tokens": [reply.completion_tokens for reply in replies],
            "seed": [r.seed for r in requests],
            "error": [reply.error for reply in replies],
        },
        schema=RESPONSES.columns,
    )


def _complete(requests: Sequence[Request], model: Model, generator: Bound[Generator]) -> Sequence[Reply]:
    who = _who(generator, model)
    if generator.plugin.generate is None:
        raise PluginError(f"{who}: it offers neither 'generate' nor 'recall'. Upgrade or report the plugin.")
    with _blame(generator, model):
        replies = list(generator.plugin.generate(model, requests, generator.options))
    if len(replies) != len(requests):
        raise PluginError(
            f"{who}: {len(replies)} replies for {len(requests)} requests. Upgrade or report the plugin."
        )
    for request, reply in zip(requests, replies, strict=True):
        if (reply.text is None) == (reply.error is None):
            given = "neither" if reply.text is None else "both"
            raise PluginError(
                f"{who}: prompt {request.prompt_id} must get a text or an error, got {given}. "
                "Upgrade or report the plugin."
            )
    return replies


@contextmanager
def _blame(generator: Bound[Generator], model: Model) -> Iterator[None]:
    """Name the plugin where its code fails in a way that it has no words for."""
    try:
        yield
    except KarmaError:
        raise
    except Exception as error:
        if isinstance(error, ImportError) and (reason := not_installed(error, _who(generator, model))):
            raise reason from error
        raise PluginError(
            f"{_who(generator, model)} failed with {type(error).__name__}: {error}. "
            "KARMA_DEBUG=1 shows where."
        ) from error


def _who(generator: Bound[Generator], model: Model) -> str:
    return f"generator '{generator.plugin.name}' ({generator.origin}), models.{model.name}"
