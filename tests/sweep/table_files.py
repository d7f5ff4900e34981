"""Odd files: tables of ours, prompts, answers, sources of importers and of `karma kinship`, descriptors."""

from __future__ import annotations

import gzip
from typing import Any

from tests.sweep.cases import (
    Case,
    Change,
    appended,
    changed,
    cut,
    folder,
    goes,
    gone,
    holds,
    link,
    param,
    pipe,
    rows,
    stops,
)
from tests.sweep.material import PAIRS, RESULTS

DEEP = "[" * 200_000
#: Contents that are no records at all, whatever a reader expects.
GARBAGE: list[tuple[Any, str]] = [
    ("", "empty"), (b"\x00" * 64, "zeros"), (b"\xff\xfe[\x00]\x00", "UTF-16"), (b'[{"prompt": "\xe9"}]', "no UTF-8"),
    (DEEP, "deep"), ('{"a":' * 100_000, "deep objects"), ("[1, 2", "cut list"), ('"text"', "a text"), ("5", "a number"),
    ("null", "null"), ("[]", "no records"), ("{}", "an empty record"), ("[[]]", "a list in a list"), ("[null]", "null in a list"),
    ("NaN", "NaN"), ('{"prompt": NaN}', "a NaN"), ("1" * 5000, "a long number"), ('{"a": ' + "9" * 5000 + "}", "long digits"),
    ("version https://git-lfs.github.com/spec/v1\n", "LFS pointer"), ("<html><body>404</body></html>", "HTML"),
    (gzip.compress(b"[" * 1000, mtime=0), "packed garbage"), (gzip.compress(b"x" * 1000, mtime=0)[:40], "cut gzip"),
    (b"PK\x03\x04" + b"\0" * 60, "zip"), (b"PAR1" + b"\0" * 60 + b"PAR1", "parquet without a footer"),
    ('{"prompt": "\\ud83d"}', "half a character"), ("\u202e{}", "a mark that turns"), ("\x1b[2J", "an escape sequence"),
]  # fmt: skip
#: Layouts whose sources are files of records.
LAYOUTS = (
    "trl", "skywork", "tulu3", "ultrafeedback", "ultrafeedback-binarized", "unpaired", "hh-rlhf", "nectar", "shp",
    "helpsteer2", "helpsteer3", "arena", "open-assistant", "alpaca-eval", "argilla", "label-studio", "auto",
)  # fmt: skip
RESULT = "results/ada/results_2026-01-01T00-00-00.000000.json"


def _garbage(command: str, path: str, says: str = "", *, but: tuple[str, ...] = ()) -> list[Case]:
    """A command that must stop at each kind of garbage in a file, and say which file it is."""
    return [
        stops(command, says or path.rpartition("/")[2], holds(path, content))
        for content, kind in GARBAGE
        if kind not in but
    ]


def _places(command: str, path: str, says: str = "") -> list[Case]:
    """A command that must stop where a file is gone, a folder, a pipe, or a link that leads nowhere or round."""
    odd: tuple[Change, ...] = (gone(path), folder(path), pipe(path), link(path, "nowhere"), link(path, path))
    return [stops(command, says or path.rpartition("/")[2], change) for change in odd]


def _tables() -> list[Case]:
    """Each table of ours, gone, cut, garbage, of other columns or types, with rows twice, or of other rows."""
    reading = [
        ("generate ada", "data/prompts.parquet", "prompt_id"), ("judge reference", "data/responses/ada.parquet", "text"),
        ("kinship", "data/profile/ada/scores.parquet", "score"), ("jury", "data/verdicts/reference/judgements.parquet", "score"),
        ("curriculum", "data/jury/rewards.parquet", "reward"), ("curriculum", "data/kinship.parquet", "kinship"),
        ("curriculum", "data/jury/judges.parquet", "judge"), ("karma export trl new", "data/pairs/data/train.parquet", "chosen"),
    ]  # fmt: skip
    found: list[Case] = []
    for command, path, column in reading:
        name = path.rpartition("/")[2]
        odd = (
            gone(path), cut(path), cut(path, 0.95), folder(path), pipe(path), link(path, "nowhere"), holds(path, b""),
            holds(path, b"PAR1" + b"\0" * 60 + b"PAR1"), holds(path, DEEP),
            changed(path, lambda frame, c=column: frame.drop(c), f"without {column}"),
            changed(path, lambda frame, c=column: frame.rename({c: f"{c}s"}), f"{column} misspelt"),
            changed(path, lambda frame: frame.with_columns(extra=1), "one column more"),
            changed(path, lambda frame: frame.vstack(frame), "each row twice"),
            changed(path, lambda frame, c=column: frame.with_columns(frame[c].is_null().alias(c)), f"{column} of another type"),
        )  # fmt: skip
        if "export" not in command and command.split()[0] in ("judge", "jury", "curriculum"):
            odd = tuple(
                one for one in odd if getattr(one, "odd", "").endswith("twice") is False
            )  # scanned, not read
        found += [stops(command, name, change) for change in odd]
    return found


