"""What Argilla exports (to_json, to_list, to_datasets) of the records that `karma export argilla` wrote.

{id, fields, responses: {preference: [{value, user_id}]}}
{id, …, preference.responses: [value], preference.responses.users: [id], preference.responses.status:
[text]}
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

QUESTIONS = ("preference", "rating")
#: A response in any other state is not meant yet, or not any more.
SUBMITTED = "submitted"


def read(sources: Sequence[Path], options: AnnotationOptions) -> RecordedFolder:
    """Responses of one or more exports, as verdicts of the judge that options name.

    Raises TableError where none is to an exported record; what can be handled is counted.
    """
    folder = RecordedFolder("argilla", ())
    words: list[Word] = []
    for where, record in records.read(sources, counts=folder.counts):
        if not isinstance(record.get("id"), str) or not KEY.fullmatch(record["id"]):
            # Beside the records an export may hold its settings.
            folder.counts["tasks_of_another_source"] += "settings.json" not in where
            continue
        for user, value, status in _responses(record):
            known = PREFERENCES.get(value) if isinstance(value, str) else share(value, 1.0, options.highest)
            if status != SUBMITTED:
                folder.counts[f"responses_{status}"] += 1
            elif known is None:
                folder.counts["annotations_that_say_nothing"] += 1
            else:
                words.append(Word(record["id"], user, known))
    gathered(", ".join(map(str, sources)), words, options, folder)
    return folder


def _responses(record: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """User, value and status of each response to one of our questions."""
    for question in QUESTIONS:
        nested = mapping(record.get("responses")).get(question)
        for response in map(mapping, nested if isinstance(nested, list) else []):
            status = str(response.get("status") or SUBMITTED)
            yield str(response.get("user_id")), response.get("value"), status
        values, users, states = (
            record.get(f"{question}.responses{part}") for part in ("", ".users", ".status")
        )
        for i, value in enumerate(values if isinstance(values, list) else []):
            user = users[i] if isinstance(users, list) and i < len(users) else None
            status = states[i] if isinstance(states, list) and i < len(states) else SUBMITTED
            yield str(user), value, str(status or SUBMITTED)


def recognises(record: Mapping[str, Any]) -> bool:
    """A record with the id of an export of ours."""
    return isinstance(record.get("id"), str) and KEY.fullmatch(record["id"]) is not None


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register importer `argilla`."""
    summary = "What people said in Argilla of exported records."
    return [
        Importer(name="argilla", summary=summary, read=read, options=AnnotationOptions, recognises=recognises)
    ]
