"""What both LLM judges share: whom they ask, how often, and which replies count."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from karma_plugins import models
from karma_plugins.contracts import (
    Answer,
    Endpoint,
    Expected,
    Messages,
    Model,
    Options,
    Reply,
    Request,
    Verdict,
)
from karma_plugins.errors import ModelError
from karma_plugins.judging.quotation import quoted, within_quotes
from karma_plugins.judging.templates import PARTS, Form
from karma_plugins.requesting.spending import Limits, Usage, at_most, expected
from karma_plugins.texts.references import accepted

CASE = "case"
FENCE = "```"
#: One block of thoughts that a reply may open with; where the chat template opened it, it is only closed.
#: In what is judged these marks are broken (see `quotation`), so no answer can open or close one.
THINKING = re.compile(
    r"\A(?:<think>)?(?:(?!</?think>).)*</think>|\A(?:\[THINK\])?(?:(?!\[/?THINK\]).)*\[/THINK\]", re.DOTALL
)


class LlmOptions(Options):
    """Options of the LLM judges."""

    model: str = Field(
        description="the judging model: descriptor (.yaml) of an endpoint or weights, or a folder"
    )
    template: str | None = Field(None, description="file to ask with instead of the built-in one")
    temperature: float = Field(0.0, ge=0.0, description="of the judging model; 0: its likeliest reply")
    max_tokens: int = Field(512, ge=1, description="most tokens of a reply")
    samples: int = Field(1, ge=1, description="times each question is asked; the verdict is the mean")
    seed: int = Field(0, description="of sampling: each question and sample gets one of its own from it")
    structured: bool = Field(
        True, description="ask a server for JSON by schema; replies are checked in any case"
    )
    batch_size: int = Field(16, ge=1, description="questions at once to a local model")
    limits: Limits = Field(default=Limits(), description="how hard an endpoint may be asked, and its caps")


class UnreadableError(Exception):
    """Why a reply is no verdict."""


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation that asks for one verdict; `case` is the number that its reply must carry."""

    case: str
    messages: Messages


def judged(
    questions: Sequence[Question],
    options: LlmOptions,
    schema: Mapping[str, Any],
    read: Callable[[Mapping[str, Any]], float],
) -> list[Verdict]:
    """A verdict for each question: the mean of what `read` makes of its replies.

    More than half of a question's samples must be readable, else the verdict is a failure with the first
    reason. Raises ModelError where the judging model can't be loaded, RequestError where its server refuses.
    """  # fmt: skip
    once = {question.case: question for question in questions}
    model = models.load("judge", options.model, where="option 'model' of an LLM judge")
    if isinstance(model.source, models.Endpoint):
        replies = _ask_endpoint(model.source, list(once.values()), options, schema)
    else:
        replies = _ask_weights(model, list(once.values()), options)
    verdicts = {
        case: _mean(replies[i * options.samples : (i + 1) * options.samples], case, schema, read)
        for i, case in enumerate(once)
    }
    return [verdicts[question.case] for question in questions]


def usage(questions: Iterable[Question], times: int, options: LlmOptions) -> Expected | None:
    """What these questions, each so many times, would ask of a server at most; null for a local model."""
    source = models.load("judge", options.model, where="option 'model' of an LLM judge").source
    if not isinstance(source, Endpoint):
        return None
    sent = (models.with_system_prompt(q.messages, source.system_prompt) for q in questions)
    each = (expected((message["content"] for message in m), options.max_tokens) for m in sent)
    total = sum(each, Usage()) * options.samples * times
    return at_most(source.endpoint, total, options.limits)


def _mean(
    replies: Sequence[Reply],
    case: str,
    schema: Mapping[str, Any],
    read: Callable[[Mapping[str, Any]], float],
) -> Verdict:
    values, reasons = [], []
    for reply in replies:
        try:
            values.append(read(reply_object(reply, case, list(schema["properties"]))))
        except UnreadableError as reason:
            reasons.append(str(reason))
    if 2 * len(values) <= len(replies):
        return Verdict(None, "failed", reasons[0])
    return Verdict(sum(values) / len(values))


