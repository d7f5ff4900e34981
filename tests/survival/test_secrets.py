"""Planted keys and passwords: no byte that the pipeline, MLflow or the terminal got holds one of them."""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml

from karma_plugins.errors import KarmaError, RequestError
from karma_plugins.judging.judges import llm_rubric
from karma_plugins.models import Endpoint
from karma_plugins.requesting import ChatRequest, complete
from karma_plugins.requesting.secrets import Mask
from karma_plugins.requesting.spending import Limits, ledger
from tests.chat_server import ChatServer, serving

KEY = 'sk-Pl4nted/S3cret+Key="quoted"&<b>%20\\end~42'
PASSWORD = "p4ss/W0rd@Pl4nted:?#[x]"
QUICK = Limits(backoff=0.001, retries=1, concurrency=4, timeout=20)


def forms(secret: str, user: str = "") -> dict[str, str]:
    """What a text may show a secret as."""
    basic = base64.b64encode(f"{user}:{secret}".encode()).decode()
    bare = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {
        "plain": secret,
        "JSON": json.dumps(secret)[1:-1],
        "JSON twice": json.dumps(json.dumps(secret)[1:-1])[1:-1],
        "repr": repr(secret)[1:-1],
        "bytes": repr(secret.encode())[2:-1],
        "quoted": quote(secret),
        "percent": quote(secret, safe=""),
        "percent, small": re.sub("%..", lambda m: m[0].lower(), quote(secret, safe="")),
        "percent twice": quote(quote(secret, safe=""), safe=""),
        "plus": quote_plus(secret),
        "all percent": "".join(f"%{byte:02X}" for byte in secret.encode()),
        "HTML": html.escape(secret),
        "HTML numbers": "".join(f"&#{ord(c)};" for c in secret),
        "unicode": "".join(f"\\u{ord(c):04x}" for c in secret),
        "slashes": secret.replace("/", "\\/"),
        "small": secret.lower(),
        "base64": bare,
        "base64 of Basic": basic.rstrip("="),
        "base64 for addresses": bare.replace("+", "-").replace("/", "_"),
    }


SHOWN = forms(KEY)


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("PLANTED", KEY)
    ledger.cache_clear()


@pytest.mark.parametrize("form", SHOWN)
def test_a_mask_covers_every_form(form: str) -> None:
    text = f"before {SHOWN[form]} after"
    masked = Mask(KEY)(text)
    assert SHOWN[form] not in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert len(masked) < len("before *** after") + 8


@pytest.mark.parametrize("key", ["EMPTY", "none", "x"])
def test_a_word_that_stands_for_no_key_is_cut_out_of_no_answer(key: str) -> None:
    assert Mask(key)(f"the {key} list of {key.lower()}") == f"the {key} list of {key.lower()}"


# --- what a server may say ----------------------------------------------------------------------------------


def replies_of(shown: str) -> dict[str, bytes]:
    """Whole responses that show something in a place each; a long text comes before, where texts are cut."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": f"so: {shown}"},
        "finish_reason": "stop",
    }
    document = {"id": shown, "model": "m", "choices": [choice], "usage": {shown: 1}}
    line = shown.replace("\n", " ")
    long = "x" * 148 + " " + shown

    def response(status: int, content: Any, *headers: str, kind: str = "application/json") -> bytes:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        lines = [
            f"HTTP/1.1 {status} {line}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    return {
        "answer": response(200, document),
        "reason of its end": response(
            200, {**document, "choices": [{**choice, "finish_reason": shown}]}
        ),
        "refusal": response(
            200, {**document, "choices": [{**choice, "message": {"content": None, "refusal": long * 3}}]}
        ),
        "other model": response(200, {**document, "model": "y" * 290 + shown}),
        "packed": response(200, gzip.compress(json.dumps(document).encode()), "Content-Encoding: gzip"),
        "packing": response(200, b"xx", f"Content-Encoding: {line}"),
        "error 400": response(400, {"error": {"message": f"key {long}"}}),
        "error 500": response(500, {"error": {"message": long, "key": shown}}),
        "error 429": response(429, {"error": {"message": long}}, "Retry-After: 0"),
        "wait": response(429, {"error": "x"}, f"Retry-After: 1e9{line}", "Retry-After: 99999"),
        "error 401": response(401, {"error": {"message": f"invalid key {shown}"}}),
        "error 402": response(402, json.dumps(f"no credit for {shown}").encode()),
        "redirect": response(307, b"", f"Location: http://x/{line}?key={line}"),
        "HTML": response(200, f"<html>{long}</html>".encode(), kind="text/html"),
        "HTML 403": response(403, f"<html><b>{shown}</b></html>".encode(), kind="text/html"),
        "spoken error": response(200, {"error": {"message": long, "code": 500}}),
        "spoken final error": response(200, {"error": {"message": long, "code": "invalid_api_key"}}),
        "no JSON": response(200, b'{"a": ' + shown.encode()),
        "no schema": response(200, {shown: shown}),
        "bad header": f"HTTP/1.1 200 OK\r\n{line}\x00\r\n\r\n".encode(),
        "bad status": f"{line}\r\n\r\n".encode(),
    }  # fmt: skip


class Parrot(ChatServer):
    """Sends one response whatever it is asked."""

    content = b""

    async def _answer(self, body: Any, writer: Any) -> bool:
        self.tries["all"] += 1
        writer.write(self.content)
        await writer.drain()
        return False


def holds(data: bytes, secret: str = KEY, user: str = "") -> list[str]:
    """The forms of a secret that these bytes hold: as they are, small, and with JSON's escapes undone."""
    found = []
    for name, form in forms(secret, user).items():
        plain = form.encode()
        if plain in data or (name == "plain" and plain.lower() in data.lower()):
            found.append(name)
    # What is left of a key that was cut short.
    return found + [f"the first {n}" for n in (12,) if secret[:n].encode().lower() in data.lower()]


