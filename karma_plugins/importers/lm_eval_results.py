"""Results of the evaluation harness: results_*.json and the samples_*.jsonl of --log_samples beside it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from karma_plugins.errors import TableError
from karma_plugins.importers.recorded_profiles import Profiles
from karma_plugins.profiling.profilers.lm_eval import MAIN_METRICS
from karma_plugins.schemas import ITEMS, SCORES

PREFIX = "results_"

RULES = (
    f"lm-eval: of a task's metrics the first of {', '.join(MAIN_METRICS)} counts, else its own first",
    "lm-eval: a metric outside [0,1] is no score and left out; of a group of tasks its tasks count",
    "lm-eval: a task's competency is the group that lists it, else the task itself",
    "lm-eval: of several results of one model for one task the newest counts",
    "lm-eval: option probabilities are the softmax of the options' log-likelihoods, not normalised by length",
    "lm-eval: a right option that the target does not tell is null; a model is named as its id or folder",
)


def read(path: Path) -> Profiles:
    """Tables scores and items of one results file, or of all below a folder."""
    files = sorted(path.rglob(f"{PREFIX}*.json")) if path.is_dir() else [path]
    if not files:
        raise TableError(
            f"{path}: holds no {PREFIX}*.json. Run lm_eval with --output_path and --log_samples."
        )
    counts: Counter[str] = Counter()
    newest: dict[tuple[str, str], tuple[float, Path, dict[str, Any]]] = {}
    for file in files:
        document = _document(file)
        name = _model_name(document, file)
        groups = document.get("group_subtasks") or {}
        for task in document["results"]:
            if groups.get(task) or task not in document.get("configs", {}):
                continue
            date = document.get("date")
            entry = (float(date) if isinstance(date, (int, float)) else 0.0, file, document)
            known = newest.get((name, task))
            counts["older_results"] += known is not None
            if known is None or entry[:2] > known[:2]:
                newest[name, task] = entry
    scores: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    for (name, task), (_, file, document) in sorted(newest.items()):
        _read_task(name, task, file, document, scores, items, counts)
    counts["models"], counts["tasks"] = len({m for m, _ in newest}), len({t for _, t in newest})
    return Profiles(
        pl.DataFrame(scores, schema=SCORES.columns), pl.DataFrame(items, schema=ITEMS.columns), RULES, counts
    )


def _document(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(f"{file}: not readable as JSON ({' '.join(str(error).split())}).") from error
    if not isinstance(found, dict) or not isinstance(found.get("results"), dict):
        raise TableError(f"{file}: is no results file of lm-eval (it has no 'results').")
    return found


def _model_name(document: Mapping[str, Any], file: Path) -> str:
    """The hub id as it is, of a folder its last part."""
    arguments = (document.get("config") or {}).get("model_args") or {}
    if isinstance(arguments, str):
        arguments = dict(part.split("=", 1) for part in arguments.split(",") if "=" in part)
    name = str(
        document.get("model_name")
        or arguments.get("pretrained")
        or arguments.get("model")
        or file.parent.name
    )
    return Path(name).name if name.startswith(("/", ".", "~")) or name.count("/") > 1 else name


def _read_task(
    name: str,
    task: str,
    file: Path,
    document: Mapping[str, Any],
    scores: list[dict[str, Any]],
    items: list[dict[str, Any]],
    counts: Counter[str],
) -> None:
    """Add one task's score and items."""
    results = document["results"][task]
    numeric = [
        k for k, v in results.items() if "," in k and "_stderr" not in k and isinstance(v, (int, float))
    ]
    usual = [k for metric in MAIN_METRICS for k in numeric if k.partition(",")[0] == metric]
    if not numeric:
        counts["tasks_without_a_metric"] += 1
        return
    metric, _, rule = (usual or numeric)[0].partition(",")
    value = float(results[f"{metric},{rule}"])
    stderr = results.get(f"{metric}_stderr,{rule}")
    place = {"model": name, "competency": _competency(task, document), "task": task}
    samples = _samples(file, task, rule)
    counts["tasks_without_samples"] += not samples
    if not math.isnan(value) and not 0 <= value <= 1:
        counts["metrics_outside_0_1"] += 1
    else:
        size = (document.get("n-samples") or {}).get(task) or {}
        spread = stderr if isinstance(stderr, (int, float)) and math.isfinite(stderr) else None
        scores.append(
            place
            | {"metric": metric, "score": None if math.isnan(value) else value, "stderr": spread}
            | {"n": int(size.get("effective", len(samples))) or None}
        )
        counts["scores"] += 1
    rows = [_item(sample, metric, document["configs"][task]) for sample in samples]
    _settle_answers(rows)
    seen: Counter[str] = Counter()
    for row, sample in zip(rows, samples, strict=True):
        digest = str(sample.get("doc_hash") or sample.get("doc_id"))[:16]
        seen[digest] += 1
        number = "" if seen[digest] == 1 else f"-{seen[digest]}"
        items.append(place | {"item_id": f"{digest}{number}"} | row)
        counts["items"] += 1
        counts["items_without_correctness"] += row["correct"] is None
        counts["items_with_options"] += row["n_choices"] is not None
        counts["items_without_a_right_option"] += row["n_choices"] is not None and row["answer"] is None


def _competency(task: str, document: Mapping[str, Any]) -> str:
    groups = document.get("group_subtasks") or {}
    return next((str(group) for group, tasks in groups.items() if task in tasks), task)


def _samples(file: Path, task: str, rule: str) -> list[dict[str, Any]]:
    """The samples of the same run, by one filter."""
    path = file.with_name(f"samples_{task}_{file.stem.removeprefix(PREFIX)}.jsonl")
    if not path.is_file():
        return []
    found = []
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                sample = json.loads(line)
            except ValueError as error:
                raise TableError(
                    f"{path}, line {number}: not JSON ({error}). Mend or remove the line."
                ) from error
            if sample.get("filter", rule) == rule:
                found.append(sample)
    return found


def _item(sample: Mapping[str, Any], metric: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of one sample; `by_text` and `by_number` are two readings of its target."""
    value = sample.get(metric)
    known = isinstance(value, (bool, int, float)) and 0 <= float(value) <= 1
    row: dict[str, Any] = {"correct": float(value) if known else None}  # type: ignore[arg-type]
    nothing = dict.fromkeys(("choice", "answer", "n_choices", "choice_probs"))
    likelihoods = _likelihoods(sample) if config.get("output_type") == "multiple_choice" else None
    if likelihoods is None:
        return row | nothing
    texts = _option_texts(sample, str(config.get("target_delimiter", " ")))[: len(likelihoods)]
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
        "by_number": int(target) if target.isdecimal() and int(target) < len(texts) else None,
    }


def _likelihoods(sample: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """The options' log-likelihoods; null unless there are two and all are numbers."""
    replies = sample.get("filtered_resps") or []
    if "acc_mutual_info" in (sample.get("metrics") or []):
        replies = replies[: len(replies) // 2]  # the second half is without the question
    try:
        found = np.array([float(reply[0]) for reply in replies])
    except (TypeError, ValueError, IndexError):
        return None
    return found if len(found) > 1 and np.isfinite(found).all() else None


def _option_texts(sample: Mapping[str, Any], delimiter: str) -> list[str]:
    arguments = sample.get("arguments") or {}
    rows: Sequence[Any] = list(arguments.values()) if isinstance(arguments, dict) else arguments
    texts = [str(row["arg_1"] if isinstance(row, dict) else row[1]) for row in rows]
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
