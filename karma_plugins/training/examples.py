"""The one place where pairs become what is trained on: tokens of prompt and answers, checked before any step.

A pair is trained on where the chat template takes it, its answers are held whole by the text that is trained,
and chosen and rejected differ in their tokens, also after `max_length` has cut them. Every other pair is
dropped and counted under one of `REASONS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from karma_plugins.errors import EmptyResultError, ModelError
from karma_plugins.models import Weights, with_system_prompt
from karma_plugins.models.loading import load_tokenizer
from karma_plugins.models.templates import Refusal, check_chat_template, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from karma_plugins.contracts import Messages, TrainingJob, TrainingSettings

REFUSED, ALTERED, SAME = "template-refuses", "answer-altered", "same-tokens"
LONG, CUT = "prompt-too-long", "cut-to-the-same"
#: Why a pair is not trained on, and what to do about it.
REASONS: Mapping[str, str] = {
    REFUSED: "the chat template gives no text for the conversation",
    ALTERED: "the chat template changes what several messages of an answer say",
    SAME: "chosen and rejected are the same tokens",
    LONG: "the prompt leaves no room for an answer; raise train.max_length, if the model takes more",
    CUT: "cut to train.max_length, chosen and rejected are the same; raise it, if the model takes more",
}
#: Pairs that are rendered and tokenised at once.
BATCH = 1024
#: A short answer that no template has a reason to change: what follows it in a rendering closes an answer.
PROBE = "karma"


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens of a pair: the prompt up to where an answer begins, and two answers with what ends them."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """Why a pair is not trained on: one of `REASONS`, and what was said, if anything."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The pairs that will be trained on, how many of them were cut, and how many others were dropped and why.

    `pairs.height` and all of `dropped` together are as many as were given. `details` holds for each reason
    what was said of the first pair.
    """

    pairs: pl.DataFrame
    dropped: Mapping[str, int]
    details: Mapping[str, str]
    cut: int = 0

    @property
    def given(self) -> int:
        """How many pairs there were."""
        return self.pairs.height + sum(self.dropped.values())

    def metrics(self) -> dict[str, float]:
        """Counts for the metrics: `pairs`, `pairs/given`, `pairs/cut`, `pairs/dropped`, and by reason."""
        counts: dict[str, float] = {"pairs": self.pairs.height, "pairs/given": self.given}
        counts |= {"pairs/cut": self.cut, "pairs/dropped": sum(self.dropped.values())}
        return counts | {f"pairs/dropped/{reason}": n for reason, n in sorted(self.dropped.items())}

    def complaint(self) -> str:
        """What was dropped and why, in one line."""
        parts = []
        for reason, n in sorted(self.dropped.items(), key=lambda item: (-item[1], item[0])):
            detail = self.details.get(reason)
            parts.append(f"{n} because {REASONS[reason]}" + (f" ({detail})" if detail else ""))
        count = sum(self.dropped.values())
        return f"train: {count} of {self.given} pairs are not trained on: {'; '.join(parts)}"


def prepare(pairs: pl.DataFrame, start: Weights, settings: TrainingSettings) -> Prepared:
    """Table `pairs` without the rows that can't be trained on from these weights with these settings.

    Raises ModelError where the tokenizer has no chat template or a broken one, or nothing to pad with, and
    EmptyResultError where no pair is left.
    """
    outcomes = list(_outcomes(pairs, tokenizer_of(start), start, limit(start, settings)))
    kept = [isinstance(outcome, Example) for outcome in outcomes]
    dropped = [outcome for outcome in outcomes if isinstance(outcome, Dropped)]
    details = {each.reason: each.detail for each in reversed(dropped) if each.detail}
    cut = sum(outcome.cut for outcome in outcomes if isinstance(outcome, Example))
    counts = dict(Counter(each.reason for each in dropped))
    prepared = Prepared(pairs.filter(pl.Series(kept, dtype=pl.Boolean)), counts, details, cut)
    if dropped and not any(kept):
        raise EmptyResultError(prepared.complaint())
    return prepared


def encode(job: TrainingJob) -> list[Example]:
    """The examples of a job's pairs, in their order.

    Raises EmptyResultError where one can't be trained on: `prepare` leaves no such pair.
    """
    examples = []
    for outcome in _outcomes(job.pairs, tokenizer_of(job.start), job.start, limit(job.start, job.settings)):
        if isinstance(outcome, Dropped):
            raise EmptyResultError(f"train: a pair can't be trained on: {REASONS[outcome.reason]}.")
        examples.append(outcome)
    return examples


def prompts(job: TrainingJob) -> pl.DataFrame:
    """The job's prompts in the order in which its pairs first show them, each once.

    Columns prompt_id, competency and prompt (the conversation as the model is sent it).
    """
    first = job.pairs.unique("prompt_id", keep="first", maintain_order=True)
    rows = first.select("prompt_id", "competency", "prompt").to_dicts()
    sent = [with_system_prompt(row["prompt"], job.start.system_prompt) for row in rows]
    return first.select("prompt_id", "competency").with_columns(
        prompt=pl.Series(sent, dtype=first["prompt"].dtype)
    )


def prompt_tokens(
    tokenizer: PreTrainedTokenizerBase, start: Weights, conversations: Sequence[Messages]
) -> list[list[int]]:
    """The tokens of conversations up to where an answer begins.

    Raises ModelError where the chat template refuses one; it refuses none of a prepared pair.
    """
    texts = [render(tokenizer, start, messages) for messages in conversations]
    for text in texts:
        if isinstance(text, Refusal):
            raise ModelError(f"{start.location}: {text.reason}.")
    return list(tokenizer(texts, add_special_tokens=False)["input_ids"]) if texts else []


def longest_answer(job: TrainingJob) -> int:
    """The most tokens that an answer in the job's pairs has."""
    return max(max(len(example.chosen), len(example.rejected)) for example in encode(job))


