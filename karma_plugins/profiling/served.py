"""A model behind a chat endpoint, as lm-eval sees models: it generates, and gives no log-likelihoods."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from karma_plugins.errors import ParamsError, RequestError
from karma_plugins.models import Endpoint
from karma_plugins.requesting import ChatRequest, complete
from karma_plugins.requesting.spending import Limits

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


class Served(LM):  # type: ignore[misc]
    """Asks an endpoint through `requesting`, which keeps every finished answer."""

    def __init__(self, name: str, endpoint: Endpoint, limits: Limits) -> None:
        super().__init__()
        self.name, self.endpoint, self.limits = name, endpoint, limits

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval calls the chat template; the server has its own."""
        return self.endpoint.model

    def chat_template(self, chat_template: bool | str = False) -> str:
        """None here: messages go to the server as they are."""
        return ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as JSON, which `generate_until` sends as messages."""
        return json.dumps(chat_history)

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """One text for each request.

        Raises RequestError where any failed: an item without an answer must not count as a wrong one.
        """
        chats = [self._request(*instance.args) for instance in requests]
        replies = complete(self.endpoint, chats, self.limits, label=f"profile {self.name}")
        failed = [reply.error for reply in replies if reply.text is None]
        if failed:
            raise RequestError(
                f"profile {self.name}: {len(failed)} of {len(replies)} requests to {self.endpoint.endpoint} "
                f"failed (the first: {failed[0]}). Finished answers are kept: run the stage again."
            )
        return [str(reply.text) for reply in replies]

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> Any:
        """Raises ParamsError: a chat endpoint gives no log-likelihoods."""
        raise ParamsError(
            f"params.yaml, profile.tasks: task '{requests[0].task_name}' compares log-likelihoods, "
            f"which '{self.name}', behind an endpoint, does not give. Name tasks that generate."
        )

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> Any:
        """Raises ParamsError: a chat endpoint gives no log-likelihoods."""
        return self.loglikelihood(requests)

    def _request(self, context: str, settings: dict[str, Any]) -> ChatRequest:
        stop = settings.get("until") or []
        return ChatRequest(
            messages=json.loads(context),
            temperature=float(settings.get("temperature") or 0.0) if settings.get("do_sample") else 0.0,
            max_tokens=int(settings.get("max_gen_toks") or 256),
            stop=tuple([stop] if isinstance(stop, str) else stop)[:4],  # what OpenAI's interface takes
        )
