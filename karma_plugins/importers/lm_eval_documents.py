"""Results files of the evaluation harness in their three layouts, as runs of one model on some tasks.

0.4         results: {task: {"acc,none": 0.5, "acc_stderr,none": 0.1}}, configs, group_subtasks, n-shot
0.3         results: {task: {"acc": 0.5, "acc_stderr": 0.1}}, versions, config: {model_args, num_fewshot}
lighteval   results: {"suite|task|shots": {"acc": 0.5, "acc_stderr": 0.1}}, config_general: {model_name, …}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karma_plugins.errors import TableError
from karma_plugins.importers.model_identity import Identity, identity
from karma_plugins.importers.values import mapping, number, text
from karma_plugins.texts import records

STDERR = "_stderr"
#: What of a run's own settings, beside the model's arguments, makes its scores another model's.
CHAT = {"chat_template_sha": "chat", "system_instruction_sha": "system"}


@dataclass(frozen=True, slots=True)
class Measured:
    """One task of a run: metrics as {(name, filter): (value, standard error)}, in the file's order.

    `shots` is null where the file does not say; `config` is the task's own (empty before 0.4).
    """

    metrics: Mapping[tuple[str, str], tuple[float | None, float | None]]
    competency: str
    shots: int | None
    n: int | None
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One results file: a model on some tasks."""

    file: Path
    model: Identity
    date: float
    tasks: Mapping[str, Measured]
    odd_tasks: int


def read(file: Path) -> Run:
    """One results file; TableError where it is none. Tasks that hold no metrics are `odd_tasks`."""
    document = records.document(file)
    if not isinstance(document, dict) or not isinstance(document.get("results"), dict):
        raise TableError(f"{file}: is no results file of lm-eval (it has no 'results').")
    groups = {
        str(g): t for g, t in mapping(document.get("group_subtasks")).items() if isinstance(t, list) and t
    }
    tasks: dict[str, Measured] = {}
    odd = 0
    for name, results in document["results"].items():
        if (
            name in groups
            or name == "all"
            or (_is_new(document) and name not in mapping(document["configs"]))
        ):
            continue
        if isinstance(results, dict):
            tasks[_task_name(name)] = _measured(name, results, groups, document)
        else:
            odd += 1
    return Run(file, _model(document, file), number(document.get("date")) or 0.0, tasks, odd)


def _is_new(document: Mapping[str, Any]) -> bool:
    return "configs" in document


def _task_name(name: str) -> str:
    """lighteval's names hold the suite and the shots."""
    parts = name.split("|")
    return parts[1] if len(parts) >= 3 else name


def _measured(
    name: str, results: Mapping[str, Any], groups: Mapping[str, list[Any]], document: Mapping[str, Any]
) -> Measured:
    metrics = {}
    for key, value in results.items():
        metric, comma, rule = key.partition(",")
        plain = _is_new(document) and not comma
        if plain or STDERR in metric or isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        error = results.get(f"{metric}{STDERR},{rule}" if comma else f"{metric}{STDERR}")
        metrics[metric, rule] = (number(value), number(error) if not isinstance(error, str) else None)
    config = mapping(mapping(document.get("configs")).get(name))
    sizes = mapping(mapping(document.get("n-samples")).get(name))
    size = number(sizes.get("effective"))
    return Measured(
        metrics,
        next((group for group, members in groups.items() if name in members), _task_name(name)),
        _shots(name, config, document),
        None if size is None else int(size),
        config,
    )


def _shots(name: str, config: Mapping[str, Any], document: Mapping[str, Any]) -> int | None:
    parts = name.split("|")
    places = (
        mapping(document.get("n-shot")).get(name),
        config.get("num_fewshot"),
        parts[2] if len(parts) >= 3 else None,
        mapping(document.get("config")).get("num_fewshot"),
    )
    known = next((value for place in places if (value := number(place)) is not None), None)
    return None if known is None else int(known)


def _model(document: Mapping[str, Any], file: Path) -> Identity:
    config = mapping(document.get("config"))
    general = mapping(document.get("config_general"))
    arguments = _arguments(config.get("model_args"))
    place = (
        text(document.get("model_name"))
        or text(arguments.get("pretrained"))
        or text(arguments.get("model"))
        or text(general.get("model_name"))
        or file.parent.name
    )
    extra = {
        "revision": config.get("model_revision") or general.get("model_revision"),
        "sha": (text(config.get("model_sha")) or text(general.get("model_sha")) or "")[:8],
        "dtype": arguments.get("dtype") or general.get("model_dtype"),
        **{name: str(document.get(key) or "")[:8] for key, name in CHAT.items()},
    }
    return identity(place, arguments, extra)


def _arguments(given: Any) -> Mapping[str, Any]:
    if isinstance(given, str):
        return dict(part.split("=", 1) for part in given.split(",") if "=" in part)
    return mapping(given)
