r"""HelpSteer 2 and 3 (NVIDIA, arXiv 2406.08673, 2410.01257, 2505.11475).

helpsteer2   {prompt, response, helpfulness, correctness, coherence, complexity, verbosity}        0 to 4
             {prompt, response_1, response_2, preference_strength}                                -3 to 3
helpsteer3   {domain, language, context: messages, response1, response2, overall_preference}      -3 to 3

A preference below 0 is for the first response. Turns of a HelpSteer2 prompt open with `<extra_id_1>User` and
`<extra_id_1>Assistant`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from karma_plugins.contracts import Importer, Options, hookimpl
from karma_plugins.importers import preference_pairs
from karma_plugins.importers.conversations import Turns, asked, is_prompt, turns
from karma_plugins.importers.preference_pairs import COMPETENCY
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.importers.values import number, share, text
from karma_plugins.texts import records

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
JUDGE = "preference"
FIRST, SECOND = "response-1", "response-2"
#: Keys of two responses and of the preference between them.
COMPARED = (
    ("response_1", "response_2", "preference_strength"),
    ("response1", "response2", "overall_preference"),
)
STRONGEST = 3.0
MARK = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
RULES = (
    f"every prompt is of competency '{COMPETENCY}'; HelpSteer3's domain is kept under the key 'source'",
    f"each attribute ({', '.join(ATTRIBUTES)}) is a judge of that name; score = rating / 4; complexity and "
    "verbosity are no merits by themselves: weigh them as you like",
    f"a preference is a comparison by judge '{JUDGE}': the probability that the first response is better is "
    "(3 - preference) / 6, so that the strongest is 1 and 0 is a tie",
    "the two responses of a prompt are those of candidates 'response-1' and 'response-2', more are further "
    "samples; nobody says which models gave them",
    "a rating or preference that is missing or outside its scale is a failed verdict",
)


def read(sources: Sequence[Path], options: Options) -> RecordedFolder:
    """Responses with ratings or preferences of one or more files; see the module.

    Raises TableError for what can't be read; what can be handled is counted.
    """
    folder = RecordedFolder("helpsteer", RULES)
    for _, record in records.read(sources, counts=folder.counts):
        messages = _messages(record)
        columns = next((c for c in COMPARED if c[0] in record and c[1] in record), None)
        if messages is None:
            folder.counts["records_without_usable_prompt"] += 1
        elif columns is not None:
            _add_pair(folder, messages, record, columns)
        else:
            _add_rated(folder, messages, record)
    where = ", ".join(map(str, sources))
    return preference_pairs.finished(folder, where, "a prompt and responses as HelpSteer has them")


def _messages(record: Mapping[str, Any]) -> Turns | None:
    context = record.get("context")
    if context is not None:
        messages = turns(context)
    elif (prompt := text(record.get("prompt"))) is not None:
        first, *parts = MARK.split(prompt)
        messages = asked(None, first) + [
            {"role": name.lower(), "content": content}
            for name, content in zip(parts[::2], parts[1::2], strict=True)
        ]
    else:
        messages = None
    return messages if messages is not None and is_prompt(messages) else None


def _add_rated(folder: RecordedFolder, messages: Turns, record: Mapping[str, Any]) -> None:
    response = text(record.get("response"))
    if response is None:
        folder.counts["records_without_response"] += 1
        return
    # The two rows of a prompt follow each other; whichever comes first is the first response.
    repeated = folder.knows_prompt(messages) is not None
    prompt = folder.add_prompt(messages, COMPETENCY)
    answer = preference_pairs.add_answer(folder, prompt, response, None, SECOND if repeated else FIRST)
    for attribute in ATTRIBUTES:
        score = share(record.get(attribute), 0.0, 4.0)
        reason = None if score is not None else f"rated {str(record.get(attribute))[:40]!r}"
        folder.add_judgement(prompt, answer, attribute, score, "ok" if reason is None else "failed", reason)


def _add_pair(
    folder: RecordedFolder, messages: Turns, record: Mapping[str, Any], columns: tuple[str, str, str]
) -> None:
    responses = text(record.get(columns[0])), text(record.get(columns[1]))
    if responses[0] is None or responses[1] is None:
        folder.counts["records_without_response"] += 1
        return
    if responses[0].strip() == responses[1].strip():
        folder.counts["pairs_with_identical_answers"] += 1
        return
    prompt = folder.add_prompt(messages, COMPETENCY, source=text(record.get("domain")))
    first = preference_pairs.add_answer(folder, prompt, responses[0], None, FIRST)
    second = preference_pairs.add_answer(folder, prompt, responses[1], None, SECOND)
    strength = number(record.get(columns[2]))
    if strength is None or abs(strength) > STRONGEST:
        reason = f"preference {str(record.get(columns[2]))[:40]!r}"
        folder.add_comparison(prompt, first, second, JUDGE, None, "failed", reason)
    elif strength == 0:
        folder.add_comparison(prompt, first, second, JUDGE, 0.5, "tie")
    else:
        folder.add_comparison(prompt, first, second, JUDGE, (STRONGEST - strength) / (2 * STRONGEST), "ok")


def is_rated(record: Mapping[str, Any]) -> bool:
    """HelpSteer2: a response with its attributes, or two with a preference."""
    rated = "prompt" in record and "response" in record and any(name in record for name in ATTRIBUTES)
    return rated or all(column in record for column in COMPARED[0])


def is_third(record: Mapping[str, Any]) -> bool:
    """HelpSteer3's preferences."""
    return "context" in record and all(column in record for column in COMPARED[1])


@hookimpl
def karma_register_importers() -> Sequence[Importer]:
    """Register importers `helpsteer2` and `helpsteer3`."""
    return [
        Importer(
            name="helpsteer2", read=read, recognises=is_rated,
            summary="HelpSteer2: responses rated by attribute, or two with a preference.",
        ),
        Importer(
            name="helpsteer3", read=read, recognises=is_third,
            summary="HelpSteer3: two responses with a preference.",
        ),
    ]  # fmt: skip
