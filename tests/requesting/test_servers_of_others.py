"""What servers of other people do: errors under status 200, moderation, redirects, bombs, leaks of keys."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
import threading
import zlib
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from karma_plugins import models
from karma_plugins.errors import KarmaError, ModelError, ParamsError, RequestError
from karma_plugins.models import Endpoint
from karma_plugins.params import validate
from karma_plugins.requesting import ChatRequest, complete
from karma_plugins.requesting.bodies import MOST_BYTES
from karma_plugins.requesting.replies import read_reply
from karma_plugins.requesting.spending import Limits, ledger
from tests.chat_server import ChatServer, serving

QUICK = Limits(backoff=0.0005, retries=2, timeout=20, concurrency=8)
KEY = 'sk/"very+secret=42'


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    ledger.cache_clear()


def ask(*texts: str) -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": text}], max_tokens=20) for text in texts]


@contextmanager
def answering(answer):
    """A server whose `answer(handler, body)` writes the whole response."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):
                answer(self, json.loads(body))

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def send(handler, content: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    if "Content-Length" not in headers:
        handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def chat(text: str, model: str = "m", **others) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"model": model, "choices": [choice], **others}).encode()


# --- an error under status 200, moderation ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "failure"),
    [
        ({"error": {"code": 429, "message": "slow down"}}, "rate limit"),
        ({"error": {"code": "429", "message": "slow down"}}, "rate limit"),
        ({"error": {"code": 502, "message": "upstream"}}, "server error"),
        ({"error": {"type": "overloaded_error", "message": "busy"}}, "server error"),
        ({"error": {"code": "rate_limit_exceeded"}}, "rate limit"),
        ({"error": "upstream is gone"}, "server error"),
        ({"error": {"message": "?"}, "choices": []}, "server error"),
        ({"error": {"code": 408, "message": "late"}}, "timeout"),
        ({"error": {"code": 400, "message": "Unsupported parameter: 'max_tokens'"}}, "refused request"),
        ({"error": {"code": 403, "message": "flagged", "metadata": {"flagged_input": "x"}}}, "refusal"),
        ({"error": {"code": "content_filter", "message": "no"}}, "refusal"),
        ({"model": "m", "choices": [{"error": {"code": 429}, "message": {"content": ""}}]}, "rate limit"),
        ({"choices": [{"finish_reason": "error", "message": {"content": "ha"}}]}, "server error"),
    ],
)  # fmt: skip
def test_an_error_under_status_200_is_what_it_says(document, failure):
    reply = read_reply(200, "application/json", json.dumps(document).encode(), "m")
    assert (reply.text, reply.failure) == (None, failure)


@pytest.mark.parametrize("code", [401, "invalid_api_key", 402, "insufficient_quota", 404])
def test_an_error_under_status_200_that_is_hopeless_stops(code):
    with pytest.raises(RequestError, match="the server answers"):
        read_reply(200, "application/json", json.dumps({"error": {"code": code}}).encode(), "m")


def test_an_empty_error_beside_an_answer_is_none():
    assert read_reply(200, "application/json", chat("hi", error=None), "m").text == "hi"


def test_a_429_under_status_200_is_tried_again():
    tries = []

    def answer(handler, body):
        tries.append(body)
        send(handler, chat("hi") if len(tries) > 1 else b'{"error": {"code": 429, "message": "slow"}}')

    with answering(answer) as url:
        (reply,) = complete(Endpoint(endpoint=url, model="m"), ask("a"), QUICK)
    assert (reply.text, len(tries)) == ("hi", 2)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, {"error": {"message": "Your input was flagged by moderation", "code": 403}}),
        (400, {"error": {"code": "content_policy_violation", "message": "no"}}),
        (400, {"error": {"message": "triggering the content management policy", "code": "content_filter"}}),
        (400, {"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (422, {"detail": "unsafe content"}),
        (451, {"error": "unavailable for legal reasons"}),
    ],
)  # fmt: skip
def test_one_moderated_prompt_is_its_rows_refusal(status, body):
    def answer(handler, request):
        bad = request["messages"][-1]["content"] == "bad"
        send(handler, json.dumps(body).encode() if bad else chat("hi"), status if bad else 200)

    with answering(answer) as url:
        good, bad = complete(Endpoint(endpoint=url, model="m"), ask("good", "bad"), QUICK)
    assert (good.text, bad.failure) == ("hi", "refusal")


def test_a_403_about_the_key_still_stops():
    with pytest.raises(RequestError, match="Check what the key"):
        read_reply(403, "application/json", b'{"error": {"message": "no access to this model"}}', "m")


def test_content_in_parts_is_text():
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    body = json.dumps({"model": "m", "choices": [{"message": {"content": parts}}]}).encode()
    assert read_reply(200, "application/json", body, "m").text == "Hello"


# --- the shape of a request ---------------------------------------------------------------------------------


