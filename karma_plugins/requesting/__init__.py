"""Asks chat servers many things at once, and survives them: retries, caps, and every finished answer kept."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from karma_plugins.contracts import Messages, RequestShape
from karma_plugins.errors import RequestError
from karma_plugins.models import Endpoint, api_key, with_system_prompt
from karma_plugins.requesting.bodies import LARGE_AT_ONCE, BodyError, read_body
from karma_plugins.requesting.kept_replies import KeptReplies
from karma_plugins.requesting.replies import HEALING, ServerReply, after, failed, one_line, read_reply
from karma_plugins.requesting.secrets import Mask
from karma_plugins.requesting.spending import Ledger, Limits, Usage, expected, ledger
from karma_plugins.requesting.throttle import Throttle
from karma_plugins.runtime.progress import Advance, progress
from karma_plugins.runtime.shards import karma_folder, key, locked

if TYPE_CHECKING:
    import httpx

LOG = logging.getLogger(__name__)
T = TypeVar("T")
UNREACHABLE = failed("cut connection", "no connection")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to be answered and how; `sample` numbers requests that ask the same thing again."""

    messages: Messages
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None
    seed: int | None = None
    stop: Sequence[str] = ()
    response_format: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Forecast:
    """How many answers are kept already, and what the others may use and cost at most."""

    kept: int
    usage: Usage
    cost: float | None


def complete(
    endpoint: Endpoint,
    requests: Sequence[ChatRequest],
    limits: Limits,
    *,
    label: str = "requests",
    folder: Path | None = None,
) -> list[ServerReply]:
    """One reply for each request, in order.

    An answer is kept as soon as it is there, by what was asked alone, and never asked for again; a failure
    is tried again by the next run. Raises RequestError where the server can't be reached or refuses us, or
    where a cap is met; what is finished then is kept. Raises ModelError where the key's variable is not set.
    """
    calls = [_call(endpoint, request) for request in requests]
    with locked(_folder(endpoint, folder)), progress(label, len(requests)) as advance:
        replies = _alone(lambda: _Run(endpoint, limits, folder, advance).replies(calls))
    return [replies[call.key] for call in calls]


def forecast(
    endpoint: Endpoint, requests: Sequence[ChatRequest], limits: Limits, *, folder: Path | None = None
) -> Forecast:
    """What these requests would use at most; asks nothing and leaves nothing behind."""
    calls = {call.key: call for call in (_call(endpoint, request) for request in requests)}
    kept: Mapping[str, ServerReply] = {}
    if _folder(endpoint, folder).is_dir():
        with closing(KeptReplies(_folder(endpoint, folder))) as store:
            kept = store.read(calls)
    missing = [call for name, call in calls.items() if name not in kept]
    usage = sum((call.most for call in missing), Usage())
    return Forecast(len(calls) - len(missing), usage, usage.cost(limits))


@dataclass(frozen=True, slots=True)
class _Call:
    """A request as it is sent: its key, its JSON, and the most that it is expected to use."""

    key: str
    content: bytes
    most: Usage


def _call(endpoint: Endpoint, request: ChatRequest) -> _Call:
    messages = with_system_prompt(request.messages, endpoint.system_prompt)
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": messages,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "seed": request.seed,
        "stop": list(request.stop) or None,
        "response_format": request.response_format,
    }
    body = {name: value for name, value in body.items() if value is not None} | dict(request.extra)
    body = _fitted(body, endpoint.request)
    content = json.dumps(body, ensure_ascii=False, sort_keys=True)
    return _Call(
        key(endpoint.endpoint, content, request.sample),
        content.encode(),
        expected((message["content"] for message in messages), request.max_tokens),
    )


def _fitted(body: Mapping[str, Any], shape: RequestShape) -> dict[str, Any]:
    """A body as this server takes it: keys left out, renamed and added, in that order."""
    kept = {name: value for name, value in body.items() if name not in shape.leave_out}
    return {shape.rename.get(name, name): value for name, value in kept.items()} | dict(shape.add)


