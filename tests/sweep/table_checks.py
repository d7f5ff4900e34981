"""What `karma check` must name before anything runs."""

from __future__ import annotations

from tests.sweep.cases import GONE, Case, cut, finds, folder, gone, holds, param, variable
from tests.sweep.table_params import BOMB

FAR = param("models.ada", {"path": "far.yaml", "generator": "endpoint", "sampling": {}})

CASES: list[Case] = [
    finds("zoo", param("zoo", {"size": "small"})), finds("promts", param("promts", {})),
    finds("nothing answers", FAR), finds("reference", param("judge.judges.reference", 5)),
    finds("99999", FAR, holds("far.yaml", "endpoint: http://127.0.0.1:99999/v1\nmodel: x\n")),
    finds("api_key_env", FAR, holds("far.yaml", "endpoint: http://u:geheim@h/v1\nmodel: x\n")),
    finds("NOT_SET", FAR, holds("far.yaml", "endpoint: http://127.0.0.1:9/v1\nmodel: x\napi_key_env: NOT_SET\n")),
    finds("model.safetensors", param("models.ada", {"path": "models/tiny", "generator": "transformers", "sampling": {}}),
          cut("models/tiny/model.safetensors")),
    finds("nowhere", param("models.ada.path", "nowhere")), finds("prompts.jsonl", gone("prompts.jsonl")),
    finds("prompts.jsonl", holds("prompts.jsonl", "[" * 200_000)), finds("prompts.jsonl", folder("prompts.jsonl")),
    finds("aliases", holds("params.yaml", BOMB)), finds("YAML", holds("params.yaml", "a: [")),
    finds("dvc.yaml", holds("dvc.yaml", "a: [")), finds("aliases", holds("dvc.yaml", BOMB)), finds("0 errors", gone("dvc.yaml")),
    finds("karma.lock.json", holds("karma.lock.json", "[")), finds("karma.lock.json", gone("karma.lock.json")),
    finds("unknown key 'x'", param("kinship.metrics", {"capability": {"x": 1}})), finds("refrence", param("jury.weights", {"refrence": 1})),
    finds("capabilty", param("kinship.metric", "capabilty")), finds("models", param("models", {})), finds("models", param("models", GONE)),
    finds("--help", param("models", {"--help": {"path": "models/ada", "generator": "recorded"}})),
    finds("can't carry", param("models", {"a" * 400: {"path": "models/ada", "generator": "recorded"}})),
    finds("0 errors"), finds("Quote", param("models", {1: {"path": "x"}})),
    finds("127.0.0.1:9", variable("MLFLOW_TRACKING_URI", "http://127.0.0.1:9"), variable("KARMA_TRACKING", "on")),
]  # fmt: skip