def bytes_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file; of a database also what its rows hold."""
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if data.startswith(b"SQLite"):
                with sqlite3.connect(path) as database:
                    data += "\n".join(database.iterdump()).encode("utf-8", "surrogatepass")
                database.close()
            elif data[:4] == b"PAR1":
                import polars as pl

                data += pl.read_parquet(path).write_ndjson().encode()
            yield path, data


def test_whatever_a_server_shows_of_a_key_reaches_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Forms in places of a response (all with KARMA_SLOW_TESTS): texts, reasons, logs and kept replies."""
    caplog.set_level("DEBUG", logger="karma_plugins")
    held: dict[tuple[str, str], list[str]] = {}
    asked = 0
    with serving(Parrot()) as server:
        endpoint = Endpoint(endpoint=server.url, model="m", api_key_env="PLANTED")
        for i, (form, shown) in enumerate(SHOWN.items()):
            for j, (place, content) in enumerate(replies_of(shown).items()):
                if "KARMA_SLOW_TESTS" not in os.environ and (i + j) % 5:
                    continue
                server.content = content
                request = ChatRequest([{"role": "user", "content": f"{form} {place}"}], max_tokens=5)
                said = ""
                try:
                    (reply,) = complete(endpoint, [request], QUICK)
                    said = repr(reply)
                except RequestError as error:
                    said = f"{error!r} {error.__cause__!r}"
                asked += 1
                if found := holds(said.encode()) or [f for f in (form,) if shown in said]:
                    held[form, place] = found
    assert not held
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("karma_plugins"))
    assert "try 1 failed" in ours
    assert not holds(ours.encode())
    kept = list(bytes_below(tmp_path))
    assert any(path.name == "replies.sqlite" for path, _ in kept)
    assert not {path: holds(data) for path, data in kept if holds(data)}
    sys.stdout.write(f"\n{asked} responses that show a key: 0 of its forms in what came of them\n")


# --- addresses with a login ---------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [
    f"http://user:{quote(PASSWORD, safe='')}@127.0.0.1:9/v1", f"http://127.0.0.1:9/v1?api-key={KEY}",
    f"http://:{quote(PASSWORD, safe='')}@127.0.0.1:9/v1", f"http://127.0.0.1:9/v1#{KEY}",
])  # fmt: skip
def test_an_address_that_holds_a_secret_is_refused_without_showing_it(address: str, tmp_path: Path) -> None:
    from karma_plugins import models

    descriptor = tmp_path / "far.yaml"
    descriptor.write_text(yaml.safe_dump({"endpoint": address, "model": "m"}))
    with pytest.raises(KarmaError) as caught:
        models.load("far", descriptor)
    said = str(caught.value).encode()
    assert not holds(said)
    assert not holds(said, PASSWORD, "user")


def test_what_is_said_of_a_tracking_server_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    from karma_plugins.tracking import refusing

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", KEY)
    for secret, user in ((PASSWORD, "ada"), (KEY, "")):
        for shown in (secret, *[form for name, form in forms(secret, user).items() if name in
                                ("JSON", "percent", "base64 of Basic")]):  # fmt: skip
            for text in (
                f"error 401: {shown}",
                f"postgresql://ada:{secret}@host/db error",
                f"x\nError) {shown}",
            ):
                assert not holds(refusing.reason(Exception(text)).encode(), secret, user)
                assert not holds(str(refusing.told(Exception(text), f"http://u:{secret}@h")).encode(), secret)


# --- all of it, with MLflow ---------------------------------------------------------------------------------

slow = pytest.mark.skipif("KARMA_SLOW_TESTS" not in os.environ, reason="slow: set KARMA_SLOW_TESTS=1")
#: Responses after which no run goes on.
FINAL = ("error 401", "error 402", "HTML 403", "redirect", "wait", "spoken final error")


