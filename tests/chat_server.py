"""A chat server of the tests' own, on the loopback address, that fails in every way that it is told to."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: How a reply can go wrong, by the name that a plan uses.
FAULTS = (
    "429", "429 wait", "500", "stall", "cut", "cut in the body", "half a JSON", "schema", "HTML", "empty",
    "refusal", "other model",
)  # fmt: skip
Plan = Callable[[dict[str, Any], int], str | None]


class ChatServer:
    """Says what `speak` makes of the last message (by default: echoes it).

    `plan(body, tries)` names the fault of a try (from 1), null for none.
    """

    def __init__(
        self,
        plan: Plan = lambda body, tries: None,
        delay: float = 0.0,
        speak: Callable[[str], str] = lambda said: f"echo {said}",
    ) -> None:
        self.plan, self.delay, self.speak = plan, delay, speak
        self.tries: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.headers: list[str] = []
        self.url = ""
        self.at_once = self.most_at_once = 0

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET "):  # a look whether we are there
                    writer.write(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n")
                    await writer.drain()
                    continue
                length = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                )
                self.headers.append(head.decode())
                body = json.loads(await reader.readexactly(length))
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                try:
                    if self.delay:
                        await asyncio.sleep(self.delay)
                    going_on = await self._answer(body, writer)
                finally:
                    self.at_once -= 1
                if not going_on:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        name = json.dumps(body, sort_keys=True)
        self.tries[name] += 1
        fault = self.plan(body, self.tries[name])
        if fault == "stall":
            await asyncio.sleep(3600)
        if fault == "cut":
            return False
        status, kind, extra, content = response(body, fault, self.speak)
        head = f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n{extra}\r\n"
        if fault == "cut in the body":
            writer.write(head.encode() + content[: len(content) // 2])
            await writer.drain()
            return False
        if fault is None:
            self.answered[name] += 1
        writer.write(head.encode() + content)
        await writer.drain()
        return True


def response(
    body: dict[str, Any], fault: str | None, speak: Callable[[str], str]
) -> tuple[int, str, str, bytes]:
    """Status, content type, further headers and content."""
    said = body["messages"][-1]["content"]
    message: dict[str, Any] = {"role": "assistant", "content": speak(said)}
    document: dict[str, Any] = {
        "id": "1",
        "object": "chat.completion",
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": len(said), "completion_tokens": 7, "total_tokens": len(said) + 7},
    }
    if fault in ("429", "429 wait"):
        wait = "Retry-After: 0\r\n" if fault == "429 wait" else ""
        return 429, "application/json", wait, b'{"error": {"message": "slow down"}}'
    if fault == "500":
        return 500, "text/plain", "", b"Internal Server Error"
    if fault == "HTML":
        return 200, "text/html", "", b"<html><body>Bad gateway</body></html>"
    if fault == "schema":
        document["choices"] = [{"text": said}]
    if fault == "empty":
        message["content"] = " "
    if fault == "refusal":
        message.update(content=None, refusal="I can't help with that.")
    if fault == "other model":
        document["model"] = "somebody-else"
    if fault is not None and fault.isdigit() and fault not in ("429", "500"):
        return int(fault), "application/json", "", json.dumps({"error": {"message": f"no: {fault}"}}).encode()
    content = json.dumps(document).encode()
    if fault == "half a JSON":
        content = content[: len(content) // 2]
    return 200, "application/json", "", content


@contextmanager
def serving(server: ChatServer) -> Iterator[ChatServer]:
    """Run a server in a thread of its own."""
    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def run() -> None:
        await server.start()
        ready.set()
        await asyncio.Event().wait()

    def work() -> None:
        asyncio.set_event_loop(loop)
        task = loop.create_task(run())
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        finally:
            for other in asyncio.all_tasks(loop):
                other.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
        thread.join()


async def _forever(delay: float) -> None:
    server = ChatServer(delay=delay)
    await server.start()
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_forever(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
