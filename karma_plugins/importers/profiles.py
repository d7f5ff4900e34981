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

KINDS = (
    "a CSV of choices or scores, a results_*.json of lm-eval or its folder, a table scores or items, or "
    "answers (a folder of AlpacaEval results; .jsonl, .json, .csv or .parquet with prompt, model and answer)"
)
#: Of a CSV; the first where a header has none.
SEPARATORS = ",;\t"


def read(paths: Sequence[Path], competencies: Mapping[str, Sequence[str]] | None = None) -> Profiles:
    """Read files of any of the kinds, told apart by what they hold, into one profile.

    `competencies` maps a competency to its tasks: then only those are taken, in that competency. Raises
    TableError where a file is of no known kind, is broken, holds nothing of use, or says one thing twice.
    """
    parts = [_read(path) for path in paths]
    found = Profiles(
        pl.concat([SCORES.empty(), *(part.scores for part in parts)]),
        pl.concat([ITEMS.empty(), *(part.items for part in parts)]),
        tuple(dict.fromkeys(rule for part in parts for rule in part.rules)),
        sum((part.counts for part in parts), Counter()),
        pl.concat([RESPONSES.empty(), *(part.responses for part in parts)]),
    )
    if competencies:
        found = _regrouped(found, competencies)
    where = ", ".join(map(str, paths))
    if found.scores.is_empty() and found.items.is_empty() and found.responses.is_empty():
        raise TableError(f"{where}: holds no score and no answer. Give {KINDS}.")
    found.scores = check(found.scores, SCORES, where=where)
    found.items = check(found.items, ITEMS, where=where)
    found.responses = check(found.responses, RESPONSES, where=where)
    return found


def _read(path: Path) -> Profiles:
    if not path.exists():
        raise TableError(f"{path}: no such file or folder.")
    if answers.suits(path):
        given = answers.read(path)
        return Profiles(rules=answers.RULES, counts=given.counts, responses=given.responses)
    if path.is_dir() or path.suffix == ".json":
        return lm_eval_results.read(path)
    if path.suffix == ".csv":
        frame = _csv(path)
        return choices_csv.read(frame, path) if choices_csv.suits(frame) else scores_csv.read(frame, path)
    if path.suffix == ".parquet":
        return _table(path)
    raise TableError(f"{path}: is neither {KINDS}.")


def _csv(path: Path) -> pl.DataFrame:
    """All cells as text, surrounding blanks removed, an empty one null; separated by what the header uses."""
    header = path.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0]
    try:
        frame = pl.read_csv(path, infer_schema=False, separator=max(SEPARATORS, key=header.count))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path}: not readable as CSV ({str(error).splitlines()[0]}).") from error
    for column in frame.columns:
        if "_duplicated_" in column and column not in header:
            raise TableError(
                f"{path}: column '{column.partition('_duplicated_')[0]}' is there twice. Rename one."
            )
    text = pl.all().str.strip_chars()
    return frame.rename(str.strip).select(pl.when(text != "").then(text).name.keep())


def _table(path: Path) -> Profiles:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path}: not readable as parquet ({str(error).splitlines()[0]}).") from error
    if "score" in frame.columns:
        return Profiles(scores=check(frame, SCORES, where=str(path)))
    return Profiles(items=check(frame, ITEMS, where=str(path)))


def _regrouped(found: Profiles, competencies: Mapping[str, Sequence[str]]) -> Profiles:
    """The named tasks alone, in the competencies that name them."""
    known = sorted({*found.scores["task"], *found.items["task"]})
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
        for table in (found.scores, found.items)
    )
    return Profiles(scores, items, found.rules, found.counts, found.responses)
