"""What an importer gathers: prompts, answers and scores of each model, verdicts; `write` makes files.

prompts.jsonl                    messages, competency, split, and what else the source says of a prompt
models/<name>/responses.parquet  table `responses` of one model; its folder is the model's path in params
models/<name>/scores.parquet     table `scores` of one model; a cell without a number is a null
verdicts/comparisons.parquet     table `comparisons`
verdicts/judgements.parquet      table `judgements`
verdicts/judged_only.parquet     answers that verdicts speak of but that no candidate gave (baselines)
models.yaml                      the block to paste into params.yaml
report.json                      the rules that were followed, and counts of everything
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins.contracts import Messages, Status
from karma_plugins.errors import TableError
from karma_plugins.importers import folder_files
from karma_plugins.params import MODEL_NAME
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS, RESPONSES, SCORES
from karma_plugins.texts import json_text
from karma_plugins.texts.identity import prompt_id, response_id

#: Version of verdicts that came with the answers: no code of ours made them.
RECORDED = "recorded"
#: Recorded comparisons that do not say which answer the judge was shown first are written as a before b.
ORDER = "ab"
NO_ANSWER, EMPTY_ANSWER = "no answer is recorded", "the recorded answer is empty"
#: Answers of more characters are counted; no text is ever cut.
VERY_LONG = 16_384
NO_LETTERS = bytes(byte for byte in range(128) if not chr(byte).isalpha())
LETTER, LATIN_LETTER = re.compile(r"[^\W\d_]"), re.compile("[A-Za-z\u00aa-\u024f\u1e00-\u1eff]")
#: Characters of a model's name, which is a file's name too; a longer one is cut and gets a hash.
LONGEST_NAME = 100


@dataclass(slots=True)
class Answered:
    """One answer of a model to a prompt; null where it gave none.

    `own` is false for what verdicts alone know.
    """

    text: str | None
    own: bool


@dataclass
class RecordedFolder:
    """What an importer gathers, row by row, before it is written in one piece.

    `names` maps a candidate's name in params to its name in the source, `others` that of models whose answers
    only verdicts speak of; `counts` is what the report says, `notes` are sentences for whoever imports.
    """

    importer: str
    rules: Sequence[str]
    names: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    judges: dict[str, Counter[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _prompts: dict[str, dict[str, Any]] = field(default_factory=dict)
    _answers: dict[tuple[str, str], list[Answered]] = field(default_factory=dict)
    _texts: dict[tuple[str, str], str] = field(default_factory=dict)
    _judgements: dict[tuple[str, str, str], tuple[Any, ...]] = field(default_factory=dict)
    _comparisons: dict[tuple[str, str, str, str, str], tuple[Any, ...]] = field(default_factory=dict)
    _scores: list[tuple[Any, ...]] = field(default_factory=list)

    def add_model(self, original: str) -> str:
        """A candidate under a name that DVC carries; TableError where two models would get one name."""
        name = self._named(original)
        self.others.pop(name, None)
        self.names[name] = original
        return name

    def add_prompt(self, messages: Messages, competency: str, **more: str | None) -> str:
        """A prompt, once; gives its id. What else the source says of it becomes further keys of its line."""
        clean = [{"role": m["role"], "content": self._text(m["content"])} for m in messages]
        key = prompt_id(clean)
        extra = {k: _readable(v) for k, v in more.items() if v is not None}
        self._prompts.setdefault(
            key, {"messages": clean, "competency": competency, "split": "train", **extra}
        )
        return key

    def knows_prompt(self, messages: Messages) -> str | None:
        """The id of a prompt that was added, else null."""
        key = prompt_id([{"role": m["role"], "content": _readable(m["content"])} for m in messages])
        return key if key in self._prompts else None

    def add_answer(self, prompt: str, model: str, text: Any) -> str | None:
        """A candidate's answer; gives its id. What is no text, or only blanks, is an answer that failed.

        A second answer of one model to one prompt is counted, not kept, and gives null; see `add_sample`.
        """
        if any(answer.own for answer in self._answers.get((prompt, model), [])):
            self.counts["answers_repeated"] += 1
            return None
        return self._add_own(prompt, model, text)

    def add_sample(self, prompt: str, model: str, text: str) -> str:
        """A candidate's answer, maybe one of several to this prompt; gives its id.

        The same text counts once.
        """
        answers, clean = self._answers.get((prompt, model), []), _readable(text)
        for sample, answer in enumerate(answers):
            if answer.own and answer.text == clean:
                return response_id(prompt, model, sample, clean)
        return self._add_own(prompt, model, text)

    def answer_with(self, prompt: str, text: str) -> str | None:
        """The id of the first candidate's answer to a prompt that has this very text; null where none has."""
        return self._texts.get((prompt, _readable(text)))

    def gave(self, prompt: str, model: str, text: str) -> bool:
        """Whether a text is the model's own answer to a prompt."""
        clean = _readable(text)
        return any(answer.own and answer.text == clean for answer in self._answers.get((prompt, model), []))

    def add_judged_answer(self, prompt: str, original: str, text: str) -> str:
        """An answer that a verdict speaks of; gives the id of the model's own answer if that is its text.

        `original` is the model's name in the source; it need not be a candidate.
        """
        model = self._named(original)
        if model not in self.names:
            self.others[model] = original
        answers = self._answers.setdefault((prompt, model), [])
        if not answers:
            answers.append(Answered(None, own=False))  # sample 0 is a candidate's own answer, or none
        clean = self._text(text)
        sample = next((i for i, answer in enumerate(answers) if answer.text == clean), len(answers))
        if sample == len(answers):
            answers.append(Answered(clean, own=False))
        return response_id(prompt, model, sample, clean)

    def add_comparison(
        self, prompt: str, a: str, b: str, judge: str, p_a: float | None, status: Status,
        reason: str | None = None, order: str = ORDER,
    ) -> None:  # fmt: skip
        """A judge's word on two answers, once; `order` says which of them it was shown first, where known."""
        key = (prompt, a, b, judge, order)
        if key in self._comparisons:
            self._tally(judge, "repeated")
            return
        self._tally(judge, status)
        self._comparisons[key] = (prompt, a, b, judge, RECORDED, p_a, order, status, reason)

    def add_judgement(
        self, prompt: str, answer: str, judge: str, score: float | None, status: Status = "ok",
        reason: str | None = None,
    ) -> None:  # fmt: skip
        """A judge's score in [0,1] of one answer, once."""
        key = (prompt, answer, judge)
        if key in self._judgements:
            self._tally(judge, "repeated")
            return
        self._tally(judge, status)
        self._judgements[key] = (*key, RECORDED, score, status, reason)

    def add_score(
        self, model: str, competency: str, task: str, metric: str, score: float | None,
        stderr: float | None = None, n: int | None = None,
    ) -> None:  # fmt: skip
        """A benchmark score in [0,1] of a candidate, or null where the source has none."""
        self.counts["scores" if score is not None else "scores_missing"] += 1
        self._scores.append((model, competency, task, metric, score, stderr, n))

    @property
    def prompts(self) -> Sequence[dict[str, Any]]:
        """The lines of prompts.jsonl."""
        return list(self._prompts.values())

    def responses(self) -> pl.DataFrame:
        """Table `responses` of the candidates."""
        return self._responses(True)

    def judged_only(self) -> pl.DataFrame:
        """Table `responses` of what verdicts speak of and no candidate gave."""
        return self._responses(False)

    def comparisons(self) -> pl.DataFrame:
        """Table `comparisons`."""
        return pl.DataFrame(list(self._comparisons.values()), schema=COMPARISONS.columns, orient="row")

    def judgements(self) -> pl.DataFrame:
        """Table `judgements`."""
        return pl.DataFrame(list(self._judgements.values()), schema=JUDGEMENTS.columns, orient="row")

    def scores(self) -> pl.DataFrame:
        """Table `scores` of all candidates."""
        return pl.DataFrame(self._scores, schema=SCORES.columns, orient="row")

    def report(self) -> dict[str, Any]:
        """What was done: the rules, the names, and counts of everything, by model and by judge."""
        answers = self.responses()
        given = dict(answers.filter(pl.col("text").is_not_null()).group_by("model").len().iter_rows())
        prompts_of = dict(answers.group_by("model").len().iter_rows())
        models = {
            name: {
                "name": original,
                "answers": given.get(name, 0),
                "answers_failed": prompts_of.get(name, 0) - given.get(name, 0),
            }
            for name, original in self.names.items()
        }
        counts = {"prompts": len(self._prompts), "models": len(self.names), **self.counts}
        return {
            "importer": self.importer,
            "rules": list(self.rules),
            "notes": list(self.notes),
            "counts": counts,
            "judges": {judge: dict(counter) for judge, counter in self.judges.items()},
            "models": models,
            "judged_only": self.others,
        }

    def write(self, out: Path) -> None:
        """Write the folder, whole or not at all; an earlier import there is replaced, nothing else is.

        Raises TableError where nothing was gathered, or where `out` holds something else.
        """
        verdicts_alone = not self.names and (self._comparisons or self._judgements)
        if not verdicts_alone and (not self._prompts or not self.names):
            raise TableError(
                f"{self.importer}: the source holds no prompt with an answer, so nothing is written."
            )
        folder_files.write(self.contents(), out)

    def contents(self) -> folder_files.Contents:
        """All that the files hold."""
        return folder_files.Contents(
            prompts=self.prompts,
            names=self.names,
            responses=self.responses(),
            judged_only=self.judged_only(),
            scores=self.scores(),
            comparisons=self.comparisons(),
            judgements=self.judgements(),
            report=self.report(),
        )

    def _named(self, original: str) -> str:
        name = carried(original)
        known = self.names.get(name, self.others.get(name, original))
        if known != original:
            raise TableError(
                f"models {shown(known)} and {shown(original)} would both be named '{name}'. "
                "Rename one in the source."
            )
        return name

    def _add_own(self, prompt: str, model: str, text: Any) -> str:
        if not isinstance(text, str):
            self.counts["answers_missing"] += 1
            clean = None
        else:
            clean = self._text(text)
            self.counts["answers" if clean else "answers_empty"] += 1
            self.counts["answers_very_long"] += len(clean) > VERY_LONG
            self.counts["answers_in_other_scripts"] += _in_other_script(clean)
        answers = self._answers.setdefault((prompt, model), [])
        if answers and answers[0] == Answered(None, own=False):
            sample, answers[0] = 0, Answered(clean, own=True)
        else:
            sample = len(answers)
            answers.append(Answered(clean, own=True))
        key = response_id(prompt, model, sample, clean)
        if clean:
            self._texts.setdefault((prompt, clean), key)
        return key

    def _responses(self, of_candidates: bool) -> pl.DataFrame:
        rows = []
        for (prompt, model), answers in self._answers.items():
            for sample, answer in enumerate(answers):
                placeholder = not answer.own and answer.text is None
                if answer.own != of_candidates or placeholder:
                    continue
                text = answer.text
                error = NO_ANSWER if text is None else None if text else EMPTY_ANSWER
                key = response_id(prompt, model, sample, text)
                rows.append((key, prompt, model, sample, text or None, None, None, None, None, error))
        return pl.DataFrame(rows, schema=RESPONSES.columns, orient="row")

    def _tally(self, judge: str, what: str) -> None:
        self.judges.setdefault(judge, Counter())[what] += 1

    def _text(self, text: str) -> str:
        self.counts[json_text.BROKEN] += not json_text.whole(text)
        return _readable(text)


