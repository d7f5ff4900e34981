"""Candidates with weights of their own, as far as they can be looked at without loading any weight."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import polars as pl

from karma_plugins import models
from karma_plugins.checking.findings import Findings
from karma_plugins.contracts import Model

#: Prompts that a chat template is tried on at most.
PROMPTS = 300


def look(pool: Mapping[str, Model | None], prompts: pl.DataFrame | None, findings: Findings) -> None:
    """Note a tokenizer that can't pad or has no chat template, and prompts that the template refuses.

    `pool` holds the candidates by name, `asked` is table `prompts` where it could be read. A model of a hub
    is looked at where it was fetched already.
    """
    if find_spec("transformers") is None:
        return
    for name, model in pool.items():
        source = model.source if model is not None else None
        if isinstance(source, models.Weights) and _is_here(source):
            findings.attempt(_template, name, source, prompts, findings)


def _is_here(source: models.Weights) -> bool:
    if source.hub is None:
        return True
    from huggingface_hub import try_to_load_from_cache

    return isinstance(
        try_to_load_from_cache(source.hub, "tokenizer_config.json", revision=source.revision), str
    )


def _template(name: str, source: models.Weights, prompts: pl.DataFrame | None, findings: Findings) -> None:
    from karma_plugins.models import loading, templates

    tokenizer = loading.load_tokenizer(source)
    templates.check_chat_template(tokenizer, source)
    if prompts is None:
        return
    conversations = prompts["messages"].head(PROMPTS).to_list()
    texts = [
        templates.render(tokenizer, source, models.with_system_prompt(messages, source.system_prompt))
        for messages in conversations
    ]
    refusals = [text.reason for text in texts if isinstance(text, templates.Refusal)]
    if not refusals:
        return
    every = len(refusals) == len(texts)
    which = "every prompt" if every else f"{len(refusals)} of the first {len(texts)} prompts"
    (findings.errors if every else findings.warnings).append(
        f"models.{name}: {which} would fail: {refusals[0]}. Change the prompts, or name another "
        "'chat_template' in its descriptor."
    )
