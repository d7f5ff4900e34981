"""A CSV of choices: one row for each question, one column for each model with the option that it chose."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from karma_plugins.errors import TableError
from karma_plugins.importers.recorded_profiles import Profiles
from karma_plugins.schemas import ITEMS, SCORES

ID_COLUMNS = ("question_id", "item_id", "id")
COUNT_COLUMNS = ("n_options", "n_choices")
GROUP_COLUMNS = ("competency", "category", "subject")
#: What stands where a model has no record of a question.
NO_RECORD = "MISSING"

RULES = (
    "choices: an option is a letter (A, B or a, b) or a number from 0 (0, 1 or 0.0, 1.0)",
    "choices: an empty cell is a reply that nobody could parse: no choice, counted as wrong in scores",
    "choices: a letter beyond the question's options, or any other text, is treated as unparsed",
    "choices: 'MISSING' is a question that the model was not asked: no row, no part in scores",
    "choices: a question whose right option is missing or beyond its options is left out",
    "choices: without a column n_options a question has as many options as the file's highest letter",
    "choices: a column without a single option is no model and ignored",
)


def suits(frame: pl.DataFrame) -> bool:
    """Whether a CSV is one of choices: it has a column of question ids and one of right answers."""
    return "answer" in frame.columns and any(c in frame.columns for c in ID_COLUMNS)


def read(frame: pl.DataFrame, path: Path) -> Profiles:
    """Tables items and scores (accuracy); the task is named after the file, competencies after categories."""
    key = next(c for c in ID_COLUMNS if c in frame.columns)
    _refuse_bad_ids(frame[key], path)
    group = next((c for c in GROUP_COLUMNS if c in frame.columns), None)
    size = next((c for c in COUNT_COLUMNS if c in frame.columns), None)
    taken = {key, "answer", *GROUP_COLUMNS, *COUNT_COLUMNS}
    coded = {c: _options(frame[c]) for c in frame.columns if c not in taken}
    models = [c for c, options in coded.items() if options.count()]
    if not models:
        raise TableError(f"{path}: no column holds options (letters such as A); models are columns.")
    answer = _options(frame["answer"])
    highest = max(int(s.max() or 0) for s in (answer, *(coded[m] for m in models))) + 1  # type: ignore[arg-type]
    questions = pl.DataFrame(
        {
            "item_id": frame[key],
            "competency": frame[group].fill_null("none") if group else [path.stem] * frame.height,
            "answer": answer,
            "n_choices": _whole(frame[size]) if size else [highest] * frame.height,
        }
    )
    usable = ((pl.col("answer") < pl.col("n_choices")) & (pl.col("answer") >= 0)).fill_null(value=False)
    counts = Counter(
        questions=frame.height,
        questions_without_a_right_option=questions.filter(~usable).height,
        columns_ignored=len(coded) - len(models),
        models=len(models),
    )
    parts = [
        _replies(questions.with_columns(choice=coded[m], text=frame[m]).filter(usable), m, counts)
        for m in models
    ]
    items = pl.concat(parts).with_columns(task=pl.lit(path.stem)).select(ITEMS.columns.names())
    return Profiles(_accuracy(items), items, RULES, counts)


def _refuse_bad_ids(ids: pl.Series, path: Path) -> None:
    if ids.null_count():
        row = int(ids.is_null().arg_max() or 0) + 2
        raise TableError(f"{path}, row {row}: column '{ids.name}' is empty. Give every question an id.")
    if ids.is_duplicated().any():
        twice = ids.filter(ids.is_duplicated())[0]
        raise TableError(f"{path}: question '{twice}' is there twice. Remove one.")


def _options(text: pl.Series) -> pl.Series:
    """Option numbers from 0; null where the text names none."""
    upper = text.str.to_uppercase()
    letter = pl.when(upper.str.contains(r"^[A-Z]$")).then(
        upper.str.slice(0, 1).replace_strict(
            {chr(65 + i): i for i in range(26)}, default=None, return_dtype=pl.Int64
        )
    )
    whole = upper.str.strip_suffix(".0")  # a column of whole numbers with gaps, as other tools write it
    number = pl.when(whole.str.contains(r"^\d{1,2}$")).then(whole.cast(pl.Int64, strict=False))
    return pl.select(pl.coalesce(letter, number)).to_series()


def _whole(text: pl.Series) -> pl.Series:
    """Whole numbers, `10.0` too; null where a text is none."""
    number = text.cast(pl.Float64, strict=False)
    return pl.select(pl.when(number == number.floor()).then(number).cast(pl.Int64, strict=False)).to_series()


def _replies(questions: pl.DataFrame, model: str, counts: Counter[str]) -> pl.DataFrame:
    """One model's rows of table items, and what was met in its column."""
    recorded = questions.filter(pl.col("text").is_null() | (pl.col("text") != NO_RECORD))
    inside = (pl.col("choice") < pl.col("n_choices")).fill_null(value=False)
    counts["replies"] += recorded.height
    counts["replies_missing"] += questions.height - recorded.height
    counts["replies_unparsed"] += recorded["text"].null_count()
    counts["replies_beyond_the_options"] += recorded.filter(pl.col("choice") >= pl.col("n_choices")).height
    counts["replies_unreadable"] += recorded.filter(
        pl.col("text").is_not_null() & pl.col("choice").is_null()
    ).height
    return recorded.select(
        "item_id",
        "competency",
        "answer",
        "n_choices",
        model=pl.lit(model),
        correct=(inside & (pl.col("choice") == pl.col("answer"))).cast(pl.Float64),
        choice=pl.when(inside).then("choice"),
        choice_probs=pl.lit(None, pl.List(pl.Float64)),
    )


def _accuracy(items: pl.DataFrame) -> pl.DataFrame:
    """Table scores: the share of right answers among all replies."""
    deviation = pl.col("correct").std(ddof=1) / pl.len().sqrt()
    return (
        items.group_by("model", "competency", "task", maintain_order=True)
        .agg(score=pl.col("correct").mean(), stderr=deviation, n=pl.len().cast(pl.Int64))
        .with_columns(metric=pl.lit("acc"))
        .select(SCORES.columns.names())
    )