@contextmanager
def echoing() -> Iterator[ChatServer]:
    """Answers with the key that it was sent: to some questions in an error, to others in an answer."""

    class Echo(ChatServer):
        async def _answer(self, body: Any, writer: Any) -> bool:
            shown = list(SHOWN.values())
            self.tries["all"] += 1
            if "BEGIN CONVERSATION" in body["messages"][-1]["content"] and self.tries["all"] % 3:
                return await super()._answer(body, writer)
            form = shown[self.tries["all"] % len(shown)]
            places = list(replies_of(form).items())
            harmless = [content for place, content in places if place not in FINAL]
            writer.write(harmless[self.tries["all"] % len(harmless)])
            await writer.drain()
            return False

    def verdict(said: str) -> str:
        case = re.search(r"^BEGIN CONVERSATION ([0-9a-f]{16})$", said, re.MULTILINE)[1]
        return json.dumps({"case": case} | dict.fromkeys(llm_rubric.ASPECTS, 3))

    with serving(Echo(speak=verdict)) as server:
        yield server


@slow
def test_a_pipeline_with_mlflow_holds_no_secret(tmp_path: Path, repository: Path) -> None:
    """generate and judge behind servers that echo, tracked to a server that does; then `check` and `sync`."""
    from tests.lineage.two_stages import DVC, environment

    folder = tmp_path / "p"
    folder.mkdir()
    questions = [{"prompt": f"What is {i}?", "competency": "c", "split": "train"} for i in range(40)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, questions)))
    with echoing() as server:
        (folder / "far.yaml").write_text(
            yaml.safe_dump({"endpoint": server.url, "model": "m", "api_key_env": "PLANTED"})
        )
        limits = {"backoff": 0.001, "retries": 1}
        settings = {
            "prompts": {"path": "prompts.jsonl"},
            "models": {"far": {"path": "far.yaml", "generator": "endpoint", "sampling": {"limits": limits}}},
            "generate": {"samples": 2},
            "judge": {"judges": {"llm": {"plugin": "llm-rubric", "model": "far.yaml", "limits": limits}}},
        }  # fmt: skip
        (folder / "params.yaml").write_text(yaml.safe_dump(settings))
        said = []

        def run(command: Callable[[], list[str]] | list[str], **more: str) -> None:
            words = command if isinstance(command, list) else command()
            done = subprocess.run(
                words, cwd=folder, capture_output=True, check=False,
                env=environment(
                    PYTHONPATH=str(repository), PLANTED=KEY, KARMA_LOG="DEBUG", DVC_ROOT=str(folder), **more
                ),
            )  # fmt: skip
            said.append((words, done.returncode, done.stdout + done.stderr))

        python = [sys.executable, "-m"]
        run(["git", "init", "-q", "."])
        run([*DVC, "init", "-q"])
        run([*python, "karma_plugins", "lock"])
        login = f"http://ada:{quote(PASSWORD, safe='')}@127.0.0.1:9"
        for arguments, more in (
            (["stages.prompts"], {}),
            (["karma_plugins", "check"], {}),
            (["stages.generate", "far"], {}),
            (["stages.judge", "llm"], {"MLFLOW_TRACKING_URI": login, "KARMA_TRACKING_WAIT": "60"}),
            (["karma_plugins", "check"], {"MLFLOW_TRACKING_URI": login}),
            (["karma_plugins", "sync"], {"MLFLOW_TRACKING_URI": login}),
            (["karma_plugins", "sync"], {
                "MLFLOW_TRACKING_URI": server.url.removesuffix("/v1"), "MLFLOW_TRACKING_USERNAME": "ada",
                "MLFLOW_TRACKING_PASSWORD": PASSWORD}),
            (["karma_plugins", "sync"], {}),
        ):  # fmt: skip
            run([*python, *arguments], **more)
    ends = {" ".join(words[2:]): status for words, status, _ in said}
    last = {" ".join(words[2:]): out.decode(errors="replace")[-300:] for words, _, out in said}
    assert (ends["stages.generate far"], ends["stages.judge llm"]) == (0, 0), last["stages.judge llm"]
    assert (folder / "mlflow.db").is_file()
    assert (folder / "data" / "verdicts" / "llm").is_dir()
    places = {str(path.relative_to(folder)): data for path, data in bytes_below(folder)}
    places |= {f"terminal: {' '.join(words[1:])}": out for words, _, out in said}
    found = {
        place: held
        for place, data in places.items()
        if (held := [*holds(data), *holds(data, PASSWORD, "ada")])
    }
    assert not found
    size = sum(map(len, places.values()))
    sys.stdout.write(f"\n{size:,} bytes in {len(places)} places hold 0 of 2 secrets in {len(SHOWN)} forms\n")