def reply_object(reply: Reply, case: str, keys: Sequence[str]) -> Mapping[str, Any]:
    """The one JSON object that a whole reply must be, with exactly these keys and its question's case number.

    It may open with one block of thoughts. Raises UnreadableError. A reply that repeats an answer can't pass:
    no answer holds its own case number.
    """
    if reply.text is None:
        raise UnreadableError(reply.error or "no reply")
    if reply.finish_reason == "length":
        raise UnreadableError("the reply was cut off")
    text = THINKING.sub("", reply.text.strip(), count=1).strip()
    if text.startswith(FENCE) and text.endswith(FENCE) and len(text) > 2 * len(FENCE):
        text = text[len(FENCE) : -len(FENCE)].removeprefix("json").strip()
    if not text:
        raise UnreadableError("the reply is empty")
    try:
        verdict = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        raise UnreadableError("the reply is not one JSON object") from None
    if not isinstance(verdict, dict):
        raise UnreadableError("the reply is not one JSON object")
    if verdict.get(CASE) != case:
        raise UnreadableError("the reply does not carry its case number")
    for key in keys:
        if key not in verdict:
            raise UnreadableError(f"the reply lacks '{key}'")
    if len(verdict) > len(keys):
        raise UnreadableError("the reply holds more than was asked for")
    return verdict


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise UnreadableError("the reply holds a key twice")
    return dict(pairs)


def schema_of(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a reply: its case number and these properties, all required, nothing else."""
    known = {CASE: {"type": "string"}, **properties}
    return {"type": "object", "properties": known, "required": list(known), "additionalProperties": False}


def conversation(answer: Answer) -> str:
    """The prompt's messages as text."""
    return "\n\n".join(f"{message['role']}:\n{message['content']}" for message in answer.messages)


def reference(answer: Answer, case: str) -> str:
    """The known answer, quoted; empty where there is none."""
    if not answer.reference:
        return ""
    return quoted("KNOWN CORRECT ANSWER", "\nor\n".join(accepted(answer.reference)), case)


def reads(form: Form, options: LlmOptions) -> list[Path]:
    """The files whose bytes decide what is asked and what the judging model says.

    Raises PluginError for a bad template.
    """
    form.read(options.template)
    model = models.load("judge", options.model, where="option 'model' of an LLM judge")
    return [*models.files(model), form.path(options.template)]


def asks_with_system(paths: Sequence[Path]) -> bool:
    """Whether a judge whose `reads` gave these paths sends a system message before its question."""
    parts = PARTS.match(paths[-1].read_text(encoding="utf-8-sig"))
    return parts is not None and bool(parts["system"].strip())


def keeps_shards(options: LlmOptions) -> bool:
    """Weights do: asking them again is long work. What an endpoint answered is kept request by request."""
    source = models.load("judge", options.model, where="option 'model' of an LLM judge").source
    return not isinstance(source, models.Endpoint)


# --- whom they ask ------------------------------------------------------------------------------------------


def _ask_endpoint(
    endpoint: Endpoint, questions: Sequence[Question], options: LlmOptions, schema: Mapping[str, Any]
) -> Sequence[Reply]:
    from karma_plugins.requesting import ChatRequest, complete

    form = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}
    requests = [
        ChatRequest(
            messages=question.messages,
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            seed=_seed(options.seed, question.case, sample),
            response_format=form if options.structured else None,
            sample=sample,
        )
        for question in questions
        for sample in range(options.samples)
    ]
    return complete(endpoint, requests, options.limits, label="judge")


def _ask_weights(model: Model, questions: Sequence[Question], options: LlmOptions) -> list[Reply]:
    from karma_plugins.models import loading, templates
    from karma_plugins.models.sampling import TransformersOptions, generate

    if not isinstance(model.source, models.Weights):
        raise ModelError(
            f"option 'model' of an LLM judge: '{model.path}' holds recorded answers, which can't judge."
        )
    _, tokenizer = loading.loaded(model.source)
    control = templates.control_tokens(tokenizer)
    asked = [
        [{**m, "content": within_quotes(m["content"], question.case, control)} for m in question.messages]
        for question in questions
    ]
    requests = [
        Request(question.case, messages, sample, _seed(options.seed, question.case, sample))
        for question, messages in zip(questions, asked, strict=True)
        for sample in range(options.samples)
    ]
    sampling = TransformersOptions(
        temperature=options.temperature, max_new_tokens=options.max_tokens, batch_size=options.batch_size
    )
    return list(generate(model, requests, sampling))


def _seed(seed: int, case: str, sample: int) -> int:
    """31 bits, as servers take them."""
    parts = f"{seed}\0{case}\0{sample}".encode()
    return int.from_bytes(hashlib.blake2b(parts, digest_size=4).digest(), "big") >> 1
