"""Export for Label Studio: tasks.json to import, and config.xml, the labelling interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from karma_plugins.contracts import Exporter, Tables, hookimpl
from karma_plugins.exporters import fresh
from karma_plugins.exporters.labelling import CHOICES, QUESTIONS, TaskOptions, tasks

HEAD = """<View>
  <Header value="{question}"/>
  <Paragraphs name="prompt" value="$messages" layout="dialogue" nameKey="role" textKey="content"/>
"""
ANSWER = """  <Header value="{title}"/>
  <Text name="{name}" value="${name}"/>
"""
PREFERENCE = """  <Choices name="preference" toName="answer_1" choice="single" showInLine="true"
required="true">
{choices}
  </Choices>
</View>
"""
RATING = """  <Rating name="rating" toName="answer_1" maxRating="{highest}" required="true"/>
</View>
"""


def write(tables: Tables, out: Path, options: TaskOptions) -> str:
    """Write a folder with tasks.json and config.xml; what Label Studio exports is read by `karma import`."""
    todo = tasks(tables, options)
    fresh(out).mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "data": {
                "task_key": task.key,
                "messages": [dict(message) for message in task.messages],
                **{f"answer_{i}": text for i, text in enumerate(task.texts, start=1)},
            }
        }
        for task in todo
    ]
    (out / "tasks.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (out / "config.xml").write_text(interface(options), encoding="utf-8")
    return (
        f"{out}: {len(todo)} tasks. Import tasks.json into a project whose labelling interface "
        f"is config.xml; "
        f"then `karma import label-studio EXPORT.json --out FOLDER`."
    )


def interface(options: TaskOptions) -> str:
    """The labelling interface for pairs or single answers."""
    text = HEAD.format(question=QUESTIONS[options.unit])
    names = ("answer_1", "answer_2") if options.unit == "pairs" else ("answer_1",)
    for name in names:
        title = CHOICES[name] if options.unit == "pairs" else "Answer"
        text += ANSWER.format(title=title, name=name)
    if options.unit == "answers":
        return text + RATING.format(highest=options.highest)
    return text + PREFERENCE.format(
        choices="\n".join(f'    <Choice value="{label}"/>' for label in CHOICES.values())
    )


@hookimpl
def karma_register_exporters() -> Sequence[Exporter]:
    """Register exporter `label-studio`."""
    summary = "Tasks for people who judge, blind, as Label Studio takes them."
    return [Exporter(name="label-studio", write=write, options=TaskOptions, summary=summary)]