def _prompts() -> list[Case]:
    odd = [
        ({"prompt": 5}, "prompt"), ({"prompt": None}, "prompt"), ({"prompt": ""}, "empty"), ({"prompt": ["a"]}, "prompt"),
        ({"messages": "x"}, "messages"), ({"messages": []}, "empty"), ({"messages": [{"role": "x", "content": "y"}]}, "role"),
        ({"messages": [5]}, "role"), ({"messages": [{"role": "user"}]}, "empty"),
        ({"messages": [{"role": "user", "content": 5}]}, "empty"), ({}, "prompt"),
        ({"prompt": "q", "split": "tset"}, "split"), ({"prompt": "q", "split": 5}, "split"),
    ]  # fmt: skip
    return [
        stops("prompts", says, rows("prompts.jsonl", {"competency": "knowledge", "prompt": "Why?"},
                                    {"competency": "knowledge"} | odd_row))
        for odd_row, says in odd
    ]  # fmt: skip


def _answers() -> list[Case]:
    question = "What is 1 + 1?"
    odd = [
        ({"text": 5}, "text"), ({"text": ["x"]}, "text"), ({"text": {}}, "text"), ({}, "text"), ({"text": "x", "prompt": 5}, "prompt"),
        ({"text": "x", "sample": -1}, "sample"), ({"text": "x", "sample": "a"}, "sample"), ({"text": "x", "sample": 1.5}, "sample"),
        ({"text": "x", "sample": 10**30}, "sample"), ({"text": "x", "prompt": "Nobody asked."}, "Nobody asked"),
        ({"text": "x", "finish_reason": 5}, "finish_reason"), ({"text": "x", "prompt_tokens": "many"}, "prompt_tokens"),
        ({"text": "x", "completion_tokens": -1}, "completion_tokens"),
        ({"text": "x", "prompt": None}, "prompt"),
    ]  # fmt: skip
    return [
        stops("generate ada", says, rows("models/ada/responses.jsonl", {"prompt": question} | row))
        for row, says in odd
    ]


def _results() -> list[Case]:
    def results(key: str, value: Any) -> Change:
        return holds(RESULT, RESULTS | {key: value})

    useless: list[Change] = [
        results("results", {"mmlu": 5}),
        results("results", {"mmlu": []}),
        results("results", {}),
        results("results", {"mmlu": {"acc,none": "x"}}),
        results("results", {"mmlu": {"acc,none": None}}),
        results("results", {"t": 5}),
        results("configs", []),
    ]
    broken: list[Change] = [
        results("results", []),
        results("results", 5),
        results("results", None),
        holds(RESULT, {"t": 5}),
    ]
    beside: list[Change] = [
         results("configs", {"mmlu": 5}), results("config", "text"), results("config", []),
        results("group_subtasks", []), results("group_subtasks", {"g": 5}), results("group_subtasks", {"g": [5]}),
        results("n-samples", {"mmlu": "x"}), results("n-samples", []), results("model_name", 5),
        results("model_name", []), results("higher_is_better", 5), results("versions", []), results("n-shot", []),
        results("date", []), results("task_hashes", 5),
    ]  # fmt: skip
    return [
        *(stops("karma kinship results", "only one model", change) for change in useless),
        *(stops("karma kinship results", RESULT.rpartition("/")[2], change) for change in broken),
        *(goes("karma kinship results", "capability", change) for change in beside),
    ]


