"""Profiler `lm-eval`: scores and items of any task of the evaluation harness, its own or of a folder.

Option probabilities are the softmax of the options' log-likelihoods, not normalised by length. The option
that counts as chosen is the one that the task's metric takes: the likeliest, by `acc_norm` the likeliest for
its length. Where documents hold `wording_of`, the number of the option that each text is a wording of, the
wordings of an option count as one: the choice is theirs, their probabilities are added.
"""

from __future__ import annotations

import logging
import math
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import Field

from karma_plugins.contracts import Model, Options, Profile, Profiler, hookimpl
from karma_plugins.errors import ModelError, ParamsError, RequestError, did_you_mean
from karma_plugins.models import Endpoint, Weights, fingerprint
from karma_plugins.profiling import included
from karma_plugins.requesting.spending import Limits
from karma_plugins.schemas import ITEMS, MAIN_METRICS, SCORES

if TYPE_CHECKING:
    from lm_eval.api.model import LM
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager


class LmEvalOptions(Options):
    """Where tasks are found and how they are run."""

    include_path: str | None = Field(None, description="folder of task YAMLs beside lm-eval's own")
    functions: bool = Field(
        False, description="let task files of include_path run Python (`!function`): you have read them"
    )
    own_tasks: bool = Field(
        True, description="look among lm-eval's own tasks too (reading them takes a while)"
    )
    metrics: dict[str, str] = Field(
        default_factory=dict,
        description="task -> metric (or 'metric,filter'), where the usual one is not wanted",
    )
    batch_size: int = Field(16, ge=1, description="items that the model is asked at once")
    limit: int | None = Field(None, ge=1, description="take the first so many items of each task")
    num_fewshot: int | None = Field(None, ge=0, description="instead of the task's own number of examples")
    apply_chat_template: bool | None = Field(None, description="null: where the tokenizer has one")
    seed: int = Field(0, description="for the choice of examples and for tasks that sample")
    limits: Limits = Field(Limits(), description="of requests, for models behind an endpoint")


@hookimpl
def karma_register_profilers() -> Sequence[Profiler]:
    """Register this profiler."""
    return [
        Profiler(
            name="lm-eval",
            options=LmEvalOptions,
            profile=profile,
            check=check,
            reads=_reads,
            needs=("lm_eval", "torch"),
        )
    ]


def _reads(options: LmEvalOptions) -> list[Path]:
    return [] if options.include_path is None else [Path(options.include_path)]


def profile(model: Model, tasks: Mapping[str, Sequence[str]], options: LmEvalOptions) -> Profile:
    """Run every task of every competency; a group of tasks counts as the tasks in it.

    A model behind an endpoint can run tasks that generate. Raises ModelError where the model can't be asked,
    ParamsError for an unknown task or one whose metric is no share in [0,1], RequestError where a task's data
    can't be fetched or a server fails.
    """
    if not isinstance(model.source, (Weights, Endpoint)):
        raise ModelError(
            f"models.{model.name}: profiler 'lm-eval' needs weights or an endpoint, found '{model.path}'. "
            "Profile such models with profiler 'recorded'."
        )
    if not tasks:
        raise ParamsError("params.yaml, profile.tasks: names no competency, and so no task. Name some.")
    scores: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    with _quiet(), _seeded(options.seed):
        loaded = _load_tasks(tasks, options)
        lm, chat = _language_model(model.name, model.source, options)
        for (competency, name), task in loaded.items():
            result = _evaluate(lm, task, name, model.source, chat, options)
            metric, rule = _metric(result, name, options)
            rows = _items(result["samples"][name], task, metric, rule)
            place = {"model": model.name, "competency": competency, "task": name}
            items += [place | row for row in rows]
            scores.append(place | _score(result["results"][name][f"{metric},{rule}"], metric, rows, name))
    return Profile(
        pl.DataFrame(scores, schema=SCORES.columns).sort(SCORES.key),
        pl.DataFrame(items, schema=ITEMS.columns).sort(ITEMS.key),
    )


def check(tasks: Mapping[str, Sequence[str]], options: LmEvalOptions) -> None:
    """Raise ParamsError for a task that is not there, and where there is no folder of tasks."""
    with _quiet():
        _task_manager(tasks, options)


