"""Writes the zoo's benchmark items as lm-eval tasks, and its prompts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from karma_plugins.zoo.settings import Form
from karma_plugins.zoo.world import COMPETENCIES, Item, World

_CHOICE = """\
task: zoo_{name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {name}.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: options
doc_to_target: answer
target_delimiter: ""
num_fewshot: 0
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1
"""

# What a form adds is taken off before an answer is matched.
_CONTENT = """\
filter_list:
  - name: content
    filter:
      - function: regex
        regex_pattern: {pattern}
      - function: take_first
"""

_TEXT = """\
task: zoo_{name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {name}.jsonl
test_split: test
output_type: generate_until
doc_to_text: question
doc_to_target: answer
target_delimiter: ""
num_fewshot: 0
generation_kwargs:
  until: ["\\n"]
  do_sample: false
  max_gen_toks: 24
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1
"""


def content_pattern(forms: Sequence[Form]) -> str:
    """A regular expression whose only group is what an answer says: without what any of the forms adds.

    Beginnings and ends are taken off whether they belong together or not, so that a mixture of two forms
    costs no answer its content.
    """
    ends = [
        "|".join(re.escape(text).replace("\\ ", " ") for text in dict.fromkeys(texts) if text)
        for texts in ([form.before for form in forms], [form.after for form in forms])
    ]
    before, after = (f"(?:{end})?" if end else "" for end in ends)
    return f"^{before}(.*?){after}$"


def write_tasks(folder: Path, world: World, forms: Sequence[Form] = ()) -> None:
    """`zoo_<competency>.yaml` with its items `<competency>.jsonl` for each competency.

    Knowledge and reasoning are multiple choice, instruction is generated text matched exactly. Both look at
    content: options are offered in each of the `forms` too (`wording_of` says which option each is), and
    generated text is matched without what a form adds. The path in `data_files` is relative to the YAML's own
    folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for competency in COMPETENCIES:
        items = world.splits["benchmark"][competency]
        choice = all(item.options for item in items)
        task = (_CHOICE if choice else _TEXT).format(name=competency)
        if forms and not choice:
            task += _CONTENT.format(pattern=json.dumps(content_pattern(forms)))
        (folder / f"zoo_{competency}.yaml").write_text(task, encoding="utf-8")
        _write_lines(folder / f"{competency}.jsonl", (_document(item, forms) for item in items))


def write_prompts(path: Path, world: World) -> None:
    """One JSON object a line: messages, competency, reference (the only right answer), split."""
    _write_lines(
        path,
        (
            {
                "messages": [{"role": "user", "content": item.question}],
                "competency": competency,
                "reference": item.answer,
                "split": split,
            }
            for split in ("train", "heldout")
            for competency in COMPETENCIES
            for item in world.splits[split][competency]
        ),
    )


def _document(item: Item, forms: Sequence[Form]) -> dict[str, object]:
    """An item as lm-eval reads it; each option in every form, so that no form is a wrong answer."""
    document: dict[str, object] = {"question": item.question, "answer": item.answer}
    if not item.options:
        return document
    if not forms:
        return document | {"options": list(item.options)}
    dressed = [(i, form.dress(text)) for form in (Form(), *forms) for i, text in enumerate(item.options)]
    right = item.options.index(item.answer)
    return {
        "question": item.question,
        "options": [text for _, text in dressed],
        "answer": [place for place, (i, _) in enumerate(dressed) if i == right],
        "wording_of": [i for i, _ in dressed],
    }


def _write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
