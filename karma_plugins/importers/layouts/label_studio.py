"""What Label Studio exports of the tasks that `karma export label-studio` wrote: JSON, JSON-MIN or CSV.

{data: {task_key, …}, annotations: [{completed_by, was_cancelled, result: [{type, value}]}]}
{task_key, preference or rating, annotator, …}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from karma_plugins.contracts import Importer, hookimpl
from karma_plugins.importers.annotations import KEY, PREFERENCES, AnnotationOptions, Word, gathered
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.importers.values import mapping, share
from karma_plugins.texts import records


def read(sources: Sequence[Path], options: AnnotationOptions) -> RecordedFolder:
    """Annotations of one or more exports, as verdicts of the judge that options name.

    Raises TableError where none is of an exported task; what can be handled is counted.
    """
    folder = RecordedFolder("label-studio", ())
    words: list[Word] = []
    for _, record in records.read(sources, counts=folder.counts):
        key = mapping(record.get("data")).get("task_key") or record.get("task_key")
        if not isinstance(key, str) or not KEY.fullmatch(key):
            folder.counts["tasks_of_another_source"] += 1
            continue
        for annotator, value in _said(record, folder):
            known = _value(value, options)
            if known is None:
                folder.counts["annotations_that_say_nothing"] += 1
            else:
                words.append(Word(key, annotator, known))
    gathered(", ".join(map(str, sources)), words, options, folder)
    return folder


def _said(record: Mapping[str, Any], folder: RecordedFolder) -> Iterator[tuple[str, Any]]:
    """Who said what: a choice's name, a side or a number."""
    annotations = record.get("annotations", record.get("completions"))
    if not isinstance(annotations, list):
        value = record.get("preference") if record.get("preference") is not None else record.get("rating")
        yield _person(record.get("annotator")), value
        return
    for annotation in map(mapping, annotations):
        if annotation.get("was_cancelled"):
            folder.counts["annotations_skipped"] += 1
            continue
        results = annotation.get("result")
        values = [mapping(mapping(r).get("value")) for r in results] if isinstance(results, list) else []
        yield _person(annotation.get("completed_by")), next(iter(filter(None, map(_of_result, values))), None)


def _of_result(value: Mapping[str, Any]) -> Any:
    choices = value.get("choices")
    if isinstance(choices, list) and len(choices) == 1:
        return choices[0]
    return value.get("selected") or value.get("rating")


def _person(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("id", value.get("email"))
    return str(value)


def _value(value: Any, options: AnnotationOptions) -> float | None:
    """The probability or share that is meant; null for what is neither."""
    if isinstance(value, Mapping):
        value = _of_result(value)
    if isinstance(value, list) and len(value) == 1:
        return _value(value[0], options)
    if isinstance(value, str) and value in PREFERENCES:
        return PREFERENCES[value]
    if value in ("left", "right"):
        return float(value == "left")
    return share(value, 1.0, float(options.highest))


def recognises(record: Mapping[str, Any]) -> bool:
    """A task with the key of an export of ours."""
    return "task_key" in record or "task_key" in mapping(record.get("data"))


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register importer `label-studio`."""
    summary = "What people said in Label Studio of exported tasks."
    return [
        Importer(
            name="label-studio", summary=summary, read=read, options=AnnotationOptions, recognises=recognises
        )
    ]