def test_a_request_is_fitted_to_its_server():
    shape = {
        "leave_out": ["seed", "top_p"], "rename": {"max_tokens": "max_completion_tokens"},
        "add": {"reasoning_effort": "low"},
    }  # fmt: skip
    endpoint = lambda url: Endpoint.model_validate({"endpoint": url, "model": "m", "request": shape})  # noqa: E731
    with serving(ChatServer()) as server:
        requests = [ChatRequest([{"role": "user", "content": "a"}], max_tokens=20, seed=3, top_p=0.5)]
        complete(endpoint(server.url), requests, QUICK)
        complete(Endpoint(endpoint=server.url, model="m"), requests, QUICK)
        fitted, plain = map(json.loads, server.tries)
    assert set(fitted) == {"model", "messages", "temperature", "max_completion_tokens", "reasoning_effort"}
    assert {"max_tokens", "seed", "top_p"} <= set(plain)


def test_a_server_that_wants_another_key_says_how_to_fit_it():
    body = b'{"error": {"message": "Unsupported parameter: max_tokens. Use max_completion_tokens"}}'
    assert "'request' in the descriptor" in str(read_reply(400, "application/json", body, "m").error)


# --- addresses and keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://", "is no address"),
        ("http:///v1", "is no address"),
        ("ftp://host/v1", "is no address"),
        ("http://host:99999/v1", "is no address"),
        ("http://host:0/v1", "is no address"),
        ("http://ho\nst/v1", "is no address"),
        ("http://[::1/v1", "is no address"),
        ("http://user:hunter2@host/v1", "api_key_env"),
        ("http://hunter2@host/v1", "api_key_env"),
        ("https://host/v1?api-key=hunter2", "api_key_env"),
        ("https://host/v1#hunter2", "api_key_env"),
    ],
)
def test_an_address_that_can_not_be_asked_or_holds_a_key_is_refused(address, says):
    with pytest.raises(ParamsError, match=says) as caught:
        validate(Endpoint, {"endpoint": address, "model": "m"}, where="far.yaml")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["a\nb", "schlüssel", "two words", "a\x00b", "\x1b[31m", "   "])
def test_a_key_that_is_none_is_refused_before_anything_is_sent(key, monkeypatch):
    if "\0" not in key:
        monkeypatch.setenv("TEST_KEY", key)
    with pytest.raises(ModelError, match="TEST_KEY"):
        models.api_key(Endpoint(endpoint="http://h/v1", model="m", api_key_env="TEST_KEY"))


@pytest.mark.parametrize(
    "leak",
    [
        KEY,
        quote(KEY, safe=""),
        base64.b64encode(f"user:{KEY}".encode()).decode(),
        base64.b64encode(f":{KEY}".encode()).decode(),
        base64.b64encode(f"a:{KEY}".encode()).decode(),
        base64.urlsafe_b64encode(f"name:{KEY}".encode()).decode(),
    ],
)
def test_a_key_in_any_form_is_masked_in_answers_and_reasons(leak, monkeypatch, tmp_path):
    """Also where JSON escapes it: the text is masked once it is decoded."""
    monkeypatch.setenv("TEST_KEY", f"{KEY}\n")

    def answer(handler, body):
        bad = body["messages"][-1]["content"] == "bad"
        escaped = json.dumps(leak).strip('"')
        content = chat(f"it is {leak}") if not bad else b'{"error": {"message": "key %s"}}' % escaped.encode()
        send(handler, content, 400 if bad else 200)

    with answering(answer) as url:
        endpoint = Endpoint(endpoint=url, model="m", api_key_env="TEST_KEY")
        good, bad = complete(endpoint, ask("good", "bad"), QUICK)
    assert "***" in str(good.text)
    assert "***" in str(bad.error)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (str(good), str(bad), kept.decode("latin-1")):
        assert leak not in text
        assert KEY not in text


def test_what_a_terminal_acts_on_is_in_no_reason():
    body = json.dumps({"error": {"message": "\x1b]0;owned\x07 \u202eevil\u2066 \x9b31m"}}).encode()
    reason = str(read_reply(400, "application/json", body, "m").error)
    assert reason.isprintable()
    with pytest.raises(RequestError) as caught:
        read_reply(401, "application/json", body, "m")
    assert str(caught.value).isprintable()


# --- ways that lead nowhere ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_names_its_location_and_sends_no_key_there(status):
    def answer(handler, body):
        send(handler, b"", status, Location="https://me:hunter2@elsewhere.example/v1?token=hunter2")

    with answering(answer) as url, pytest.raises(RequestError) as caught:
        complete(Endpoint(endpoint=url, model="m"), ask("a"), QUICK)
    assert "elsewhere.example/v1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_redirect_to_nowhere_says_so():
    with (
        answering(lambda handler, body: send(handler, b"", 302)) as url,
        pytest.raises(RequestError, match="nowhere"),
    ):
        complete(Endpoint(endpoint=url, model="m"), ask("a"), QUICK)


