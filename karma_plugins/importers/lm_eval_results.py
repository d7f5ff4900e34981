"""Results of the evaluation harness: results_*.json and the samples_*.jsonl of --log_samples beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from karma_plugins.errors import TableError
from karma_plugins.importers import lm_eval_documents
from karma_plugins.importers.lm_eval_documents import Measured, Run
from karma_plugins.importers.model_identity import names
from karma_plugins.importers.recorded_profiles import Profiles
from karma_plugins.importers.values import mapping, number
from karma_plugins.schemas import ITEMS, MAIN_METRICS, SCORES
from karma_plugins.texts import records

PREFIX = "results_"

RULES = (
    f"lm-eval: of a task's metrics the first of {', '.join(MAIN_METRICS)} counts, else its own first",
    "lm-eval: a metric outside [0,1] is no score and left out; of a group of tasks its tasks count",
    "lm-eval: a task's competency is the group that lists it, else the task itself",
    "lm-eval: a model is its id or folder, revision, and whatever arguments change its answers "
    "(adapter, dtype, "
    "chat template, …); its name shows what tells it from the others",
    "lm-eval: of several results of one model for one task the newest counts; one task with "
    "several numbers of "
    "examples (shots) is refused",
    "lm-eval: option probabilities are the softmax of the options' log-likelihoods, not normalised by length",
    "lm-eval: a right option that the target does not tell is null",
)


def read(paths: Sequence[Path]) -> Profiles:
    """Tables scores and items of results files, or of all below folders.

    Raises TableError for a file that is no results file, and where one task was asked with different numbers
    of examples.
    """
    runs = [lm_eval_documents.read(file) for path in paths for file in _files(path)]
    _refuse_mixed_shots(runs)
    named = names(run.model for run in runs)
    counts: Counter[str] = Counter(odd_tasks=sum(run.odd_tasks for run in runs))
    newest: dict[tuple[str, str], Run] = {}
    for run in runs:
        for task in run.tasks:
            key = (named[run.model], task)
            counts["older_results"] += key in newest
            if key not in newest or (run.date, run.file) > (newest[key].date, newest[key].file):
                newest[key] = run
    scores: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    for (name, task), run in sorted(newest.items(), key=lambda entry: entry[0]):
        _read_task(name, task, run, scores, items, counts)
    counts["models"], counts["tasks"] = len({m for m, _ in newest}), len({t for _, t in newest})
    return Profiles(
        pl.DataFrame(scores, schema=SCORES.columns), pl.DataFrame(items, schema=ITEMS.columns), RULES, counts
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.rglob(f"{PREFIX}*.json"))
    if not files:
        raise TableError(
            f"{path}: holds no {PREFIX}*.json. Run lm_eval with --output_path and --log_samples."
        )
    return files


def _refuse_mixed_shots(runs: Sequence[Run]) -> None:
    first: dict[str, tuple[int, Path]] = {}
    for run in runs:
        for task, measured in run.tasks.items():
            if measured.shots is None:
                continue
            shots, file = first.setdefault(task, (measured.shots, run.file))
            if shots != measured.shots:
                raise TableError(
                    f"{run.file}: task '{task}' was asked with {measured.shots} examples "
                    f"(shots), in {file} with "
                    f"{shots}. Such scores can't be compared: give files of one number of shots."
                )


def _read_task(
    name: str,
    task: str,
    run: Run,
    scores: list[dict[str, Any]],
    items: list[dict[str, Any]],
    counts: Counter[str],
) -> None:
    """Add one task's score and items."""
    measured = run.tasks[task]
    usual = [key for metric in MAIN_METRICS for key in measured.metrics if key[0] == metric]
    if not measured.metrics:
        counts["tasks_without_a_metric"] += 1
        return
    metric, rule = (usual or list(measured.metrics))[0]
    value, stderr = measured.metrics[metric, rule]
    place = {"model": name, "competency": measured.competency, "task": task}
    samples = _samples(run.file, task, rule)
    counts["tasks_without_samples"] += not samples
    if value is not None and not 0 <= value <= 1:
        counts["metrics_outside_0_1"] += 1
    else:
        size = measured.n if measured.n is not None else len(samples)
        scores.append(place | {"metric": metric, "score": value, "stderr": stderr, "n": size or None})
        counts["scores"] += 1
    _add_items(place, metric, measured, samples, items, counts)