def _choices() -> list[Case]:
    odd = [
        ("question_id\n", "choices.csv"), ("question_id,answer\nq,A\n", "choices.csv"), ("question_id,answer,ada\nq,A,A\n", "two"),
        ("question_id,answer,ada,ada\nq,A,A,A\n", "twice"), ("question_id,answer,ada,bob\n", "choices.csv"),
        ("question_id,answer,ada,bob\nq,A\n", "line 2"), ("question_id,answer,ada,bob\nq,A,A,A\nq,A,A,A\n", "twice"),
        ("question_id,answer,ada,bob\n\"q,A,A,A\n", "choices.csv"), ("question_id,answer,ada,bob\n,A,A,A\n", "question_id"),
        ("question_id,answer,ada,bob\nq,,A,A\n", "answer"), ("a,b,c\n1,2,3\n", "choices.csv"),
        ("question_id,answer,ada,bob\nq,A,,\n", ""), ("question_id;answer;ada,bob\nq;A;A,A\n", "choices.csv"),
    ]  # fmt: skip
    scores = [
        ("model,mmlu\nada,0.1\nada,0.2\n", "ada"), ("model\nada\n", "scores.csv"),
        ("model,mmlu\n,0.1\nbob,0.2\n", "model"), ("model,mmlu\nada,0.5\n", "one model"),
        ("model,mmlu,mmlu\nada,1,1\nbob,1,1\n", "twice"),
    ]  # fmt: skip
    return [
        *(stops("karma kinship choices.csv", says, holds("choices.csv", text)) for text, says in odd),
        *(stops("karma kinship scores.csv", says, holds("scores.csv", text)) for text, says in scores),
    ]


def _descriptors() -> list[Case]:
    odd = [
        ("", "far.yaml"), ("[]", "far.yaml"), ("5", "far.yaml"), ("{}", "far.yaml"), ("endpoint: 5\nmodel: x", "endpoint"),
        ("endpoint: x\nmodel: x", "endpoint"), ("endpoint: http://h/v1", "model"), ("endpoint: http://h:99999/v1\nmodel: x", "port"),
        ("endpoint: http://u:geheim@h/v1\nmodel: x", "api_key_env"), ("endpoint: 'http://h/v1?key=geheim'\nmodel: x", "api_key_env"),
        ("endpoint: ftp://h\nmodel: x", "endpoint"), ("endpoint: http://h/v1\nmodel: x\nkey: geheim", "key"),
        ("endpoint: http://h/v1\nmodel: x\nrequest: 5", "request"), ("endpoint: http://h/v1\nmodel: x\nrequest: {rename: [a]}", "rename"),
        ("endpoint: http://h/v1\nmodel: x\nhub: y", "hub"), ("hub: x\nfolder: y", "exactly one"), ("folder: nowhere", "nowhere"),
        ("folder: models/ada", "models/ada"), ("hub: 5", "hub"), ("hub: x\ndtype: nope", "dtype"), ("hub: x\ndate: never", "date"),
        ("endpoint: http://h/v1\nmodel: x\nendpoint: http://h/v1", "endpoint"), (DEEP, "nested"), (b"\xff", "UTF-8"),
        ("endpoint: [", "YAML"), ("endpoint: http://[::1\nmodel: x", "endpoint"), ("endpoint: http://h:0/v1\nmodel: x", "port"),
        ("endpoint: \"http://h\\n/v1\"\nmodel: x", "endpoint"), ("endpoint: http://h/v1#x\nmodel: x", "endpoint"),
    ]  # fmt: skip
    far = param("models.ada", {"path": "far.yaml", "generator": "endpoint"})
    return [
        *(stops("generate ada", says, far, holds("far.yaml", text)) for text, says in odd),
        stops("generate ada", "not set", far,
              holds("far.yaml", "endpoint: http://127.0.0.1:9/v1\nmodel: x\napi_key_env: NOT_SET_ANYWHERE\n")),
    ]  # fmt: skip


def _weights() -> list[Case]:
    tiny = param("models.ada", {"path": "models/tiny", "generator": "transformers"})
    odd: list[tuple[Change, str]] = [
        (gone("models/tiny/config.json"), "config.json"), (holds("models/tiny/config.json", ""), "config.json"),
        (holds("models/tiny/config.json", "[]"), "config.json"), (holds("models/tiny/config.json", DEEP), "config.json"),
        (holds("models/tiny/config.json", b"\xff"), "config.json"), (holds("models/tiny/config.json", {}), "models/tiny"),
        (holds("models/tiny/config.json", {"model_type": "nope"}), "models/tiny"), (holds("models/tiny/config.json", {"model_type": 5}), "models/tiny"),
        (changed("models/tiny/config.json", lambda c: c | {"hidden_size": 64}, "of another size"), "models/tiny"),
        (changed("models/tiny/config.json", lambda c: c | {"hidden_size": "x"}, "of a text as size"), "models/tiny"),
        (changed("models/tiny/config.json", lambda c: c | {"num_hidden_layers": -1}, "of -1 layers"), "models/tiny"),
        (holds("models/tiny/generation_config.json", "{"), "generation_config.json"), (holds("models/tiny/generation_config.json", "[]"), "generation_config.json"),
        (gone("models/tiny/model.safetensors"), "models/tiny"), (cut("models/tiny/model.safetensors"), "model.safetensors"),
        (holds("models/tiny/model.safetensors", b""), "model.safetensors"), (holds("models/tiny/model.safetensors", b"\xff" * 100), "model.safetensors"),
        (holds("models/tiny/model.safetensors", (8).to_bytes(8, "little") + b"[[[[[[[["), "model.safetensors"),
        (folder("models/tiny/model.safetensors"), "models/tiny"), (link("models/tiny/model.safetensors", "nowhere"), "model.safetensors"),
        (gone("models/tiny/tokenizer.json"), "models/tiny"), (holds("models/tiny/tokenizer.json", "{"), "models/tiny"),
        (holds("models/tiny/tokenizer.json", "{}"), "models/tiny"), (holds("models/tiny/tokenizer_config.json", "["), "models/tiny"),
        (holds("models/tiny/tokenizer_config.json", "[]"), "models/tiny"),
        (holds("models/tiny/chat_template.jinja", "{% for"), "template"), (holds("models/tiny/chat_template.jinja", "{{ 1 / 0 }}"), "template"),
        (holds("models/tiny/chat_template.jinja", "{{ raise_exception('no') }}"), "no"),
        (holds("models/tiny/adapter_config.json", "{}"), "adapter"),
    ]  # fmt: skip
    return [stops("generate ada", says, tiny, change) for change, says in odd]


