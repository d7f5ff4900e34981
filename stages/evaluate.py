"""Stage evaluate: measures what the training did, the aligned model against its base on held-out prompts."""

from pathlib import Path

import click

from karma_plugins import console, evaluation, manager, models, params, schemas, tables
from karma_plugins.evaluation import pictures
from karma_plugins.registry import selection
from karma_plugins.staging import kept, running


@click.command(cls=console.Guarded)
@click.option("--prompts", type=Path, default=Path("data/prompts.parquet"))
@click.option("--base", required=True, help="The model that was aligned.")
@click.option("--aligned", type=Path, default=Path("data/model"))
@click.option("--answers", type=Path, default=Path("data/heldout.parquet"))
@click.option("--metrics", type=Path, default=Path("metrics/evaluate.json"))
@click.option("--plot", type=Path, default=Path("plots/evaluate.csv"))
def main(prompts: Path, base: str, aligned: Path, answers: Path, metrics: Path, plot: Path) -> None:
    """Compare by section `evaluate` of params.yaml, on the tasks of section `profile`."""
    settings, measured = (
        params.load("evaluate", params.EvaluateSection),
        params.load("profile", params.ProfileSection),
    )
    registry = manager.load()
    jury = selection.jury(settings.judges, registry, where="evaluate.judges")
    profiler = selection.profiler(measured, registry)
    generator = selection.generator(
        settings.generator, settings.sampling, registry, where="evaluate.generator"
    )
    before = models.load("base", base, where="--base (train.base)")
    after = models.aligned(before, aligned)
    used = [profiler, generator, *(j.judge for j in jury)]
    inputs = [prompts, before.path, after.path, *profiler.files]
    with running("evaluate", settings, used, inputs=inputs, outs=[answers, metrics, plot]) as run:
        result = evaluation.evaluate(
            before, after, tables.read(prompts, schemas.PROMPTS), jury,
            profiler, measured.tasks, generator, settings, shards=kept("evaluate", used), report=run.progress,
        )  # fmt: skip
        tables.write(result.answers, answers, schemas.HELDOUT)
        tables.write_json(result.metrics, metrics)
        tables.write_csv(result.points, plot)
        run.metrics(result.metrics)
        run.figure("evaluation", pictures.evaluated, result.metrics)
        console.say(evaluation.table(result.metrics))


if __name__ == "__main__":
    main()