def _readable(text: str) -> str:
    """The text with what no UTF-8 file can hold replaced; blanks alone are no text."""
    return json_text.mended(text) if text.strip() else ""


def _in_other_script(text: str) -> bool:
    """Whether most letters are not Latin."""
    plain = text.encode("ascii", "ignore")
    if len(plain.translate(None, NO_LETTERS)) >= len(text) - len(plain):
        return False
    return 2 * len(LATIN_LETTER.findall(text)) < len(LETTER.findall(text))


def carried(original: str) -> str:
    """A name that DVC, the command line and the file system carry.

    Whatever they can't hold becomes '-', a '-' in front '_'; a name of more than 100 characters is cut.
    """
    name = re.sub(r"[^A-Za-z0-9_-]", "-", original)
    if name.startswith("-"):
        name = f"_{name[1:]}"
    if len(name) > LONGEST_NAME:
        digest = hashlib.blake2b(original.encode(errors="replace"), digest_size=4).hexdigest()
        name = f"{name[:LONGEST_NAME]}-{digest}"
    if not MODEL_NAME.fullmatch(name):
        raise TableError(f"a model of the source has no name (found {original!r}).")
    return name


def shown(original: str) -> str:
    """A name of the source in quotes, as one line whatever it holds."""
    return folder_files.one_line(f"'{original}'")
