"""Export for Argilla (2.x): settings.json and records.json, as `rg.Settings` and `rg.Record` read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from karma_plugins.contracts import Exporter, Tables, hookimpl
from karma_plugins.exporters import fresh
from karma_plugins.exporters.labelling import CHOICES, QUESTIONS, TaskOptions, as_text, tasks

GUIDELINES = (
    "Say which of two answers is better, or how good an answer is. Who gave the answers is not "
    "shown on purpose. "
    "Where neither is better, say so: a tie is an answer."
)


class ArgillaOptions(TaskOptions):
    """As for every tool, and how many people see each task."""

    annotators: int = Field(1, ge=1, description="people who must answer a task before it is complete")


def write(tables: Tables, out: Path, options: ArgillaOptions) -> str:
    """Write a folder with settings.json and records.json; what Argilla exports is read by `karma import`."""
    todo = tasks(tables, options)
    fresh(out).mkdir(parents=True, exist_ok=True)
    records = [
        {
            "id": task.key,
            "fields": {
                "prompt": as_text(task.messages),
                **{f"answer_{i}": text for i, text in enumerate(task.texts, start=1)},
            },
            "metadata": {},
            "suggestions": {},
            "responses": {},
            "vectors": {},
        }
        for task in todo
    ]
    for name, value in (("records.json", records), ("settings.json", settings(options))):
        text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
        (out / name).write_text(text, encoding="utf-8")
    return (
        f"{out}: {len(todo)} records. In Python: rg.Dataset(name=…, settings=rg.Settings.from_json('{out}/"
        f"settings.json')).create(), then dataset.records.from_json('{out}/records.json'); afterwards "
        "dataset.records.to_json(…) and `karma import argilla RECORDS.json --out FOLDER`."
    )


def settings(options: ArgillaOptions) -> dict[str, Any]:
    """Fields and one question, as Argilla keeps them."""
    names = {"prompt": "Prompt"} | (
        {"answer_1": "Answer 1", "answer_2": "Answer 2"}
        if options.unit == "pairs"
        else {"answer_1": "Answer"}
    )
    text = {"type": "text", "use_markdown": False}
    choices = [{"value": value, "text": label} for value, label in CHOICES.items()]
    question = (
        {"type": "label_selection", "options": choices, "visible_options": len(choices)}
        if options.unit == "pairs"
        else {"type": "rating", "options": [{"value": i} for i in range(1, options.highest + 1)]}
    )
    return {
        "guidelines": GUIDELINES,
        "fields": [{"name": n, "title": t, "required": True, "settings": text} for n, t in names.items()],
        "questions": [
            {
                "name": "preference" if options.unit == "pairs" else "rating",
                "title": QUESTIONS[options.unit],
                "required": True,
                "settings": question,
            }
        ],
        "vectors": [],
        "metadata": [],
        "allow_extra_metadata": False,
        "distribution": {"strategy": "overlap", "min_submitted": options.annotators},
    }


@hookimpl
def karma_register_exporters() -> Sequence[Exporter]:
    """Register exporter `argilla`."""
    summary = "Records for people who judge, blind, as Argilla takes them."
    return [Exporter(name="argilla", write=write, options=ArgillaOptions, summary=summary)]