def _folder(endpoint: Endpoint, folder: Path | None) -> Path:
    return (folder or karma_folder() / "requests") / key(endpoint.endpoint, endpoint.model)[:16]


class _Run:
    """One run of requests: workers take calls from a queue until it is empty or going on is pointless."""

    def __init__(self, endpoint: Endpoint, limits: Limits, folder: Path | None, advance: Advance) -> None:
        self.endpoint, self.limits, self.advance = endpoint, limits, advance
        secret = api_key(endpoint)
        self.secret = secret.get_secret_value() if secret is not None else ""
        self.mask = Mask(self.secret)
        self.kept = KeptReplies(_folder(endpoint, folder))
        self.ledger: Ledger = ledger(endpoint.endpoint, endpoint.model, limits)
        self.throttle = Throttle(limits.concurrency)
        self.url = f"{endpoint.endpoint.rstrip('/')}/chat/completions"
        self.turns = asyncio.Semaphore(LARGE_AT_ONCE)
        self.stopped: RequestError | None = None

    async def replies(self, calls: Sequence[_Call]) -> dict[str, ServerReply]:
        """The reply of every call by its key."""
        with closing(self.kept):
            wanted = {call.key: call for call in calls}
            replies = self.kept.read(wanted)
            self.advance(len(calls) - len(wanted) + len(replies))
            waiting = deque(call for name, call in wanted.items() if name not in replies)
            self._before(waiting)
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
            if self.secret:
                headers["Authorization"] = f"Bearer {self.secret}"
            import httpx  # here, as options of plugins import this package for its limits alone

            pool = httpx.Limits(max_connections=self.limits.concurrency)
            async with httpx.AsyncClient(headers=headers, timeout=self.limits.timeout, limits=pool) as client:
                workers = range(min(self.limits.concurrency, len(waiting)))
                await asyncio.gather(*(self._work(client, waiting, replies) for _ in workers))
        if self.stopped is not None:
            raise self._named(self.stopped)
        return replies

    async def _work(
        self, client: httpx.AsyncClient, waiting: deque[_Call], replies: dict[str, ServerReply]
    ) -> None:
        """Calls in flight when the run is stopped are waited for: they are paid."""
        while waiting and self.stopped is None:
            call = waiting.popleft()
            try:
                reply = await self._ask(client, call)
            except RequestError as error:
                self.stopped = self.stopped or error
                return
            replies[call.key] = reply
            if reply.error is None:
                self.kept.keep(call.key, reply)
            self.advance(1)

    async def _ask(self, client: httpx.AsyncClient, call: _Call) -> ServerReply:
        """Ask until there is an answer, a failure that can't heal, or no try is left."""
        tries = 0
        while True:
            tries += 1
            reply, wait, entered = await self._try(client, call)
            if reply.failure not in HEALING:
                return reply
            if tries > self.limits.retries:
                if reply.error == UNREACHABLE.error:
                    raise RequestError("it can't be reached. Start the server, or correct the descriptor.")
                return after(reply, tries)
            # Spread by what is asked, so that requests that failed together do not come back together.
            spread = 0.5 + int(call.key[:4], 16) / 0xFFFF
            pause = min(self.limits.backoff * 2 ** (tries - 1) * spread, self.limits.max_wait)
            LOG.info(
                "try %d failed (%s); the next in %.1f s", tries, reply.error, pause if wait is None else wait
            )
            if reply.failure == "rate limit" or wait is not None:
                self.throttle.too_many(entered, pause if wait is None else wait)
            else:
                await asyncio.sleep(pause)

    async def _try(self, client: httpx.AsyncClient, call: _Call) -> tuple[ServerReply, float | None, float]:
        """One try, when the throttle lets it through and the ledger has room: reply, wait, time of entry."""
        entered = await self.throttle.enter()
        well = False
        try:
            if self.stopped is not None:
                raise self.stopped
            self.ledger.reserve(call.most)
            used = call.most
            try:
                reply, wait, used = await self._send(client, call)
            finally:
                self.ledger.settle(call.most, used)
            well = reply.error is None
            return reply, wait, entered
        finally:
            self.throttle.leave(well=well)

    async def _send(self, client: httpx.AsyncClient, call: _Call) -> tuple[ServerReply, float | None, Usage]:
        """The reply, the seconds that the server asks us to wait, and what was used: the most if unknown."""
        import httpx

        try:
            async with (
                asyncio.timeout(self.limits.timeout),
                client.stream("POST", self.url, content=call.content) as response,
            ):
                if 300 <= response.status_code < 400:
                    raise RequestError(self._moved(response))
                body = await read_body(response, self.turns)
        except (TimeoutError, httpx.TimeoutException):
            return failed("timeout", f"no answer in {self.limits.timeout:g} s"), None, call.most
        except BodyError as error:
            reason = self.mask(str(error))
            return failed("too large" if error.large else "cut connection", reason), None, call.most
        except httpx.ConnectError as error:
            return self._unconnected(error), None, Usage(1)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            details = self.mask(str(error) or type(error).__name__)
            return failed("cut connection", details), None, call.most
        kind = response.headers.get("Content-Type", "")
        reply = read_reply(
            response.status_code, kind, body, self.endpoint.model, self.endpoint.served_as, self.mask
        )
        if response.status_code != 200 or reply.failure in HEALING:
            return reply, self._wait(response), Usage(1) if response.status_code != 200 else call.most
        prompt_tokens, given = reply.prompt_tokens, reply.completion_tokens
        used = Usage(
            1,
            call.most.prompt_tokens if prompt_tokens is None else prompt_tokens,
            call.most.completion_tokens if given is None else given,
            call.most.bounded,
        )
        return reply, None, used

    def _unconnected(self, error: httpx.ConnectError) -> ServerReply:
        """No connection; RequestError where it is the certificate that is not to be trusted."""
        details = one_line(str(error))
        if "CERTIFICATE_VERIFY_FAILED" in details:
            raise RequestError(
                f"its certificate can't be verified ({details[:120]}). Name your authority's certificate in "
                "SSL_CERT_FILE, or correct the descriptor."
            )
        return UNREACHABLE

    def _moved(self, response: httpx.Response) -> str:
        """A redirect is not followed: what is asked, and the key, are meant for the descriptor's address."""
        place = self.mask(one_line(response.headers.get("Location", "")))
        place = re.sub(r"(?<=//)[^/@]*@|\?.*", "", place)[:200]
        return (
            f"it redirects ({response.status_code}) to '{place or 'nowhere'}'. Name the address that answers "
            "in the descriptor's endpoint."
        )

    def _wait(self, response: httpx.Response) -> float | None:
        """Seconds that Retry-After (a number or a date) asks for; RequestError where that is too long."""
        value = response.headers.get("Retry-After")
        if value is None:
            return None
        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
            except (TypeError, ValueError, OverflowError):
                return None
        if math.isnan(seconds):
            return None
        if not seconds <= self.limits.max_wait:
            said = one_line(self.mask(value))[:80]
            raise RequestError(f"it asks to wait {said}. Run again then, or raise max_wait.")
        return max(seconds, 0.0)

    def _before(self, waiting: Iterable[_Call]) -> None:
        """Stop before anything is sent where all of it would break a cap."""
        try:
            self.ledger.check(sum((call.most for call in waiting), Usage()), when="in all")
        except RequestError as error:
            raise self._named(error) from None

    def _named(self, error: RequestError) -> RequestError:
        text = self.mask(str(error))
        return RequestError(f"{self.endpoint.endpoint}, model '{self.endpoint.model}': {text}")


def _alone(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, in a thread of its own where a loop is running already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(start())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(start())).result()