def _task_manager(tasks: Mapping[str, Sequence[str]], options: LmEvalOptions) -> TaskManager:
    """Where the tasks are found, all of them checked to be there; lm-eval's own are read if one is needed."""
    from lm_eval.tasks import TaskManager

    if options.include_path is not None and not Path(options.include_path).is_dir():
        raise ParamsError(f"profile.profilers.lm-eval.include_path: no folder '{options.include_path}'.")
    broken: Mapping[Path, str] = {}
    if options.include_path is not None:
        broken = included.check(Path(options.include_path), functions=options.functions)
    named = [name for names in tasks.values() for name in names]
    manager = TaskManager(include_path=options.include_path, include_defaults=False)
    if options.own_tasks and any(name not in manager.task_index for name in named):
        folder = options.include_path
        manager = _with_own_tasks(folder, "" if folder is None else fingerprint(Path(folder)))
    for name in named:
        if name not in manager.task_index:
            for file, reason in broken.items():  # one of them may be it
                raise ParamsError(
                    f"params.yaml, profile.tasks: lm-eval has no task '{name}', and {file} is no YAML "
                    f"({reason}). Correct it."
                )
            hint = did_you_mean(name, manager.all_tasks)
            raise ParamsError(f"params.yaml, profile.tasks: lm-eval has no task '{name}'.{hint}")
    return manager


@lru_cache(maxsize=1)
def _with_own_tasks(folder: str | None, content: str) -> TaskManager:
    """lm-eval's own tasks and those of a folder; reading thousands of YAMLs for each task would take longer
    than the task.
    """
    from lm_eval.tasks import TaskManager

    del content  # tells apart what the folder held
    return TaskManager(include_path=folder)


def _load_tasks(tasks: Mapping[str, Sequence[str]], options: LmEvalOptions) -> dict[tuple[str, str], Task]:
    """The tasks by competency and name, groups taken apart."""
    manager = _task_manager(tasks, options)
    _resolve_data_files(manager, options)
    loaded: dict[tuple[str, str], Task] = {}
    whose: dict[str, str] = {}
    for competency, names in sorted(tasks.items()):
        for name in sorted(set(names)):
            for leaf, task in _load_task(manager, name).items():
                if whose.setdefault(leaf, competency) != competency:
                    raise ParamsError(
                        f"params.yaml, profile.tasks: task '{leaf}' is in '{whose[leaf]}' and in "
                        f"'{competency}'. Keep it in one."
                    )
                loaded[competency, leaf] = task
                _set_examples(task, options)
    return loaded


def _load_task(manager: Any, name: str) -> dict[str, Task]:
    try:
        return dict(sorted(manager.load(name)["tasks"].items()))
    except (OSError, ValueError) as error:  # what `datasets` raises for data that it can't get
        reason = " ".join(str(error).split())
        raise RequestError(
            f"task '{name}': its data can't be loaded ({type(error).__name__}: {reason}). Fetch it "
            "beforehand (`hf download --repo-type dataset …`), or correct data_files in its YAML."
        ) from error


def _resolve_data_files(manager: Any, options: LmEvalOptions) -> None:
    """Take `data_files` of tasks in the included folder as relative to their own YAML."""
    if options.include_path is None:
        return
    from lm_eval.tasks._yaml_loader import load_yaml

    folder = Path(options.include_path).resolve()
    for entry in manager.task_index.values():
        path = entry.yaml_path
        files = ((entry.cfg or {}).get("dataset_kwargs") or {}).get("data_files")
        if path is None or files is None or not path.resolve().is_relative_to(folder):
            continue
        entry.cfg = load_yaml(path, resolve_func=True)
        entry.cfg["dataset_kwargs"] = entry.cfg["dataset_kwargs"] | {
            "data_files": _beside(path.parent, files)
        }
        entry.yaml_path = None


def _beside(folder: Path, files: Any) -> Any:
    if isinstance(files, Mapping):
        return {split: _beside(folder, inner) for split, inner in files.items()}
    if isinstance(files, list):
        return [_beside(folder, inner) for inner in files]
    return files if "://" in str(files) else str((folder / str(files)).resolve())


def _set_examples(task: Task, options: LmEvalOptions) -> None:
    """Number and choice of few-shot examples; a task that says 0 itself can't take any."""
    own = task.get_config("num_fewshot")
    if own is None or (options.num_fewshot is not None and own != 0):
        task.set_config(key="num_fewshot", value=options.num_fewshot or 0)
    task.set_fewshot_seed(seed=options.seed)


def _language_model(name: str, source: Weights | Endpoint, options: LmEvalOptions) -> tuple[LM, bool]:
    """The model as lm-eval sees it, and whether its chat template is applied."""
    if isinstance(source, Endpoint):
        from karma_plugins.profiling.served import Served

        return Served(name, source, options.limits), True
    from lm_eval.models.huggingface import HFLM

    from karma_plugins.models import loading

    weights, tokenizer = loading.loaded(source)
    chat = (
        bool(tokenizer.chat_template) if options.apply_chat_template is None else options.apply_chat_template
    )
    if chat:
        loading.check_chat_template(tokenizer, source)
    return HFLM(
        pretrained=weights, tokenizer=tokenizer, backend="causal", batch_size=options.batch_size
    ), chat


