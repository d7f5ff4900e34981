"""One plugin of each other kind: an echo, scores from a file, widest margins first, no training at all."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from karma_plugins import (
    Generator,
    KarmaError,
    Model,
    Objective,
    Options,
    Pairing,
    PairingContext,
    Profile,
    Profiler,
    Reply,
    Request,
    TrainingJob,
    hookimpl,
    schemas,
)


def echo(model: Model, requests: Sequence[Request], options: Options) -> list[Reply]:
    """Every prompt's last message, said again."""
    return [Reply(request.messages[-1]["content"], "stop") for request in requests]


def profile(model: Model, tasks: Mapping[str, Sequence[str]], options: Options) -> Profile:
    """The scores in `demo.json` beside the model, competency -> share of right answers; null without one."""
    path = model.path / "demo.json"
    scores = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows = [
        {
            "model": model.name,
            "competency": competency,
            "task": task,
            "metric": "demo",
            "score": scores.get(competency),
        }
        for competency, names in tasks.items()
        for task in names
    ]
    return Profile(
        scores=pl.DataFrame(rows, schema=schemas.SCORES.columns),
        items=pl.DataFrame(schema=schemas.ITEMS.columns),
    )


def pair(candidates: pl.DataFrame, context: PairingContext, options: Options) -> pl.DataFrame:
    """Every pair, the widest margin first."""
    return candidates.with_columns(dropped=pl.lit(None, pl.String), priority=-pl.col("margin"))


def keep(job: TrainingJob, options: Options) -> None:
    """The model as it is: what any objective is to be compared with."""
    if job.start.folder is None:
        raise KarmaError("Objective 'demo' copies weights of a folder; train.base names a model of a hub.")
    job.output.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(job.start.folder).iterdir()):
        if path.suffix in (".json", ".safetensors", ".jinja"):
            shutil.copyfile(path, job.output / path.name)
    job.report({"loss": 0.0}, job.steps)


@hookimpl
def karma_register_generators() -> list[Generator]:
    """The generator."""
    return [Generator(name="demo", generate=echo, keeps_shards=False)]


@hookimpl
def karma_register_profilers() -> list[Profiler]:
    """The profiler."""
    return [Profiler(name="demo", profile=profile)]


@hookimpl
def karma_register_pairings() -> list[Pairing]:
    """The pairing."""
    return [Pairing(name="demo", pair=pair)]


@hookimpl
def karma_register_objectives() -> list[Objective]:
    """The objective."""
    return [Objective(name="demo", train=keep)]
