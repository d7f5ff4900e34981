"""What people said of exported tasks, as verdicts of a judge: their mean, and each person's own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field

from karma_plugins import tables
from karma_plugins.contracts import Options, Verdicts
from karma_plugins.errors import TableError
from karma_plugins.importers.recorded_folder import RecordedFolder
from karma_plugins.judging.agreement import preferences, views
from karma_plugins.runtime.statistics import cohen_kappa, krippendorff_alpha
from karma_plugins.schemas import COMPARISONS, JUDGEMENTS

KEY = re.compile(r"[0-9a-f]{16}(?:\.[0-9a-f]{16}){1,2}")
#: What is said of two answers, by value and label: the probability that the one shown first is better.
PREFERENCES = {"answer_1": 1.0, "Answer 1": 1.0, "tie": 0.5, "Tie": 0.5, "answer_2": 0.0, "Answer 2": 0.0}
RULES = (
    "the judge's word is the mean of what its annotators said; a mean of 0.5 is a tie",
    "with several annotators each is a judge too: '<judge>-1', '<judge>-2', … in the order of "
    "their ids, which "
    "are kept nowhere",
    "of an annotator who spoke twice about one task the mean counts; what was skipped or discarded, or only "
    "drafted, is no verdict",
)


class AnnotationOptions(Options):
    """Under which name people judge, and whom to compare them with."""

    judge: str = Field("human", pattern=r"^[A-Za-z0-9_-]+$", description="name of the judge")
    highest: int = Field(5, ge=2, description="the best rating of an answer; the worst is 1")
    against: Path | None = Field(
        None, description="folder of other judges' verdicts; how far people and they agree is printed"
    )


@dataclass(frozen=True, slots=True)
class Word:
    """What one annotator said of a task: a preference in {0, 0.5, 1}, or a rating as a share of its scale."""

    key: str
    annotator: str
    value: float


def gathered(where: str, words: Sequence[Word], options: AnnotationOptions, folder: RecordedFolder) -> None:
    """Add the words as verdicts, and notes on how far annotators, and other judges, agree."""
    folder.rules = (*folder.rules, *RULES)
    by_task: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for word in words:
        by_task[word.key][word.annotator].append(word.value)
    if not by_task:
        lacking = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in folder.counts.items() if n)
        raise TableError(f"{where}: nobody said anything of an exported task ({lacking or 'it is empty'}).")
    annotators = sorted({word.annotator for word in words})
    folder.counts["tasks"], folder.counts["annotators"] = len(by_task), len(annotators)
    numbers = {name: f"{options.judge}-{i}" for i, name in enumerate(annotators, start=1)}
    for key, opinions in sorted(by_task.items()):
        means = {name: sum(values) / len(values) for name, values in opinions.items()}
        _add(folder, key, options.judge, sum(means.values()) / len(means))
        if len(annotators) > 1:
            for name, mean in sorted(means.items()):
                _add(folder, key, numbers[name], mean)
    if len(annotators) > 1:
        folder.notes.append(_among_annotators(by_task, annotators))
    if options.against is not None:
        folder.notes += _against(folder, options)


def _add(folder: RecordedFolder, key: str, judge: str, value: float) -> None:
    prompt, *responses = key.split(".")
    if len(responses) == 2:
        status = "tie" if value == 0.5 else "ok"
        folder.add_comparison(prompt, responses[0], responses[1], judge, value, status)  # type: ignore[arg-type]
    else:
        folder.add_judgement(prompt, responses[0], judge, value)


def _among_annotators(by_task: Mapping[str, Mapping[str, Sequence[float]]], annotators: Sequence[str]) -> str:
    scores = np.full((len(by_task), len(annotators)), np.nan)
    for row, (_, opinions) in enumerate(sorted(by_task.items())):
        for name, values in opinions.items():
            scores[row, annotators.index(name)] = sum(values) / len(values)
    several = int(((~np.isnan(scores)).sum(axis=1) > 1).sum())
    alpha, _ = krippendorff_alpha(scores)
    figure = "none, as no task was seen by two or all said the same" if alpha is None else f"{alpha:.3f}"
    return f"{len(annotators)} annotators, {several} tasks seen by several; Krippendorff's alpha: {figure}"


def _against(folder: RecordedFolder, options: AnnotationOptions) -> list[str]:
    """A sentence for each other judge whose verdicts lie below the folder."""
    home = options.against or Path()
    sentences = [
        tables.read_all(sorted(home.rglob(f"{schema.name}.parquet")), schema)
        for schema in (JUDGEMENTS, COMPARISONS)
    ]
    mine = pl.col("judge") == options.judge
    both = [
        pl.concat([other.filter(~mine), own.filter(mine)])
        for other, own in zip(sentences, (folder.judgements(), folder.comparisons()), strict=True)
    ]
    votes, opinions = views(Verdicts(*both))
    people = next(view for view in opinions if view.judge == options.judge)
    notes = []
    for view in opinions:
        if view is people:
            continue
        _, p, q = preferences(people, view, votes)
        decided = (p != 0.5) & (q != 0.5)
        if not decided.any():
            notes.append(f"{options.judge} and {view.judge}: no pair that both decided")
            continue
        same = float(((p > 0.5) == (q > 0.5))[decided].mean())
        kappa = cohen_kappa(np.sign(p - 0.5), np.sign(q - 0.5))
        kappa_words = "" if kappa is None else f", Cohen's kappa {kappa:.3f} of {len(p)}"
        notes.append(
            f"{options.judge} and {view.judge}: the same answer preferred in {same:.1%} of "
            f"{int(decided.sum())} "
            f"pairs that both decided{kappa_words}"
        )
    return notes or [f"{home}: holds no verdicts of another judge"]