def _add_items(
    place: Mapping[str, str],
    metric: str,
    measured: Measured,
    samples: Sequence[Mapping[str, Any]],
    items: list[dict[str, Any]],
    counts: Counter[str],
) -> None:
    rows = [_item(sample, metric, measured.config) for sample in samples]
    _settle_answers(rows)
    seen: Counter[str] = Counter()
    for row, sample in zip(rows, samples, strict=True):
        digest = str(sample.get("doc_hash") or sample.get("doc_id"))[:16]
        seen[digest] += 1
        ordinal = "" if seen[digest] == 1 else f"-{seen[digest]}"
        items.append({**place, "item_id": f"{digest}{ordinal}"} | row)
        counts["items"] += 1
        counts["items_without_correctness"] += row["correct"] is None
        counts["items_with_options"] += row["n_choices"] is not None
        counts["items_without_a_right_option"] += row["n_choices"] is not None and row["answer"] is None


def _samples(file: Path, task: str, rule: str) -> list[dict[str, Any]]:
    """The samples of the same run, by one filter."""
    if "/" in task:
        return []
    path = file.with_name(f"samples_{task}_{file.stem.removeprefix(PREFIX)}.jsonl")
    if not path.is_file():
        return []
    return [s for _, s in records.read(path, counts=Counter()) if s.get("filter", rule) == rule]


def _item(sample: Mapping[str, Any], metric: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of one sample; `by_text` and `by_number` are two readings of its target."""
    value = sample.get(metric)
    correct = float(value) if isinstance(value, bool) else number(value)
    row: dict[str, Any] = {"correct": correct if correct is not None and 0 <= correct <= 1 else None}
    nothing = dict.fromkeys(("choice", "answer", "n_choices", "choice_probs"))
    likelihoods = _likelihoods(sample) if config.get("output_type") == "multiple_choice" else None
    if likelihoods is None:
        return row | nothing
    texts = _option_texts(sample, str(config.get("target_delimiter", " ")))[: len(likelihoods)]
    if len(texts) < len(likelihoods):
        return row | nothing
    lengths = np.array([max(len(text), 1) for text in texts]) if metric == "acc_norm" else 1
    shares = np.exp(likelihoods - likelihoods.max())
    target = str(sample.get("target")).strip()
    stripped = [text.strip() for text in texts]
    return row | {
        "choice": int((likelihoods / lengths).argmax()),
        "answer": None,
        "n_choices": len(texts),
        "choice_probs": (shares / shares.sum()).tolist(),
        "by_text": stripped.index(target) if target in stripped else None,
        "by_number": int(target) if re.fullmatch("[0-9]{1,4}", target) and int(target) < len(texts) else None,
    }


def _likelihoods(sample: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """The options' log-likelihoods; null unless there are two and all are numbers."""
    replies, metrics = sample.get("filtered_resps"), sample.get("metrics")
    if not isinstance(replies, list):
        return None
    if isinstance(metrics, list) and "acc_mutual_info" in metrics:
        replies = replies[: len(replies) // 2]  # the second half is without the question
    try:
        likelihoods = np.array([float(reply[0]) for reply in replies])
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        return None
    return likelihoods if len(likelihoods) > 1 and np.isfinite(likelihoods).all() else None


def _option_texts(sample: Mapping[str, Any], delimiter: str) -> list[str]:
    arguments = sample.get("arguments") or {}
    rows = list(arguments.values()) if isinstance(arguments, dict) else arguments
    texts = []
    for row in rows if isinstance(rows, list) else []:
        known = (
            list(mapping(row).values())[1:2]
            if isinstance(row, dict)
            else row[1:2]
            if isinstance(row, list)
            else []
        )
        if not known:
            return []
        texts.append(str(known[0]))
    return [text.removeprefix(delimiter) for text in texts]


def _settle_answers(rows: list[dict[str, Any]]) -> None:
    """Read a task's targets as texts or option numbers, whichever agrees better with the scores."""
    agreeing = {
        reading: sum(
            (row["choice"] == row[reading]) == (row["correct"] == 1.0)
            for row in rows
            if row.get(reading) is not None
        )
        for reading in ("by_text", "by_number")
    }
    first, second = sorted(agreeing, key=lambda reading: (-agreeing[reading], reading != "by_text"))
    for row in rows:
        one, other = row.pop(first, None), row.pop(second, None)
        if row["n_choices"] is not None:
            row["answer"] = one if one is not None else other
