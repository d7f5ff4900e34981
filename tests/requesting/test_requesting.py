from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter

import pytest

from karma_plugins.errors import ModelError, RequestError
from karma_plugins.models import Endpoint
from karma_plugins.requesting import ChatRequest, complete, forecast
from karma_plugins.requesting.replies import read_reply
from karma_plugins.requesting.spending import Limits, ledger
from tests.chat_server import FAULTS, ChatServer, serving

QUICK = Limits(backoff=0.0005, retries=2, timeout=20, concurrency=8)
#: The failure that each fault must end as, and whether asking again may heal it.
REASONS = {
    "429": ("rate limit", True), "429 wait": ("rate limit", True), "500": ("server error", True),
    "stall": ("timeout", True), "cut": ("cut connection", True), "cut in the body": ("cut connection", True),
    "half a JSON": ("not JSON", True), "schema": ("wrong schema", False), "HTML": ("HTML", True),
    "empty": ("empty content", False), "refusal": ("refusal", False), "other model": ("other model", False),
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """Answers are kept in a folder of the test's own, and nothing has been spent."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    ledger.cache_clear()


def at(server: ChatServer, **others) -> Endpoint:
    return Endpoint(endpoint=server.url, model="echo-1", **others)


def ask(texts, **others) -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": text}], max_tokens=20, **others) for text in texts]


def test_every_request_gets_its_own_answer():
    texts = [f"question {i} ☂" for i in range(100)]
    with serving(ChatServer()) as server:
        replies = complete(at(server), ask(texts), QUICK)
    assert [r.text for r in replies] == [f"echo {text}" for text in texts]
    assert {r.finish_reason for r in replies} == {"stop"}
    assert [r.prompt_tokens for r in replies] == [len(text) for text in texts]
    assert server.most_at_once <= 8


def test_faults_in_one_of_three_end_as_answers_or_as_failures_with_the_right_reason():
    """Half of the faults go away at the second try; what can't heal is asked once."""
    texts = [f"{i}" for i in range(2100)]
    plan_of = {text: FAULTS[(i // 6) % len(FAULTS)] for i, text in enumerate(texts) if i % 3 == 0}
    rare = [text for text, fault in plan_of.items() if fault == "stall"][::11]
    plan_of |= {text: "500" for text, fault in plan_of.items() if fault == "stall" and text not in rare}
    passing = {text for i, text in enumerate(texts) if i % 6 == 0}

    def plan(body, tries):
        text = body["messages"][-1]["content"]
        fault = plan_of.get(text)
        return None if fault and text in passing and REASONS[fault][1] and tries > 1 else fault

    limits = QUICK.model_copy(update={"timeout": 3, "concurrency": 32})
    with serving(ChatServer(plan)) as server:
        replies = dict(zip(texts, complete(at(server), ask(texts), limits), strict=True))
    wrong = {}
    for text, reply in replies.items():
        fault = plan_of.get(text)
        heals = fault is None or (text in passing and REASONS[fault][1])
        expected = (f"echo {text}", None) if heals else (None, REASONS[fault][0])
        if (reply.text, reply.failure) != expected:
            wrong[text, fault] = reply
    assert not wrong
    failures = Counter(reply.failure for reply in replies.values() if reply.failure)
    assert set(failures) == {reason for reason, _ in REASONS.values()}
    assert all(reply.error.startswith(f"{reply.failure}: ") for reply in replies.values() if reply.error)
    for body, tries in server.tries.items():
        fault = plan_of.get(re.search(r'"content": "(\d+)"', body)[1])
        if fault and not REASONS[fault][1]:
            assert tries == 1


def test_finished_answers_are_never_asked_for_again_and_failures_are():
    texts = [f"{i}" for i in range(30)]
    down = True

    def plan(body, tries):
        return "refusal" if down and body["messages"][-1]["content"] in texts[:10] else None

    with serving(ChatServer(plan)) as server:
        first = complete(at(server), ask(texts), QUICK)
        assert sum(r.failure == "refusal" for r in first) == 10
        down = False
        second = complete(at(server), ask(texts), QUICK)
        assert [r.kept for r in second] == [False] * 10 + [True] * 20
        assert second[10:] == first[10:]
        changed = QUICK.model_copy(update={"concurrency": 3, "retries": 0})
        assert all(r.kept for r in complete(at(server), ask(texts), changed))
    assert set(server.answered.values()) == {1}


@pytest.mark.parametrize("change", [{"temperature": 0.5}, {"seed": 1}, {"sample": 1}, {"stop": ("x",)}])
def test_another_request_is_asked_anew(change):
    with serving(ChatServer()) as server:
        complete(at(server), ask(["a"]), QUICK)
        (reply,) = complete(at(server), ask(["a"], **change), QUICK)
        assert not reply.kept


def test_the_same_request_twice_is_asked_once():
    with serving(ChatServer()) as server:
        first, second = complete(at(server), ask(["a", "a"]), QUICK)
    assert first == second
    assert sum(server.tries.values()) == 1


def test_a_system_prompt_goes_first():
    with serving(ChatServer()) as server:
        complete(at(server, system_prompt="Be brief."), ask(["a"]), QUICK)
    assert '[{"content": "Be brief.", "role": "system"}, {"content": "a"' in next(iter(server.tries))


@pytest.mark.parametrize(
    ("cap", "message"),
    [
        ({"max_requests": 19}, "in all it may come to 20, and max_requests is 19"),
        ({"max_total_tokens": 500}, "max_total_tokens is 500"),
        ({"max_cost": 0.01, "prompt_price": 1.0, "completion_price": 100.0}, "max_cost is 0.01"),
    ],
)
def test_a_cap_is_checked_before_the_first_request(cap, message):
    with serving(ChatServer()) as server:
        with pytest.raises(RequestError, match=message):
            complete(at(server), ask([f"{i}" for i in range(20)]), QUICK.model_copy(update=cap))
        assert not server.tries


def test_a_cap_is_kept_during_the_run_and_finished_answers_too():
    """Ten requests fit, but tries count as well, and every third is refused once."""

    def plan(body, tries):
        return "500" if int(body["messages"][-1]["content"]) % 3 == 0 and tries == 1 else None

    texts = [f"{i}" for i in range(10)]
    with serving(ChatServer(plan)) as server:
        with pytest.raises(RequestError, match="max_requests is 11"):
            complete(at(server), ask(texts), QUICK.model_copy(update={"max_requests": 11}))
        assert sum(server.tries.values()) <= 11
        done = sum(server.answered.values())
        replies = complete(at(server), ask(texts), QUICK)
        assert sum(r.kept for r in replies) == done
        assert set(server.answered.values()) == {1}


def test_caps_hold_for_all_calls_of_a_process():
    limits = QUICK.model_copy(update={"max_requests": 15})
    with serving(ChatServer()) as server:
        complete(at(server), ask([f"{i}" for i in range(10)]), limits)
        complete(at(server), ask([f"{i}" for i in range(10)]), limits)  # kept, so free
        with pytest.raises(RequestError, match="it may come to 20"):
            complete(at(server), ask([f"x{i}" for i in range(10)]), limits)


def test_tokens_that_were_used_count_not_those_that_were_feared():
    limits = QUICK.model_copy(update={"max_total_tokens": 100})
    with serving(ChatServer()) as server:
        for i in range(3):  # 29 tokens may be used by each, 8 are
            complete(at(server), ask([f"{i}"]), limits)
    assert ledger(server.url, "echo-1", limits).used.completion_tokens == 21


def test_a_cap_on_tokens_needs_a_bound_on_answers():
    endpoint, limits = Endpoint(endpoint="http://127.0.0.1:9/v1", model="m"), Limits(max_total_tokens=10**6)
    with pytest.raises(RequestError, match="needs a bound on answers"):
        complete(endpoint, [ChatRequest([{"role": "user", "content": "a"}])], limits)


def test_a_forecast_asks_nothing():
    limits = QUICK.model_copy(update={"prompt_price": 1e6, "completion_price": 2e6})
    with serving(ChatServer()) as server:
        complete(at(server), ask(["a", "b"]), limits)
        found = forecast(at(server), ask(["a", "b", "c" * 30]), limits)
        assert sum(server.tries.values()) == 2
    assert (found.kept, found.usage.requests, found.usage.completion_tokens) == (2, 1, 20)
    assert found.usage.prompt_tokens == 10 + 8
    assert found.cost == 18 * 1.0 + 20 * 2.0


def test_a_forecast_leaves_nothing_behind(tmp_path):
    found = forecast(Endpoint(endpoint="http://127.0.0.1:9/v1", model="m"), ask(["a"]), QUICK)
    assert (found.kept, found.usage.requests) == (0, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("status", "cure"), [("401", "Check the key"), ("404", "endpoint"), ("402", "credit")]
)
def test_what_can_not_get_better_stops_at_once_with_one_line(status, cure):
    with serving(ChatServer(lambda body, tries: status)) as server:
        with pytest.raises(RequestError, match=cure) as caught:
            complete(at(server), ask([f"{i}" for i in range(100)]), QUICK)
        assert "\n" not in str(caught.value)
        assert server.url in str(caught.value)
        assert sum(server.tries.values()) <= 8


def test_a_server_that_is_not_there_stops_the_run():
    with pytest.raises(RequestError, match="can't be reached"):
        complete(Endpoint(endpoint="http://127.0.0.1:9/v1", model="m"), ask(["a"]), QUICK)


def test_a_refused_request_is_a_failure_of_its_own():
    def plan(body, tries):
        return "400" if body["messages"][-1]["content"] == "bad" else None

    with serving(ChatServer(plan)) as server:
        good, bad = complete(at(server), ask(["good", "bad"]), QUICK)
    assert good.text == "echo good"
    assert bad.error == "refused request: status 400 (no: 400)"


def test_concurrency_falls_after_refusals_and_recovers():
    loads = []

    def plan(body, tries):
        loads.append(server.at_once)
        return "429" if server.at_once > 4 else None

    with serving(ChatServer(plan, delay=0.002)) as server:
        replies = complete(
            at(server), ask([f"{i}" for i in range(300)]), QUICK.model_copy(update={"retries": 20})
        )
    assert all(r.text for r in replies)
    refused = sum(load > 4 for load in loads)
    assert refused < 0.25 * len(loads)


def test_an_answer_that_asks_to_wait_too_long_ends_the_run():
    class Patient(ChatServer):
        async def _answer(self, body, writer):
            writer.write(b"HTTP/1.1 429 x\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return True

    with serving(Patient()) as server, pytest.raises(RequestError, match="asks to wait 86400"):
        complete(at(server), ask(["a"]), QUICK)


def test_a_body_that_does_not_unpack_is_a_failure_and_not_the_end_of_the_run():
    class Packed(ChatServer):
        async def _answer(self, body, writer):
            if body["messages"][-1]["content"] == "good":
                return await super()._answer(body, writer)
            head = b"HTTP/1.1 200 x\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
            writer.write(head + b"Content-Length: 4\r\n\r\n{}{}")
            await writer.drain()
            return True

    with serving(Packed()) as server:
        bad, good = complete(at(server), ask(["bad", "good"]), QUICK)
    assert (bad.text, bad.failure) == (None, "cut connection")
    assert good.text == "echo good"


def test_a_bottomless_json_is_a_failure():
    for status, failure in ((200, "not JSON"), (500, "server error")):
        assert read_reply(status, "application/json", b"[" * 200_000, "m").failure == failure


def test_an_absurd_count_of_tokens_is_no_count():
    body = b'{"model": "m", "choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 1%s}}'
    reply = read_reply(200, "application/json", body % (b"0" * 30), "m")
    assert (reply.text, reply.prompt_tokens) == ("a", None)


def test_the_key_is_sent_and_nowhere_else(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("TEST_KEY", "sk-very-secret")

    class Blabbing(ChatServer):
        async def _answer(self, body, writer):
            content = b'{"error": {"message": "wrong key sk-very-secret"}}'
            writer.write(b"HTTP/1.1 401 x\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))
            await writer.drain()
            return True

    caplog.set_level("DEBUG")
    with serving(ChatServer()) as server:
        complete(at(server, api_key_env="TEST_KEY"), ask(["a"]), QUICK)
        assert "Bearer sk-very-secret" in server.headers[0]
    with serving(Blabbing()) as server, pytest.raises(RequestError) as caught:
        complete(at(server, api_key_env="TEST_KEY"), ask(["a"]), QUICK)
    assert "secret" not in str(caught.value)
    assert "secret" not in caplog.text
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert all(b"secret" not in path.read_bytes() for path in kept)
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ModelError, match="TEST_KEY is not set"):
        complete(at(server, api_key_env="TEST_KEY"), ask(["a"]), QUICK)


def test_inside_a_running_loop_as_in_a_notebook():
    async def cell():
        return complete(at(server), ask(["a"]), QUICK)

    with serving(ChatServer()) as server:
        (reply,) = asyncio.run(cell())
    assert reply.text == "echo a"


@pytest.mark.parametrize(
    ("named", "asked", "fine"),
    [
        ("zoo/m@main", "zoo/m", True), ("gpt-x-2026-08-06", "gpt-x", True), ("gpt-x", "gpt-x", True),
        ("gpt-x-mini", "gpt-x", False), ("gpt", "gpt-x", False), ("", "gpt-x", False),
    ],
)  # fmt: skip
def test_names_that_hosts_give_a_model(named, asked, fine):
    body = b'{"model": "%s", "choices": [{"message": {"content": "hi"}}]}' % named.encode()
    reply = read_reply(200, "application/json", body, asked)
    assert (reply.text == "hi") == fine
    assert (reply.failure == "other model") != fine
    assert (
        read_reply(200, "application/json", body, "alias", served_as=named or None).failure != "other model"
        or not named
    )


@pytest.mark.parametrize(
    "body",
    [
        "[]", "{}", "null", '"text"', "3", '{"choices": []}', '{"choices": {}}',
        '{"choices": [{}], "model": "m"}',
        '{"model": "m", "choices": [{"message": {"content": ["a"]}}]}',
        '{"model": "m", "choices": [{"message": {"content": "\\ud800"}}]}',
        '{"model": "m", "choices": [{"message": {"content": "a"}, "finish_reason": 3}]}',
        '{"model": "m", "choices": [{"message": {"content": "a"}}], "usage": [1]}',
        '{"choices": [{"message": {"content": "a"}}]}',
    ],
)  # fmt: skip
def test_what_looks_like_an_answer_and_is_none(body):
    assert read_reply(200, "application/json", body.encode(), "m").failure == "wrong schema"


KILLED = """
import sys
from karma_plugins.models import Endpoint
from karma_plugins.requesting import ChatRequest, complete
from karma_plugins.requesting.spending import Limits

requests = [ChatRequest([{"role": "user", "content": str(i)}]) for i in range(300)]
for reply in complete(Endpoint(endpoint=sys.argv[1], model="echo-1"), requests, Limits(concurrency=4)):
    print(reply.text)
"""


def test_after_a_kill_no_finished_request_is_sent_again(tmp_path, repository):
    reached = 0

    def plan(body, tries) -> None:
        nonlocal reached
        reached += 1
        if reached == 120:
            process.send_signal(signal.SIGKILL)

    environment = os.environ | {"DVC_ROOT": str(tmp_path), "PYTHONPATH": str(repository)}
    with serving(ChatServer(plan, delay=0.001)) as server:
        process = subprocess.Popen([sys.executable, "-c", KILLED, server.url], env=environment)
        process.wait()
        assert process.returncode == -signal.SIGKILL
        begun = sum(server.tries.values())
        again = subprocess.run(
            [sys.executable, "-c", KILLED, server.url],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    assert again.stdout.split("\n")[:-1] == [f"echo {i}" for i in range(300)]
    # Only what was on its way at the kill (at most one for each of four workers) is asked twice.
    assert begun >= 120
    assert sum(server.tries.values()) <= 300 + 4
