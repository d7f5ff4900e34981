"""A job's pairs as conversations and as tokens, by the model's system prompt and chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from karma_plugins.models import with_system_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from karma_plugins.contracts import TrainingJob

Conversation = list[dict[str, str]]


def pairs(job: TrainingJob) -> list[dict[str, Conversation]]:
    """The job's pairs in their order, as TRL takes them: `prompt`, `chosen` and `rejected`."""
    rows = job.pairs.select("prompt", "chosen", "rejected").to_dicts()
    return [row | {"prompt": with_system_prompt(row["prompt"], job.start.system_prompt)} for row in rows]


def prompts(job: TrainingJob) -> list[Conversation]:
    """The job's prompts in the order in which its pairs first show them, each once."""
    first = job.pairs.unique("prompt_id", keep="first", maintain_order=True)["prompt"]
    return [with_system_prompt(prompt, job.start.system_prompt) for prompt in first.to_list()]


def tokens(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Mapping[str, str]]],
    *,
    answered: bool,
) -> list[list[int]]:
    """The tokens of conversations, up to where an answer begins unless `answered`."""
    texts = [
        tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=not answered)
        for messages in conversations
    ]
    return list(tokenizer(texts, add_special_tokens=False)["input_ids"])


def answer_tokens(
    job: TrainingJob, tokenizer: PreTrainedTokenizerBase, answer: Literal["chosen", "rejected"]
) -> list[list[int]]:
    """The tokens of every pair's prompt and answer."""
    return tokens(tokenizer, [pair["prompt"] + pair[answer] for pair in pairs(job)], answered=True)


def longest_answer(job: TrainingJob, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens that an answer in the pairs has."""
    asked = tokens(tokenizer, [pair["prompt"] for pair in pairs(job)], answered=False)
    answers = (answer_tokens(job, tokenizer, "chosen"), answer_tokens(job, tokenizer, "rejected"))
    return max(len(w) - len(p) for whole in answers for p, w in zip(asked, whole, strict=True))
