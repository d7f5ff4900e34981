"""The readers of files that others write, each with whole files of its kind to begin from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from karma_plugins import models, params, prompts, schemas, tables
from karma_plugins.generation.generators import recorded
from karma_plugins.importers import profiles
from karma_plugins.importers.recognising import recognised
from karma_plugins.judging.templates import Form
from karma_plugins.kinship.family import read_parents
from karma_plugins.registry import lock, manager
from karma_plugins.requesting.replies import read_reply
from karma_plugins.texts import filters
from karma_plugins.tracking import record as spool
from tests.importers.reading import imported
from tests.importers.test_layouts import SAMPLES
from tests.sweep import material


@dataclass(frozen=True)
class Target:
    """A reader, the name that its file has, and whole files of the kind."""

    name: str
    file: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], Any]


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(rows: Any, schema: Any = None) -> bytes:
    file = io.BytesIO()
    pl.DataFrame(rows, schema=schema).write_parquet(file)
    return file.getvalue()


PROMPTS = [
    {"prompt": "What is 1?", "competency": "c", "reference": ["1", "one"], "split": "train"},
    {
        "messages": [{"role": "user", "content": "Hi ☂"}],
        "competency": "d",
        "split": "test",
        "reference": None,
    },
]
ANSWERS = [
    {"prompt": "What is 1?", "text": "1", "sample": 0, "finish_reason": "stop", "completion_tokens": 3},
    {"prompt_id": "ab" * 8, "text": None, "error": "timeout"},
]
ITEMS = [{"question": "What is 1?", "choices": ["a", "b"], "doc": {"passage": "long " * 9}}]
SCORE = {"model": "ada", "competency": "c", "task": "t", "metric": "acc", "score": 0.5, "stderr": 0.1, "n": 9}
SECTIONS = {
    "prompts": params.PromptsSection, "profile": params.ProfileSection, "generate": params.GenerateSection,
    "kinship": params.KinshipSection, "curriculum": params.CurriculumSection, "train": params.TrainSection,
    "evaluate": params.EvaluateSection, "runner": params.RunnerSection,
}  # fmt: skip


def _params(path: Path) -> None:
    document = params.read(path)
    for section, model in SECTIONS.items():
        if section in document:
            params.without_faults(model, document[section])
            params.load(section, model, path)
    params.load_models(path)
    params.load_judges(path)


def _of_importer(name: str) -> Callable[[Path], Any]:
    def read(path: Path) -> None:
        imported(name, path).write(path.parent / "out")

    return read


def _auto(path: Path) -> str:
    importers = {n: p for (k, n), (p, _) in manager.shared().plugins.items() if k == "importers"}
    return recognised([path], importers)  # type: ignore[arg-type]


def _answers(path: Path) -> Any:
    kind = recorded._read_parquet if path.suffix == ".parquet" else recorded._read_json
    return kind(path)


def _record(path: Path) -> Any:
    return spool.read(path.parent)


def _lock() -> bytes:
    entry = {"distribution": "karma-plugins", "version": "0", "digest": "00" * 16}
    return json.dumps({"judge": {"core": entry, "reference": entry}, "train": {"core": entry}}).encode()


def _reply(path: Path) -> Any:
    return read_reply(200, "application/json", path.read_bytes(), "m")


def _refusal(path: Path) -> Any:
    return read_reply(500, "text/html", path.read_bytes(), "m")


CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
CHAT = {"id": "1", "model": "m", "choices": [CHOICE], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
TEMPLATE = b"[system]\n{{case}}{{aspects}}\n[user]\n{{conversation}}{{answer}}{{reply}}\n"
DESCRIPTORS = (
    b"endpoint: http://127.0.0.1:9/v1\nmodel: x\napi_key_env: KEY\nrequest: {rename: {a: b}, add: {c: 1}}\n",
    b"hub: org/name\nrevision: " + b"ab" * 20 + b"\ndtype: bfloat16\nadapter: org/other\n",
)

TARGETS = [
    Target("prompts.jsonl", "p.jsonl", (lines(*PROMPTS),),
           lambda p: prompts.read(params.PromptsSection(path=str(p), heldout=0.1))),
    Target("prompts.json", "p.json", (json.dumps(PROMPTS).encode(),),
           lambda p: prompts.read(params.PromptsSection(path=str(p)))),
    Target("prompts.csv", "p.csv", (b'prompt,competency,split\n"What, is ""1""?",c,train\nx,d,test\n',),
           lambda p: prompts.read(params.PromptsSection(path=str(p)))),
    Target("prompts.parquet", "p.parquet", (parquet([PROMPTS[0] | {"reference": "1"}]),),
           lambda p: prompts.read(params.PromptsSection(path=str(p)))),
    Target("responses.jsonl", "responses.jsonl", (lines(*ANSWERS),), _answers),
    Target("responses.parquet", "responses.parquet",
           (parquet([{"prompt_id": "a", "text": "x", "sample": 0, "finish_reason": "stop"}]),), _answers),
    Target("seen items", "items.jsonl", (lines(*ITEMS),), filters.read_items),
    Target("seen items, text", "items.txt", (b"What is 1?\nand 2\n",), filters.read_items),
    Target("results_*.json", "results_2026-01-01T00-00-00.000000.json",
           (json.dumps(material.RESULTS).encode(),), lambda p: profiles.read([p])),
    Target("scores.csv", "scores.csv", (material.SCORES.encode(),), lambda p: profiles.read([p])),
    Target("choices.csv", "choices.csv", (material.CHOICES.encode(),), lambda p: profiles.read([p])),
    Target("scores.parquet", "scores.parquet", (parquet([SCORE], schemas.SCORES.columns),),
           lambda p: tables.read(p, schemas.SCORES)),
    Target("answers of many", "outputs.json",
           (json.dumps([{"instruction": "Q", "output": "A", "generator": "ada"}]).encode(),),
           lambda p: profiles.read([p])),
    Target("parents.csv", "parents.csv", (b"model,direct_parent\nbob,ada\nada,\n",), read_parents),
    Target("params.yaml", "params.yaml", (yaml.safe_dump(material.SETTINGS).encode(),), _params),
    Target("karma.lock.json", "karma.lock.json", (_lock(),), lock.read),
    Target("descriptor", "far.yaml", DESCRIPTORS, lambda p: models.load("far", p)),
    Target("judge's template", "t.md", (TEMPLATE,),
           lambda p: Form("rubric.md", needed=("case",)).read(str(p))),
    Target("record of a run", "record.json", (b'{"uid": "u", "name": "n", "stage": "s", "started": 1}',),
           _record),
    Target("a server's answer", "reply", (json.dumps(CHAT).encode(),), _reply),
    Target("a server's refusal", "reply", (b'{"error": {"message": "no", "code": 500}}', b"<html>no"),
           _refusal),
    Target("import auto", "x.jsonl", tuple(lines(*rows) for rows in SAMPLES.values()), _auto),
    *(
        Target(f"import {name}", "x.jsonl", (lines(*rows),), _of_importer(name))
        for name, rows in SAMPLES.items()
    ),
]  # fmt: skip
