"""What requests may cost: caps on requests, tokens and money, checked before a run and kept during it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel, ConfigDict, Field, model_validator

from karma_plugins.contracts import Expected
from karma_plugins.errors import RequestError

#: Characters to a token, on the low side: a forecast must rather be too high.
CHARACTERS_PER_TOKEN = 3
#: Tokens that a chat template adds to each message.
TOKENS_PER_MESSAGE = 8


class Limits(BaseModel):
    """How hard a server may be asked, and what it may cost. Caps hold for a whole stage run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: int = Field(
        16, ge=1, description="requests at once, fewer while the server says it is too many"
    )
    timeout: float = Field(120.0, gt=0, description="seconds to wait for one answer")
    retries: int = Field(6, ge=0, description="further tries where a failure may heal")
    backoff: float = Field(0.5, ge=0, description="seconds before the second try, doubled for each after it")
    max_wait: float = Field(
        300.0, ge=0, description="seconds that a server may ask us to wait; more ends the run"
    )
    max_requests: int | None = Field(None, ge=0, description="most requests, tries included")
    max_total_tokens: int | None = Field(
        None, ge=0, description="most tokens of prompts and answers together"
    )
    max_cost: float | None = Field(None, ge=0, description="most money, in the currency of the prices")
    prompt_price: float | None = Field(None, ge=0, description="price of a million prompt tokens")
    completion_price: float | None = Field(None, ge=0, description="price of a million answer tokens")

    @model_validator(mode="after")
    def _prices(self) -> Limits:
        if self.max_cost is not None and (self.prompt_price is None or self.completion_price is None):
            raise ValueError("max_cost needs prompt_price and completion_price")
        return self


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests and tokens, used or expected; not `bounded` where an answer may be as long as it likes."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    bounded: bool = True

    def cost(self, limits: Limits) -> float | None:
        """The price in the currency of the prices; null where none is stated."""
        if limits.prompt_price is None or limits.completion_price is None:
            return None
        prompt, completion = self.prompt_tokens, self.completion_tokens
        return (prompt * limits.prompt_price + completion * limits.completion_price) / 1e6

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.bounded and other.bounded,
        )

    def __mul__(self, times: int) -> Usage:
        return Usage(
            self.requests * times, self.prompt_tokens * times, self.completion_tokens * times, self.bounded
        )

    def __neg__(self) -> Usage:
        return Usage(-self.requests, -self.prompt_tokens, -self.completion_tokens, self.bounded)


def expected(texts: Iterable[str], max_tokens: int | None) -> Usage:
    """The most that a request is expected to use: its messages by their length, its answer by its bound."""
    tokens = sum(-(-len(text) // CHARACTERS_PER_TOKEN) + TOKENS_PER_MESSAGE for text in texts)
    return Usage(1, tokens, max_tokens or 0, bounded=max_tokens is not None)


def at_most(server: str, usage: Usage, limits: Limits, *, kept: int = 0) -> Expected:
    """An expected usage as `karma check` shows it: with its price, and which cap it would break."""
    excess = None
    try:
        Ledger(limits).check(usage, when="in all")
    except RequestError as error:
        excess = str(error)
    tokens = usage.completion_tokens if usage.bounded else None
    cost = usage.cost(limits) if usage.bounded else None
    return Expected(server, usage.requests, usage.prompt_tokens, tokens, cost, kept, excess)


class Ledger:
    """What has been used and what requests on their way may use: one for each model in a process."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.used = limits, Usage()

    def check(self, more: Usage, *, when: str) -> None:
        """Raise RequestError where more would break a cap."""
        total, limits = self.used + more, self.limits
        spent = {
            "max_requests": total.requests,
            "max_total_tokens": total.prompt_tokens + total.completion_tokens,
            "max_cost": total.cost(limits) or 0.0,
        }
        for name, value in spent.items():
            cap = getattr(limits, name)
            if cap is None:
                continue
            if name != "max_requests" and not more.bounded:
                raise RequestError(f"{name} needs a bound on answers. State how many tokens one may have.")
            if value > cap:
                raise RequestError(
                    f"{when} it may come to {value:.10g}, and {name} is {cap:g}. Raise {name} to go on; "
                    "finished answers are kept."
                )

    def reserve(self, most: Usage) -> None:
        """Count what a request may use, before it is sent; RequestError where a cap would break."""
        self.check(most, when="with the next request")
        self.used += most

    def settle(self, most: Usage, used: Usage) -> None:
        """Replace what a request might have used by what it did."""
        self.used += -most + used


@cache
def ledger(endpoint: str, model: str, limits: Limits) -> Ledger:
    """This process's ledger for a model at a server under these limits."""
    return Ledger(limits)
