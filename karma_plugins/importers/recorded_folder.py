"""The folder that every importer writes: prompts, answers and scores of each model, and verdicts.

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

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from karma_plugins import tables
from karma_plugins.contracts import Messages, Status
from karma_plugins.errors import TableError
from karma_plugins.generation import response_id
from karma_plugins.params import MODEL_NAME
from karma_plugins.prompts import prompt_id
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS, RESPONSES, SCORES

#: Version of verdicts that came with the answers: no code of ours made them.
RECORDED = "recorded"
#: Recorded comparisons do not say which answer the judge was shown first; every one is written as a before b.
ORDER = "ab"
REPORT = "report.json"
VERDICTS = "verdicts"
NO_ANSWER, EMPTY_ANSWER = "no answer is recorded", "the recorded answer is empty"
#: Answers of more characters are counted; no text is ever cut.
VERY_LONG = 16_384
NO_LETTERS = bytes(byte for byte in range(128) if not chr(byte).isalpha())
LETTER, LATIN_LETTER = re.compile(r"[^\W\d_]"), re.compile("[A-Za-z\u00aa-\u024f\u1e00-\u1eff]")
LONE_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass
class RecordedFolder:
    """What an importer gathers, row by row, before it is written in one piece.

    `names` maps a model's name in params to its name in the source; `counts` is what the report says.
    """

    importer: str
    rules: Sequence[str]
    names: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    judges: dict[str, Counter[str]] = field(default_factory=dict)
    _prompts: dict[str, dict[str, Any]] = field(default_factory=dict)
    _answers: dict[tuple[str, str], list[str | None]] = field(default_factory=dict)
    _judgements: dict[tuple[str, str, str], tuple[Any, ...]] = field(default_factory=dict)
    _comparisons: dict[tuple[str, str, str, str], tuple[Any, ...]] = field(default_factory=dict)
    _scores: list[tuple[Any, ...]] = field(default_factory=list)

    def add_model(self, original: str) -> str:
        """A candidate under a name that DVC carries; TableError where two models would get one name."""
        name = carried(original)
        known = self.names.setdefault(name, original)
        if known != original:
            raise TableError(
                f"models '{known}' and '{original}' would both be named '{name}'. Rename one in the source."
            )
        return name

    def add_prompt(self, messages: Messages, competency: str, **more: str | None) -> str:
        """A prompt, once; gives its id. What else the source says of it becomes further keys of its line."""
        clean = [{"role": m["role"], "content": self._text(m["content"])} for m in messages]
        key = prompt_id(clean)
        said = {k: _readable(v) for k, v in more.items() if v is not None}
        self._prompts.setdefault(key, {"messages": clean, "competency": competency, "split": "train", **said})
        return key

    def knows_prompt(self, messages: Messages) -> str | None:
        """The id of a prompt that was added, else null."""
        key = prompt_id([{"role": m["role"], "content": _readable(m["content"])} for m in messages])
        return key if key in self._prompts else None

    def add_answer(self, prompt: str, model: str, text: Any) -> str | None:
        """A candidate's answer; gives its id. What is no text, or only blanks, is an answer that failed.

        A second answer of one model to one prompt is counted, not kept, and gives null.
        """
        if (prompt, model) in self._answers:
            self.counts["answers_repeated"] += 1
            return None
        if not isinstance(text, str):
            self.counts["answers_missing"] += 1
            clean = None
        else:
            clean = self._text(text)
            self.counts["answers" if clean else "answers_empty"] += 1
            self.counts["answers_very_long"] += len(clean) > VERY_LONG
            self.counts["answers_in_other_scripts"] += _in_other_script(clean)
        self._answers[prompt, model] = [clean]
        return response_id(prompt, model, 0, clean)

    def gave(self, prompt: str, model: str, text: str) -> bool:
        """Whether a text is the model's own answer to a prompt."""
        own = self._answers.get((prompt, model), [None])[0]
        return own is not None and own == _readable(text)

    def add_judged_answer(self, prompt: str, model: str, text: str) -> str:
        """An answer that a verdict speaks of; gives the id of the model's own answer if that is its text."""
        texts = self._answers.setdefault((prompt, model), [])
        if not texts:
            texts.append(None)  # sample 0 is a candidate's own answer, or none
        clean = self._text(text)
        if clean not in texts:
            texts.append(clean)
        return response_id(prompt, model, texts.index(clean), clean)

    def add_comparison(
        self,
        prompt: str,
        a: str,
        b: str,
        judge: str,
        p_a: float | None,
        status: Status,
        reason: str | None = None,
    ) -> None:
        """A judge's word on two answers, once."""
        key = (prompt, a, b, judge)
        if key in self._comparisons:
            self._tally(judge, "repeated")
            return
        self._tally(judge, status)
        self._comparisons[key] = (*key, RECORDED, p_a, ORDER, status, reason)

    def add_judgement(
        self,
        prompt: str,
        answer: str,
        judge: str,
        score: float | None,
        status: Status = "ok",
        reason: str | None = None,
    ) -> None:
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

    def responses(self) -> pl.DataFrame:
        """Table `responses` of the candidates."""
        return self._responses(True)

    def judged_only(self) -> pl.DataFrame:
        """Table `responses` of what verdicts speak of and no candidate gave."""
        return self._responses(False)

    def comparisons(self) -> pl.DataFrame:
        """Table `comparisons`; the order in which the judge was shown the answers is not recorded."""
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
        asked = dict(answers.group_by("model").len().iter_rows())
        models = {
            name: {
                "name": original,
                "answers": given.get(name, 0),
                "answers_failed": asked.get(name, 0) - given.get(name, 0),
            }
            for name, original in self.names.items()
        }
        counts = {"prompts": len(self._prompts), "models": len(self.names), **self.counts}
        return {
            "importer": self.importer,
            "rules": list(self.rules),
            "counts": counts,
            "judges": {judge: dict(counter) for judge, counter in self.judges.items()},
            "models": models,
        }

    def write(self, out: Path) -> None:
        """Write the folder, whole or not at all; an earlier import there is replaced, nothing else is."""
        if not self._prompts or not self.names:
            raise TableError(
                f"{self.importer}: the source holds no prompt with an answer, so nothing is written."
            )
        if out.exists() and not (out / REPORT).is_file() and (not out.is_dir() or any(out.iterdir())):
            raise TableError(f"{out}: is there and holds no earlier import. Name another folder with --out.")
        partial = out.with_name(f".{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self._write_parts(partial, out)
        earlier = out.with_name(f".{out.name}.earlier")
        shutil.rmtree(earlier, ignore_errors=True)
        if out.exists():
            out.replace(earlier)
        partial.replace(out)
        shutil.rmtree(earlier, ignore_errors=True)

    def _write_parts(self, folder: Path, out: Path) -> None:
        with (folder / "prompts.jsonl").open("w", encoding="utf-8") as stream:
            for prompt in self._prompts.values():
                stream.write(json.dumps(prompt, ensure_ascii=False) + "\n")
        answers = self.responses().partition_by("model", as_dict=True)
        scores = self.scores().partition_by("model", as_dict=True)
        for name in self.names:
            home = folder / "models" / name
            tables.write(answers.get((name,), RESPONSES.empty()), home / "responses.parquet", RESPONSES)
            tables.write(scores.get((name,), SCORES.empty()), home / "scores.parquet", SCORES)
        tables.write(self.comparisons(), folder / VERDICTS / "comparisons.parquet", COMPARISONS)
        tables.write(self.judgements(), folder / VERDICTS / "judgements.parquet", JUDGEMENTS)
        tables.write(self.judged_only(), folder / VERDICTS / "judged_only.parquet", RESPONSES)
        (folder / "models.yaml").write_text(_models_block(self.names, out), encoding="utf-8")
        report = json.dumps(self.report(), ensure_ascii=False, indent=2, sort_keys=True)
        (folder / REPORT).write_text(report + "\n", encoding="utf-8")

    def _responses(self, of_candidates: bool) -> pl.DataFrame:
        rows = []
        for (prompt, model), texts in self._answers.items():
            for sample, text in enumerate(texts):
                own = sample == 0
                if own != of_candidates or (own and model not in self.names):
                    continue
                error = NO_ANSWER if text is None else None if text else EMPTY_ANSWER
                key = response_id(prompt, model, sample, text)
                rows.append((key, prompt, model, sample, text or None, None, None, None, None, error))
        return pl.DataFrame(rows, schema=RESPONSES.columns, orient="row")

    def _tally(self, judge: str, what: str) -> None:
        self.judges.setdefault(judge, Counter())[what] += 1

    def _text(self, text: str) -> str:
        if LONE_SURROGATES.search(text):
            self.counts["texts_with_broken_characters"] += 1
        return _readable(text)


def _readable(text: str) -> str:
    """The text with what no UTF-8 file can hold replaced; blanks alone are no text."""
    return LONE_SURROGATES.sub("\ufffd", text) if text.strip() else ""


def _in_other_script(text: str) -> bool:
    """Whether most letters are not Latin."""
    plain = text.encode("ascii", "ignore")
    if len(plain.translate(None, NO_LETTERS)) >= len(text) - len(plain):
        return False
    return 2 * len(LATIN_LETTER.findall(text)) < len(LETTER.findall(text))


def carried(original: str) -> str:
    """A name that DVC carries: whatever it can't hold becomes '-'."""
    name = original if MODEL_NAME.fullmatch(original) else re.sub(r"[^A-Za-z0-9_-]", "-", original)
    if not MODEL_NAME.fullmatch(name):
        raise TableError(f"a model of the source has no name (found {original!r}).")
    return name


def _models_block(names: Mapping[str, str], out: Path) -> str:
    lines = [
        "# Paste into params.yaml. A name that DVC can't carry was changed; the source's own follows it.",
        "models:",
    ]
    for name, original in sorted(names.items()):
        lines.append(f"  {name}:" + (f"  # {original}" if name != original else ""))
        lines.append(f"    path: {(out / 'models' / name).as_posix()}")
        lines.append("    generator: recorded")
    return "\n".join(lines) + "\n"
