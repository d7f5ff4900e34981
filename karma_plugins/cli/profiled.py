"""What `karma kinship` and `karma family` share: options, and kinship measured from files of profiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from karma_plugins.cli.plugin_names import completing
from karma_plugins.errors import EmptyResultError, ParamsError

if TYPE_CHECKING:
    import polars as pl

    from karma_plugins.importers.recorded_profiles import Profiles

F = TypeVar("F", bound=Callable[..., Any])

FROM_ANSWERS = ("style", "answers")
FROM_ITEMS = ("rare-errors", "capa", "error-consistency")


def options(command: F) -> F:
    """Arguments and options of both commands."""
    for option in reversed(
        (
            click.argument("files", type=Path, nargs=-1, required=True, metavar="FILE..."),
            click.option(
                "--metric",
                "metrics",
                multiple=True,
                metavar="NAME",
                shell_complete=completing("kinship_metrics"),
                help="A kinship metric; repeat for more.",
            ),
            click.option(
                "--option",
                "settings",
                multiple=True,
                metavar="METRIC.KEY=VALUE",
                help="An option of a metric, such as capa.kind=hard.",
            ),
            click.option(
                "--competency",
                "competencies",
                multiple=True,
                metavar="NAME=TASK,TASK",
                help="Take these tasks alone, as one competency; repeat for more.",
            ),
            click.option(
                "--model",
                "places",
                multiple=True,
                metavar="NAME=FOLDER",
                help="Where a model's weights are, for the metric 'weights'.",
            ),
            click.option(
                "--seed",
                type=click.IntRange(0, 2**32 - 1),
                default=0,
                show_default=True,
                help="Seed of the bootstrap.",
            ),
        )
    ):
        command = option(command)
    return command


def read(files: Sequence[Path], competencies: Sequence[str]) -> Profiles:
    """The profiles in some files."""
    from karma_plugins.importers import profiles

    groups = {name: tasks.split(",") for name, tasks in _assigned(competencies, "--competency").items()}
    return profiles.read(files, groups)


def usual_metrics(profiles: Profiles) -> list[str]:
    """The metrics that can be measured from what the files hold."""
    from_items = FROM_ITEMS if profiles.items["choice"].count() else FROM_ITEMS[2:]
    return [
        *(from_items if profiles.items.height else ()),
        *(["capability"] if profiles.scores.height else []),
        *(FROM_ANSWERS if profiles.responses.height else ()),
    ]


def measure(
    profiles: Profiles,
    metrics: Sequence[str],
    settings: Sequence[str],
    places: Sequence[str],
    seed: int,
) -> pl.DataFrame:
    """Table kinship by some metrics; the first is primary."""
    from karma_plugins import kinship, models
    from karma_plugins.contracts import KinshipMetric
    from karma_plugins.registry import manager

    chosen = _metric_options(settings)
    known = {name: models.load(name, Path(path)) for name, path in _assigned(places, "--model").items()}
    registry = manager.load()
    bound = [
        registry.bind(KinshipMetric, name, chosen.pop(name, {}), where="--metric")
        for name in dict.fromkeys(metrics)
    ]
    if chosen:
        raise ParamsError(
            f"--option: '{next(iter(chosen))}' is no metric that is measured. Add it with --metric."
        )
    pool = {model.name: model for model in profiles.models} | known
    if len(pool) < 2:
        counts = ", ".join(f"{key.replace('_', ' ')} {n}" for key, n in profiles.counts.items() if n)
        read = f" (read: {counts})" if counts else ""
        raise EmptyResultError(f"only one model is profiled ('{next(iter(pool))}'){read}. Kinship needs two.")
    return kinship.kinship(
        list(pool.values()), profiles.scores, profiles.items, bound, primary=metrics[0],
        responses=profiles.responses if profiles.responses.height else None, seed=seed,
    )  # fmt: skip


def _metric_options(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    from karma_plugins.params import yaml

    by_metric: dict[str, dict[str, Any]] = {}
    for key, value in _assigned(settings, "--option").items():
        metric, dot, name = key.partition(".")
        if not dot:
            raise ParamsError(f"--option {key}: must be METRIC.KEY=VALUE.")
        try:
            by_metric.setdefault(metric, {})[name] = yaml.parse(value)
        except yaml.YamlError as error:
            raise ParamsError(f"--option {key}={value}: not readable as YAML ({error}).") from error
    return by_metric


def _assigned(texts: Sequence[str], option: str) -> Mapping[str, str]:
    """NAME=VALUE texts as a mapping."""
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ParamsError(f"{option} {text}: must be NAME=VALUE.")
        values[name] = value
    return values