CASES: list[Case] = [
    *_garbage("prompts", "prompts.jsonl"),
    *_places("prompts", "prompts.jsonl"),
    *_prompts(),
    *_garbage("generate ada", "models/ada/responses.jsonl", "ada"),
    *_places("generate ada", "models/ada/responses.jsonl", "ada"),
    *_answers(),
    *_tables(),
    *_results(),
    *_garbage("karma kinship results", RESULT),
    *_choices(),
    *_garbage("karma kinship choices.csv", "choices.csv"),
    *_places("karma kinship choices.csv", "choices.csv"),
    *_garbage("karma family choices.csv --parents parents.csv", "parents.csv", but=("a mark that turns",)),
    *_descriptors(),
    *_weights(),
    # --- importers: each layout against each kind of garbage, and against the records of another layout
    *(
        stops(f"karma import {layout} x.json --out new", "x.json", holds("x.json", content))
        for layout in LAYOUTS
        for content, kind in GARBAGE
        if kind in ("empty", "zeros", "no UTF-8", "deep", "cut list", "a number", "null in a list", "long digits", "packed garbage",
                    "an empty record")
    ),
    *(stops(f"karma import {layout} x.jsonl --out new", "x.jsonl", pipe("x.jsonl")) for layout in LAYOUTS),
    *(
        stops(f"karma import {layout} x.jsonl --out new", "x.jsonl", rows("x.jsonl", {"chosen": odd, "rejected": "b", "prompt": "a"}))
        for layout in ("trl", "skywork", "tulu3")
        for odd in (5, [], [5], [{"role": 5, "content": "x"}], [{"role": "assistant", "content": 5}], {"a": 1}, None)
    ),
    goes("karma import trl x.json --out new", "", holds("x.json", PAIRS)),
    goes("karma import trl x.jsonl.gz --out new", "", holds("x.jsonl.gz", gzip.compress(b'{"prompt":"a","chosen":"b","rejected":"c"}\n', mtime=0))),
    # --- prompts that evaluation items hold
    *(
        stops("prompts", "items", holds("items.jsonl", content), param("prompts.seen.items", "items.jsonl"))
        for content, kind in GARBAGE
        if kind in ("zeros", "UTF-16", "no UTF-8", "deep", "cut list", "long digits", "LFS pointer", "packed garbage")
    ),
    *_places("prompts", "items.txt", "items"),
    *(
        goes("karma kinship scores.csv", "unreadable", holds("scores.csv", text))
        for text in ("model,mmlu\nada,x\nbob,1\n", "model,mmlu\nada,nan\nbob,inf\n", "model,mmlu\nada,1e999\nbob,1\n")
    ),
    # --- what is odd and still right
    *(
        goes("prompts", "1 kept", rows("prompts.jsonl", {"prompt": "q", "competency": "c"} | odd))
        for odd in ({"competency": 5}, {"competency": ["x"]}, {"reference": {"a": 1}}, {"constraints": 5}, {"split": "TRAIN"})
    ),
    goes("prompts", "", appended("prompts.jsonl", "\n\n   \n")),
    goes("prompts", "6 kept", changed("metrics/curriculum.json", lambda value: value)),
    goes("karma kinship results", "capability"),
]  # fmt: skip