def tokenizer_of(start: Weights) -> PreTrainedTokenizerBase:
    """The tokenizer of the model in training; ModelError where it has no chat template or nothing to pad
    with.
    """
    tokenizer = load_tokenizer(start)
    check_chat_template(tokenizer, start)
    return tokenizer


def limit(start: Weights, settings: TrainingSettings) -> int | None:
    """Tokens of prompt and answer together: `train.max_length`, and no more than the model has positions for;
    null where neither is given.
    """
    known = [n for n in (settings.max_length, _positions(start)) if n is not None]
    return min(known, default=None)


def _positions(start: Weights) -> int | None:
    from transformers import AutoConfig

    revision = {} if start.folder is not None else {"revision": start.revision}
    try:
        config = AutoConfig.from_pretrained(start.location, trust_remote_code=False, **revision)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{start.location}: its configuration can't be read ({reason}).") from error
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


# --- from a pair to its tokens ----------------------------------------------------------------------------


def _outcomes(
    pairs: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, start: Weights, most: int | None
) -> Iterator[Example | Dropped]:
    for part in pairs.select("prompt", "chosen", "rejected").iter_slices(BATCH):
        rendered = [_texts(tokenizer, row, start) for row in part.iter_rows(named=True)]
        texts = [text for item in rendered if isinstance(item, tuple) for text in item]
        encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
        for item in rendered:
            if isinstance(item, Dropped):
                yield item
                continue
            prompt, *answers = item
            opened = list(next(encoded))
            whole = [list(next(encoded)) for _ in answers]
            chosen, rejected = (
                # Where tokens merge over the border, the answer is encoded by itself, as it is generated.
                ids[len(opened) :]
                if ids[: len(opened)] == opened
                else list(tokenizer(text[len(prompt) :], add_special_tokens=False)["input_ids"])
                for ids, text in zip(whole, answers, strict=True)
            )
            yield _cut(opened, chosen, rejected, most)


def _cut(prompt: list[int], chosen: list[int], rejected: list[int], most: int | None) -> Example | Dropped:
    if not (prompt and chosen and rejected):
        return Dropped(REFUSED, "a text without a token")
    if chosen == rejected:
        return Dropped(SAME)
    if most is None or len(prompt) + max(len(chosen), len(rejected)) <= most:
        return Example(prompt, chosen, rejected)
    room = most - len(prompt)
    if room < 1:
        return Dropped(LONG, f"{len(prompt)} tokens of at most {most}")
    if chosen[:room] == rejected[:room]:
        return Dropped(CUT, f"{most} tokens, of which {len(prompt)} are the prompt's")
    return Example(prompt, chosen[:room], rejected[:room], cut=True)


def _texts(
    tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], start: Weights
) -> tuple[str, str, str] | Dropped:
    """The prompt up to where an answer begins, and the prompt with each answer and what ends it."""
    prompt = with_system_prompt(row["prompt"], start.system_prompt)
    opened = render(tokenizer, start, prompt)
    if isinstance(opened, Refusal):
        return Dropped(REFUSED, opened.reason)
    whole = []
    for name in ("chosen", "rejected"):
        rendered = _answered(tokenizer, start, prompt, opened, row[name])
        if isinstance(rendered, Dropped):
            return rendered
        whole.append(opened + rendered)
    return opened, whole[0], whole[1]


def _answered(
    tokenizer: PreTrainedTokenizerBase, start: Weights, prompt: Messages, opened: str, answer: Messages
) -> str | Dropped:
    """What follows the opened prompt: the answer as the template writes it, else as a model generates it.

    The second where the template writes a finished conversation otherwise than it opened the prompt
    (thinking that it strips or opens, a turn that it words anew) or changes the answer's text: then the
    answer as it is, and what the template ends an answer with.
    """
    content = answer[-1]["content"]
    whole = render(tokenizer, start, [*prompt, *answer], answered=True)
    if isinstance(whole, Refusal):
        return Dropped(REFUSED, whole.reason)
    if whole.startswith(opened) and content.strip() in whole[len(opened) :]:
        return whole[len(opened) :]
    if len(answer) > 1:
        return Dropped(ALTERED)
    probe = render(tokenizer, start, [*prompt, {"role": answer[0]["role"], "content": PROBE}], answered=True)
    if isinstance(probe, Refusal):
        return Dropped(REFUSED, probe.reason)
    _, written, closing = probe.rpartition(PROBE)
    return (
        content + closing
        if written
        else Dropped(REFUSED, "the chat template leaves out the assistant message")
    )
