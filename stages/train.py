"""Stage train: aligns the base model on the pairs, phase by phase, in the order of the curriculum."""

from pathlib import Path

import click

from karma_plugins import console, manager, models, params, schemas, tables, training
from karma_plugins.curriculum import dataset
from karma_plugins.judging.panel import panel
from karma_plugins.registry import selection
from karma_plugins.staging import is_first, karma_folder, launched, running
from karma_plugins.training import pictures


@click.command(cls=console.Guarded)
@click.option("--pairs", type=Path, default=Path("data/pairs"))
@click.option("--prompts", type=Path, default=Path("data/prompts.parquet"))
@click.option("--out", type=Path, default=Path("data/model"))
@click.option("--metrics", type=Path, default=Path("metrics/train.json"))
@click.option("--plot", type=Path, default=Path("plots/train.csv"))
def main(pairs: Path, prompts: Path, out: Path, metrics: Path, plot: Path) -> None:
    """Train by section `train` of params.yaml."""
    settings = params.load("train", params.TrainSection)
    if launched("train", settings.accelerate):
        return
    objective = selection.objective(settings, manager.load())
    jurors = selection.rewarding(settings, manager.load())
    base = models.load("base", settings.base, where="params.yaml, train.base")
    used = [objective, *(juror.judge for juror in jurors)]
    inputs = [pairs, base.path, *([prompts] if jurors else [])]
    with running("train", settings, used, inputs=inputs, outs=[out, metrics, plot]) as run:
        trained = training.train(
            tables.read(pairs / dataset.TRAIN, schemas.PAIRS), base, objective, settings,
            output=out, checkpoints=karma_folder() / "train", report=run.progress,
            judges=panel(
                jurors, settings.reward_weights, where=f"train.objectives.{settings.objective}.reward.judges"
            ),
            prompts=tables.read(prompts, schemas.PROMPTS) if jurors else None,
        )  # fmt: skip
        if not is_first():
            return
        tables.write_json(trained.metrics, metrics)
        tables.write_csv(trained.curve, plot)
        run.metrics(trained.metrics)
        run.figure("training", pictures.training_curves, trained.curve)
        run.model(out, trained_on=pairs, register=settings.register_as)


if __name__ == "__main__":
    main()
