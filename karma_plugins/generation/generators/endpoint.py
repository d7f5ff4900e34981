"""Generator `endpoint`: a model behind an OpenAI-compatible server (vLLM, `transformers serve`) answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from karma_plugins.contracts import Expected, Generator, Model, Options, Reply, Request, hookimpl
from karma_plugins.errors import ModelError
from karma_plugins.models import Endpoint
from karma_plugins.requesting.spending import Limits, at_most

if TYPE_CHECKING:
    from karma_plugins.requesting import ChatRequest


class EndpointOptions(Options):
    """How the model samples, and how hard its server may be asked."""

    temperature: float = Field(1.0, ge=0.0, description="0: the likeliest token")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="least probability that the choice must cover")
    max_new_tokens: int | None = Field(
        256, ge=1, description="null: sent no bound, for servers that name it otherwise"
    )
    stop: tuple[str, ...] = Field((), description="strings at which the server ends an answer")
    extra: dict[str, Any] = Field(
        default_factory=dict, description="further keys of the request, as the server has them"
    )
    limits: Limits = Field(Limits(), description="how hard the server may be asked, and its caps")


@hookimpl
def karma_register_generators() -> Sequence[Generator]:
    """Register this generator."""
    # Every answer is kept by itself, and failures are tried again: shards would keep them.
    endpoint = Generator(
        name="endpoint", options=EndpointOptions, generate=generate, usage=usage, keeps_shards=False
    )
    return [endpoint]


def generate(model: Model, requests: Sequence[Request], options: EndpointOptions) -> Sequence[Reply]:
    """One reply for each request, in order; what failed is a reply with its reason.

    Raises ModelError where the model is no endpoint, RequestError where going on is pointless or a cap is
    met.
    """
    from karma_plugins.requesting import complete

    if not isinstance(model.source, Endpoint):
        raise ModelError(
            f"models.{model.name}: generator 'endpoint' needs a descriptor with 'endpoint', found "
            f"'{model.path}'. Name generator 'transformers' or 'recorded' for this model."
        )
    return complete(
        model.source, chat_requests(requests, options), options.limits, label=f"asking {model.name}"
    )


def usage(model: Model, requests: Sequence[Request], options: EndpointOptions) -> Expected | None:
    """What answering will ask of the server at most, beside what is kept; null for any other model."""
    from karma_plugins.requesting import forecast

    if not isinstance(model.source, Endpoint):
        return None
    expected = forecast(model.source, chat_requests(requests, options), options.limits)
    return at_most(model.source.endpoint, expected.usage, options.limits, kept=expected.kept)


def chat_requests(requests: Sequence[Request], options: EndpointOptions) -> list[ChatRequest]:
    """The requests as the server is sent them."""
    from karma_plugins.requesting import ChatRequest

    return [
        ChatRequest(
            messages=request.messages,
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_new_tokens,
            seed=request.seed & 0x7FFFFFFF,  # servers take 32 bits
            stop=options.stop,
            extra=options.extra,
            sample=request.sample,
        )
        for request in requests
    ]
