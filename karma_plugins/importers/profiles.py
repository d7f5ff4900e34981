"""Reads recorded profiles of models: lm-eval results, CSVs of choices or scores, answers, our own tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from karma_plugins.errors import TableError, did_you_mean
from karma_plugins.importers import answers, choices_csv, lm_eval_results, scores_csv
from karma_plugins.importers.recorded_profiles import Profiles
from karma_plugins.schemas import ITEMS, RESPONSES, SCORES
from karma_plugins.tables import check
from karma_plugins.texts import records

KINDS = (
    "a CSV of choices or scores, a results_*.json of lm-eval or its folder, a table scores or items, or "
    "answers (a folder of AlpacaEval results; .jsonl, .json, .csv or .parquet with prompt, model and answer)"
)


def read(paths: Sequence[Path], competencies: Mapping[str, Sequence[str]] | None = None) -> Profiles:
    """Read files of any of the kinds, told apart by what they hold, into one profile.

    `competencies` maps a competency to its tasks: then only those are taken, in that competency. Raises
    TableError where a file is of no known kind, is broken, holds nothing of use, or says one thing twice.
    """
    harness = [
        path
        for path in paths
        if path.exists() and (path.is_dir() or path.suffix == ".json") and not answers.suits(path)
    ]
    parts = [lm_eval_results.read(harness)] if harness else []
    parts += [_read(path) for path in paths if path not in harness]
    profiles = Profiles(
        pl.concat([SCORES.empty(), *(part.scores for part in parts)]),
        pl.concat([ITEMS.empty(), *(part.items for part in parts)]),
        tuple(dict.fromkeys(rule for part in parts for rule in part.rules)),
        sum((part.counts for part in parts), Counter()),
        pl.concat([RESPONSES.empty(), *(part.responses for part in parts)]),
    )
    if competencies:
        profiles = _regrouped(profiles, competencies)
    where = ", ".join(map(str, paths))
    if profiles.scores.is_empty() and profiles.items.is_empty() and profiles.responses.is_empty():
        raise TableError(f"{where}: holds no score and no answer. Give {KINDS}.")
    profiles.scores = check(profiles.scores, SCORES, where=where)
    profiles.items = check(profiles.items, ITEMS, where=where)
    profiles.responses = check(profiles.responses, RESPONSES, where=where)
    return profiles


def _read(path: Path) -> Profiles:
    if not path.exists():
        raise TableError(f"{path}: no such file or folder.")
    if answers.suits(path):
        recorded = answers.read(path)
        return Profiles(rules=answers.RULES, counts=recorded.counts, responses=recorded.responses)
    if Path(path.name.removesuffix(".gz")).suffix in (".csv", ".tsv"):
        frame = records.csv_table(path)
        return choices_csv.read(frame, path) if choices_csv.suits(frame) else scores_csv.read(frame, path)
    if path.suffix == ".parquet":
        return _table(path)
    raise TableError(f"{path}: is neither {KINDS}.")


def _table(path: Path) -> Profiles:
    frame = records.parquet_table(path)
    if "score" in frame.columns:
        return Profiles(scores=check(frame, SCORES, where=str(path)))
    return Profiles(items=check(frame, ITEMS, where=str(path)))


def _regrouped(profiles: Profiles, competencies: Mapping[str, Sequence[str]]) -> Profiles:
    """The named tasks alone, in the competencies that name them."""
    known = sorted({*profiles.scores["task"], *profiles.items["task"]})
    home: dict[str, str] = {}
    for competency, tasks in competencies.items():
        for task in tasks:
            if task not in known:
                raise TableError(
                    f"no task '{task}'.{did_you_mean(task, known)} There are: {', '.join(known)}."
                )
            if home.setdefault(task, competency) != competency:
                raise TableError(f"task '{task}' is in '{home[task]}' and in '{competency}'. Keep it in one.")
    scores, items = (
        table.filter(pl.col("task").is_in(list(home))).with_columns(
            competency=pl.col("task").replace_strict(home, default=None, return_dtype=pl.String)
        )
        for table in (profiles.scores, profiles.items)
    )
    return Profiles(scores, items, profiles.rules, profiles.counts, profiles.responses)
