"""Requests a second of `karma_plugins.requesting` against a bare asynchronous client of the same concurrency.

    python -m benchmarks.requests

Both sides send the same conversations through httpx to the tests' own server, in a process of its own, which
answers each after the same pause without faults; the bare side takes the text out of the reply and does
nothing else. Nothing is kept from an earlier round. Rounds alternate; each side's median counts.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from karma_plugins.models import Endpoint
from karma_plugins.requesting import ChatRequest, complete
from karma_plugins.requesting.spending import Limits

SERVER = Path(__file__).resolve().parent.parent / "tests" / "chat_server.py"
REQUESTS, CONCURRENCY, ROUNDS = 2000, 32, 5
#: Seconds the server takes for an answer; a real model takes far longer, and then the client's cost vanishes.
PAUSES = (0.0, 0.02)


def bare(url: str, requests: list[ChatRequest]) -> list[str]:
    """What a user would write: a client, a semaphore, gather."""

    async def run() -> list[str]:
        slots = asyncio.Semaphore(CONCURRENCY)
        pool = httpx.Limits(max_connections=CONCURRENCY)
        async with httpx.AsyncClient(timeout=60, limits=pool) as client:

            async def ask(request: ChatRequest) -> str:
                body = {"model": "echo-1", "messages": request.messages, "max_tokens": request.max_tokens}
                async with slots:
                    response = await client.post(f"{url}/chat/completions", json=body)
                response.raise_for_status()
                return str(response.json()["choices"][0]["message"]["content"])

            return await asyncio.gather(*(ask(request) for request in requests))

    return asyncio.run(run())


def ours(url: str, requests: list[ChatRequest]) -> list[str]:
    """The same through `complete`, every answer kept on disk as it comes."""
    endpoint = Endpoint(endpoint=url, model="echo-1")
    with tempfile.TemporaryDirectory() as folder:
        replies = complete(endpoint, requests, Limits(concurrency=CONCURRENCY), folder=Path(folder))
    return [str(reply.text) for reply in replies]


def compare(pause: float) -> dict[str, float]:
    """Requests a second of both sides and their ratio."""
    requests = [
        ChatRequest([{"role": "user", "content": f"question {i} " + "word " * 40}], max_tokens=64)
        for i in range(REQUESTS)
    ]
    seconds: dict[str, list[float]] = {"bare": [], "ours": []}
    with subprocess.Popen([sys.executable, SERVER, str(pause)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            for number in range(ROUNDS + 1):
                answers = []
                for name, side in (("bare", bare), ("ours", ours)):
                    begun = time.perf_counter()
                    answers.append(side(url, requests))
                    if number:  # the first round warms up
                        seconds[name].append(time.perf_counter() - begun)
                assert answers[0] == answers[1]
        finally:
            server.kill()
    rates = {name: REQUESTS / statistics.median(taken) for name, taken in seconds.items()}
    return {name: round(rate, 1) for name, rate in rates.items()} | {
        "ratio": round(rates["ours"] / rates["bare"], 3)
    }


if __name__ == "__main__":
    print(json.dumps({f"{pause * 1000:g} ms an answer": compare(pause) for pause in PAUSES}, indent=1))
