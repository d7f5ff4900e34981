"""The whole files of the sweep's folder, which cases then break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from karma_plugins import schemas, tables

QUESTIONS = [f"What is {i} + {i}?" for i in range(6)]
SETTINGS: dict[str, Any] = {
    "prompts": {"path": "prompts.jsonl", "seen": {"items": "items.txt"}},
    "models": {
        name: {"path": f"models/{name}", "generator": "recorded", "sampling": {}} for name in ("ada", "bob")
    },
    "profile": {"profiler": "recorded", "profilers": {"recorded": {}}, "tasks": {"knowledge": ["mmlu"]}},
    "kinship": {"metric": "capability", "metrics": {"capability": {"bootstrap": 0}}, "seed": 0},
    "generate": {"samples": 1, "seed": 0},
    "judge": {"judges": {"reference": {"plugin": "reference", "reads": "data/prompts.parquet"}}},
    "jury": {"weights": {"reference": 1.0}},
    "curriculum": {"pairing": "kin", "pairings": {"kin": {"radius": 1.0}}},
    "train": {"base": "models/tiny", "objective": "dpo", "objectives": {"dpo": {}}, "max_steps": 1},
    "evaluate": {"judges": {"reference": {"plugin": "reference"}}},
}
CHOICES = "question_id,answer,ada,bob\n" + "".join(
    f"q{i},A,{'AB'[i % 2]},{'ABC'[i % 3]}\n" for i in range(12)
)
SCORES = "model,mmlu,gsm\nada,0.5,0.25\nbob,0.75,0.5\neve,0.1,0.9\n"
PAIRS = [{"prompt": f"Say {i}", "chosen": f"Surely, {i}.", "rejected": "No."} for i in range(4)]
RESULTS = {
    "results": {"mmlu": {"acc,none": 0.5, "acc_stderr,none": 0.01, "alias": "mmlu"}},
    "configs": {"mmlu": {"task": "mmlu", "num_fewshot": 0}},
    "n-samples": {"mmlu": {"original": 10, "effective": 10}},
    "versions": {"mmlu": 1}, "n-shot": {"mmlu": 0},
    "config": {"model": "hf", "model_args": "pretrained=org/ada"},
    "model_name": "org/ada", "model_source": "hf",
}  # fmt: skip


def write() -> None:
    """Write them into the working directory."""
    asked = [
        {"prompt": q, "competency": "knowledge", "reference": str(2 * i), "split": "train"}
        for i, q in enumerate(QUESTIONS)
    ]
    _lines("prompts.jsonl", asked)
    Path("items.txt").write_text("nothing that anyone asked\n")
    for name, answer, score in (("ada", lambda i: str(2 * i), 0.9), ("bob", lambda i: "none", 0.8)):
        _lines(
            f"models/{name}/responses.jsonl",
            [{"prompt": q, "text": answer(i)} for i, q in enumerate(QUESTIONS)],
        )
        row = {"model": name, "competency": "knowledge", "task": "mmlu", "metric": "acc", "score": score}
        frame = pl.DataFrame([row | {"stderr": None, "n": 9}], schema=schemas.SCORES.columns)
        tables.write(frame, f"models/{name}/scores.parquet", schemas.SCORES)
    Path("params.yaml").write_text(yaml.safe_dump(SETTINGS, sort_keys=False))
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"prompts": {"cmd": "python -m stages.prompts"}}}))
    Path("choices.csv").write_text(CHOICES)
    Path("scores.csv").write_text(SCORES)
    Path("parents.csv").write_text("model,direct_parent\nbob,ada\nada,\n")
    _lines("pairs.jsonl", PAIRS)
    Path("results").mkdir()
    for name in ("ada", "bob"):
        text = json.dumps(RESULTS).replace("org/ada", f"org/{name}")
        (Path("results") / name).mkdir()
        (Path("results") / name / "results_2026-01-01T00-00-00.000000.json").write_text(text)
    Path("far.yaml").write_text("endpoint: http://127.0.0.1:9/v1\nmodel: x\n")


def _lines(path: str, records: list[dict[str, Any]]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join(map(json.dumps, records)) + "\n")
