"""Models with weights of their own, as far as they can be looked at without loading any weight: candidates,
what judges ask, and what training starts from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec

import polars as pl

from karma_plugins import models
from karma_plugins.checking.findings import Findings
from karma_plugins.contracts import Messages

#: Prompts that a chat template is tried on at most.
PROMPTS = 300
#: An answer that no template has a reason to refuse.
ANSWER = {"role": "assistant", "content": "karma"}


class Sent(Enum):
    """What a model is sent: prompts to answer, prompts with answers to score or to learn from, or questions
    of a judge's own, with a system message or without.
    """

    PROMPTS = "prompt"
    ANSWERED = "prompt with its answer"
    PAIRS = "training prompt"
    QUESTION = "question without a system message"
    SYSTEM_QUESTION = "question with a system message"


@dataclass(frozen=True, slots=True)
class Use:
    """Weights, what they are sent, and the place in params that names them."""

    where: str
    source: models.Weights
    sent: Sent


def look(uses: Iterable[Use], prompts: pl.DataFrame | None, findings: Findings) -> None:
    """Note a tokenizer that can't pad or has no chat template, and what the template refuses.

    `prompts` is table `prompts` where it could be read. A model of a hub is looked at where it was fetched
    already; one that is used alike twice is looked at once.
    """
    if find_spec("transformers") is None:
        return
    seen: list[tuple[models.Weights, Sent]] = []
    for use in uses:
        if (use.source, use.sent) not in seen and _is_here(use.source):
            seen.append((use.source, use.sent))
            findings.attempt(_template, use, prompts, findings)


def _is_here(source: models.Weights) -> bool:
    if source.hub is None:
        return True
    from huggingface_hub import try_to_load_from_cache

    return isinstance(
        try_to_load_from_cache(source.hub, "tokenizer_config.json", revision=source.revision), str
    )


def _template(use: Use, prompts: pl.DataFrame | None, findings: Findings) -> None:
    from karma_plugins.models import loading, templates

    tokenizer = loading.load_tokenizer(use.source)
    templates.check_chat_template(tokenizer, use.source)
    conversations = _conversations(use, prompts)
    texts = [
        templates.render(tokenizer, use.source, messages, answered=messages[-1]["role"] == "assistant")
        for messages in conversations
    ]
    refusals = [text.reason for text in texts if isinstance(text, templates.Refusal)]
    if not refusals:
        return
    every = len(refusals) == len(texts)
    kind = use.sent.value
    which = f"every {kind}" if every else f"{len(refusals)} of the first {len(texts)} prompts"
    asks = use.sent in (Sent.QUESTION, Sent.SYSTEM_QUESTION)
    change = "Change the judge's template" if asks else "Change the prompts"
    (findings.errors if every else findings.warnings).append(
        f"{use.where}: {which} would fail: {refusals[0]}. {change}, or name another "
        "'chat_template' in its descriptor."
    )


def _conversations(use: Use, prompts: pl.DataFrame | None) -> Sequence[Messages]:
    """What the chat template will be given: of prompts the first ones."""
    system = use.source.system_prompt
    if use.sent in (Sent.QUESTION, Sent.SYSTEM_QUESTION):
        question = [{"role": "user", "content": "Which is better?"}]
        if use.sent is Sent.SYSTEM_QUESTION:
            question.insert(0, {"role": "system", "content": "You judge."})
        return [models.with_system_prompt(question, system)]
    if prompts is None:
        return []
    if use.sent is Sent.PAIRS and "split" in prompts.columns:
        prompts = prompts.filter(pl.col("split") == "train")
    given = prompts["messages"].head(PROMPTS).to_list()
    if use.sent is Sent.ANSWERED:  # judges are shown an answer as it was asked for, whoever gave it
        return [[*messages, ANSWER] for messages in given]
    conversations = [models.with_system_prompt(messages, system) for messages in given]
    return [[*each, ANSWER] for each in conversations] if use.sent is Sent.PAIRS else conversations