# --- too much -----------------------------------------------------------------------------------------------


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    block = b"\0" * 2**20
    return b"".join([*(packer.compress(block) for _ in range(size >> 20)), packer.flush()])


def test_a_body_without_end_is_cut_at_the_bound():
    sent = 0

    def answer(handler, body):
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1024):
            handler.wfile.write(b"x" * 2**20)
            sent += 2**20

    with answering(answer) as url:
        (reply,) = complete(Endpoint(endpoint=url, model="m"), ask("a"), QUICK)
    assert (reply.text, reply.failure) == (None, "too large")
    assert sent < 4 * MOST_BYTES


def test_a_stated_length_beyond_the_bound_is_not_read():
    def answer(handler, body):
        send(handler, b"{", Content_Length=str(2**30))

    with answering(answer) as url:
        (reply,) = complete(Endpoint(endpoint=url, model="m"), ask("a"), QUICK)
    assert reply.failure in ("too large", "cut connection")


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_a_bomb_is_never_unpacked_beyond_the_bound(encoding):
    packed = bomb(256 * 2**20)
    with answering(lambda handler, body: send(handler, packed, Content_Encoding=encoding)) as url:
        (reply,) = complete(Endpoint(endpoint=url, model="m"), ask("a"), QUICK)
    assert (reply.text, reply.failure) == (None, "too large")


def test_a_packed_answer_that_was_not_asked_for_is_still_read():
    packed = gzip.compress(chat("hi"))
    with answering(lambda handler, body: send(handler, packed, Content_Encoding="gzip")) as url:
        (reply,) = complete(Endpoint(endpoint=url, model="m"), ask("a"), QUICK)
    assert reply.text == "hi"


@pytest.mark.parametrize("encoding", ["br", "zstd", "made-up", "gzip, gzip"])
def test_an_unknown_packing_is_a_failure_with_its_name(encoding):
    with answering(lambda handler, body: send(handler, b"xx", Content_Encoding=encoding)) as url:
        (reply,) = complete(
            Endpoint(endpoint=url, model="m"), ask("a"), QUICK.model_copy(update={"retries": 0})
        )
    assert encoding in str(reply.error)


# --- kept answers -------------------------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "garbage":
        path.write_bytes(b"\xff\x00garbage" * 500)
    elif how == "older layout":
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE kept (key TEXT PRIMARY KEY, reply TEXT)")
        database.close()
    else:
        with sqlite3.connect(path) as database:
            rows = database.execute("SELECT key, reply, digest FROM kept ORDER BY key").fetchall()
            if how == "swapped":
                (one, *first), (other, *second) = rows[0], rows[1]
                rows = [(one, *second), (other, *first), *rows[2:]]
            elif how == "fewer rows":
                rows = rows[1:]
            elif how == "not JSON":
                rows[0] = (rows[0][0], "{", rows[0][2])
            database.execute("DELETE FROM kept")
            database.executemany("INSERT INTO kept VALUES (?, ?, ?)", rows)
        database.close()


DAMAGES = ("missing", "empty", "cut", "garbage", "older layout", "swapped", "fewer rows", "not JSON")


@pytest.mark.filterwarnings("ignore:karma")
@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_kept_answers_are_asked_again_and_never_believed(how, tmp_path):
    texts = [f"question {i}" for i in range(40)]
    with serving(ChatServer()) as server:
        endpoint = Endpoint(endpoint=server.url, model="echo-1")
        complete(endpoint, ask(*texts), QUICK)
        (path,) = tmp_path.rglob("replies.sqlite")
        damage(path, how)
        replies = complete(endpoint, ask(*texts), QUICK)
        assert [reply.text for reply in replies] == [f"echo {text}" for text in texts]
        again = complete(endpoint, ask(*texts), QUICK)
        assert all(reply.kept for reply in again)


@pytest.mark.parametrize(("how", "says"), [("garbage", "are damaged"), ("swapped", "2 of 3 kept replies")])
def test_damage_is_said_once(how, says, tmp_path):
    with serving(ChatServer()) as server:
        endpoint = Endpoint(endpoint=server.url, model="echo-1")
        complete(endpoint, ask("a", "b", "c"), QUICK)
        (path,) = tmp_path.rglob("replies.sqlite")
        damage(path, how)
        with pytest.warns(UserWarning, match=says) as said:
            complete(endpoint, ask("a", "b", "c"), QUICK)
    assert len(said) == 1


def test_every_stop_is_one_line():
    for status in (401, 402, 403, 404, 405, 407):
        with pytest.raises(KarmaError) as caught:
            read_reply(status, "text/html", b"<h1>No</h1>\n<p>no\n", "m")
        assert "\n" not in str(caught.value)
