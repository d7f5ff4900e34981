"""64 requests at once to a server that fails in every way: none lost or invented, memory and time bounded."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import FAULTS, ChatServer, serving

SLOW = "KARMA_SLOW_TESTS" in os.environ
#: Memory is that of the process, which other tests would have filled.
slow = pytest.mark.skipif(not os.environ.get("KARMA_SLOW_TESTS"), reason="slow: set KARMA_SLOW_TESTS=1")
#: Requests, seconds that one may take, and megabytes of a body without end.
COUNT, TIMEOUT, MEGABYTES = (5000, 20.0, 1024) if SLOW else (240, 10.0, 48)
CONCURRENCY = 64
#: Faults beside those of the chat server, with the failure that each must end as.
WORSE = {
    "endless body": "too large", "body of a stated size": "too large", "chunked body": "too large",
    "bomb": "too large", "slow headers": "timeout", "slow body": "timeout",
    "endless headers": "cut connection", "large answer": None,
}  # fmt: skip
REASONS = {
    "429": "rate limit", "429 wait": "rate limit", "500": "server error", "stall": "timeout",
    "cut": "cut connection", "cut in the body": "cut connection", "half a JSON": "not JSON",
    "schema": "wrong schema", "HTML": "HTML", "empty": "empty content", "refusal": "refusal",
    "other model": "other model", **WORSE,
}  # fmt: skip
LARGE_ANSWER = "y" * (3 * 2**20)


def bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join([*(packer.compress(b"\0" * 2**20) for _ in range(megabytes)), packer.flush()])


class Worse(ChatServer):
    """The chat server with bodies without end, bombs, and headers that come a byte at a time."""

    packed = bomb(MEGABYTES * 3 // 2)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sent: Counter[str] = Counter()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        fault = self.plan(body, 0)
        if fault not in WORSE:
            return await super()._answer(body, writer)
        self.tries[json.dumps(body, sort_keys=True)] += 1
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        try:
            if fault == "slow headers":
                for byte in f"{head}X-A: {'a' * 4000}\r\n\r\n".encode():
                    await self._write(writer, fault, bytes([byte]), pause=0.05)
            elif fault == "slow body":
                await self._write(writer, fault, f"{head}Content-Length: 99999\r\n\r\n".encode())
                for _ in range(4000):
                    await self._write(writer, fault, b" ", pause=0.05)
            elif fault == "endless headers":
                await self._write(writer, fault, head.encode())
                for i in range(MEGABYTES):
                    await self._write(writer, fault, f"X-{i}: {'a' * 2**20}\r\n".encode())
            elif fault == "bomb":
                size = f"{head}Content-Encoding: gzip\r\nContent-Length: {len(self.packed)}\r\n\r\n"
                await self._write(writer, fault, size.encode() + self.packed)
            elif fault == "large answer":
                choice = {"message": {"content": LARGE_ANSWER}, "finish_reason": "stop"}
                content = json.dumps({"model": body["model"], "choices": [choice]}).encode()
                size = f"{head}Content-Length: {len(content)}\r\n\r\n"
                await self._write(writer, fault, size.encode() + content)
                return True
            else:
                await self._endless(writer, fault, head)
        except ConnectionError:
            pass
        return False

    async def _endless(self, writer: asyncio.StreamWriter, fault: str, head: str) -> None:
        size = {"body of a stated size": f"Content-Length: {MEGABYTES << 20}\r\n",
                "chunked body": "Transfer-Encoding: chunked\r\n"}.get(fault, "")  # fmt: skip
        await self._write(writer, fault, f"{head}{size}\r\n".encode())
        block = b" " * 2**20
        for _ in range(MEGABYTES):
            framed = b"100000\r\n" + block + b"\r\n" if fault == "chunked body" else block
            await self._write(writer, fault, framed)

    async def _write(
        self, writer: asyncio.StreamWriter, fault: str, content: bytes, pause: float = 0.0
    ) -> None:
        writer.write(content)
        await writer.drain()
        self.sent[fault] += len(content)
        if pause:
            await asyncio.sleep(pause)


def planned(count: int) -> dict[int, str]:
    """A fault for one request of three, those that wait long rarely."""
    plan: dict[int, str] = {}
    quick = [name for name in REASONS if REASONS[name] != "timeout"]
    slow = [name for name in REASONS if REASONS[name] == "timeout"]
    for turn, number in enumerate(range(0, count, 3)):
        plan[number] = slow[turn // 20 % len(slow)] if turn % 20 == 0 else quick[turn % len(quick)]
    return plan


def asked(plan: dict[int, str], count: int, folder: Path) -> tuple[dict[str, Any], Worse]:
    """What a process of its own got of a server with this plan."""
    server = Worse(lambda body, _: plan.get(int(body["messages"][-1]["content"])))
    with serving(server):
        child = subprocess.run(
            [sys.executable, "-m", "tests.survival.ask_bad_servers", server.url, str(count), str(CONCURRENCY),
             str(TIMEOUT)],
            env=os.environ | {"DVC_ROOT": str(folder)}, capture_output=True, text=True, check=False,
            cwd=Path(__file__).parent.parent.parent, timeout=540,
        )  # fmt: skip
    assert child.returncode == 0, child.stderr[-2000:]
    return json.loads(child.stdout), server


def wrong(came: dict[str, Any], plan: dict[int, str]) -> dict[int, Any]:
    """Replies that are not what was planned."""
    bad = {}
    for number, (text, failure) in enumerate(came["replies"]):
        fault = plan.get(number)
        due = REASONS[fault] if fault else None
        answer = LARGE_ANSWER if fault == "large answer" else f"echo {number}"
        if (text, failure) != (None if due else answer, due):
            bad[number] = (fault, failure, text and text[:30])
    return bad


@slow
def test_nothing_is_lost_or_invented_and_memory_is_bounded(tmp_path: Path) -> None:
    plan = planned(COUNT)
    assert set(plan.values()) == {*FAULTS, *WORSE}
    came, server = asked(plan, COUNT, tmp_path)
    assert len(came["replies"]) == COUNT
    assert not wrong(came, plan)
    assert server.most_at_once <= CONCURRENCY
    for body, tries in server.tries.items():
        fault = plan.get(int(re.search(r'"content": "(\d+)"', body)[1]))
        assert tries == 1 or fault
        assert tries <= 2
    slow = sum(REASONS[fault] == "timeout" for fault in plan.values())
    assert came["megabytes"] < 600
    # Each that waits is tried twice, and others go on meanwhile.
    assert came["seconds"] < 2 * TIMEOUT * (slow / CONCURRENCY + 2) + COUNT / 20
    said = f"{COUNT} requests, {len(plan)} with faults, {CONCURRENCY} at once: {came['seconds']:.0f} s, "
    said += f"{came['megabytes']:.0f} MB, {sum(server.sent.values()) >> 20} MB of bad bodies sent"
    sys.stdout.write(f"\n{said}: 0 lost or invented\n")


@slow
def test_all_at_once_may_send_without_end(tmp_path: Path) -> None:
    """The worst: every one of 64 sends a body without end, or a bomb."""
    kinds = ("endless body", "chunked body", "bomb", "endless headers", "large answer")
    plan = {i: kinds[i % len(kinds)] for i in range(CONCURRENCY)}
    came, _ = asked(plan, CONCURRENCY, tmp_path)
    # So many wait for their turn that some may meet the time-out first, which is no wrong answer.
    assert not {n: bad for n, bad in wrong(came, plan).items() if bad[1] != "timeout"}
    assert came["megabytes"] < 600
    sys.stdout.write(f"\n{CONCURRENCY} at once without end: {came['megabytes']:.0f} MB\n")