def _evaluate(
    lm: LM, task: Task, name: str, source: Weights | Endpoint, chat: bool, options: LmEvalOptions
) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate

    result: dict[str, Any] = evaluate(
        lm,
        {"tasks": {name: task}, "groups": {}, "group_map": {}},
        limit=options.limit,
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        system_instruction=source.system_prompt,
    )
    return result


def _metric(result: Mapping[str, Any], name: str, options: LmEvalOptions) -> tuple[str, str]:
    """The metric and the filter that stand for a task."""
    known = [key for key, value in result["results"][name].items() if "," in key and "_stderr" not in key]
    wanted = options.metrics.get(name)
    if wanted is not None:
        chosen = [key for key in known if wanted in (key, key.partition(",")[0])]
        if not chosen:
            hint = did_you_mean(wanted, known)
            raise ParamsError(
                f"profile.profilers.lm-eval.metrics: task '{name}' has no metric '{wanted}'.{hint} "
                f"It has {', '.join(known)}."
            )
    else:
        usual = [key for metric in MAIN_METRICS for key in known if key.partition(",")[0] == metric]
        chosen = usual or known
    metric, _, rule = chosen[0].partition(",")
    return metric, rule


def _score(value: Any, metric: str, rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    if not isinstance(value, (int, float)) or math.isnan(value):
        value = None
    elif not 0 <= value <= 1:
        raise ParamsError(
            f"task '{name}': its metric '{metric}' is {value:.3g}, no share in [0,1]. "
            "Name another in profile.profilers.lm-eval.metrics."
        )
    counted = [row["correct"] for row in rows if row["correct"] is not None]
    spread = float(np.std(counted, ddof=1)) / math.sqrt(len(counted)) if len(counted) > 1 else None
    return {"metric": metric, "score": value, "stderr": spread, "n": len(rows)}


def _items(samples: Sequence[Mapping[str, Any]], task: Task, metric: str, rule: str) -> list[dict[str, Any]]:
    """One row for each document, known by a hash of its content, so that models share item ids."""
    seen: Counter[str] = Counter()
    rows = []
    for sample in samples:
        if sample["filter"] != rule:
            continue
        digest = str(sample["doc_hash"])[:16]
        seen[digest] += 1
        number = "" if seen[digest] == 1 else f"-{seen[digest]}"
        rows.append(
            {"item_id": f"{digest}{number}", "correct": _share(sample.get(metric))}
            | (_options(sample, task, metric) if task.OUTPUT_TYPE == "multiple_choice" else {})
        )
    return rows


def _share(value: Any) -> float | None:
    if isinstance(value, (bool, int, float, np.number)) and 0 <= float(value) <= 1:
        return float(value)
    return None


def _options(sample: Mapping[str, Any], task: Task, metric: str) -> dict[str, Any]:
    """What a model made of a multiple-choice item."""
    texts = [str(text) for text in task.doc_to_choice(sample["doc"])]
    likelihoods = np.array([float(pair[0]) for pair in sample["filtered_resps"][: len(texts)]])
    if len(likelihoods) < len(texts) or not np.isfinite(likelihoods).all():
        return {}
    target = sample["target"]
    right = texts.index(target) if isinstance(target, str) and target in texts else target
    lengths = np.array([max(len(text), 1) for text in texts]) if metric == "acc_norm" else 1
    shares = np.exp(likelihoods - likelihoods.max())
    # A document may say the same option in several wordings, which then count as one.
    option = np.asarray(sample["doc"].get("wording_of") or range(len(texts)))
    answers = {
        int(option[place])
        for place in (right if isinstance(right, list) else [right])
        if isinstance(place, int) and 0 <= place < len(texts)
    }
    return {
        "choice": int(option[(likelihoods / lengths).argmax()]),
        "answer": answers.pop() if len(answers) == 1 else None,
        "n_choices": int(option.max()) + 1,
        "choice_probs": np.bincount(option, weights=shares / shares.sum()).tolist(),
    }


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed what tasks and sampling may draw from; the state before comes back."""
    import torch

    state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep lm-eval's prints out of the stage's output, and its bars and warnings out of a log."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    bars = sys.stderr if sys.stderr.isatty() else StringIO()
    try:
        with redirect_stdout(StringIO()), redirect_stderr(bars):
            yield
    finally:
        logger.setLevel(level)
