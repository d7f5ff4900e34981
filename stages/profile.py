"""Stage profile: measures one model's competencies on benchmark tasks."""

from pathlib import Path

import click

from karma_plugins import console, manager, models, params, profiling, schemas, tables
from karma_plugins.registry import selection
from karma_plugins.staging import kept, running


@click.command(cls=console.Guarded)
@click.argument("model")
@click.option("--out", type=Path, default=Path("data/profile"))
def main(model: str, out: Path) -> None:
    """Profile MODEL, a name in section `models` of params.yaml, by section `profile`."""
    settings, folder = params.load("profile", params.ProfileSection), out / model
    profiler = selection.profiler(settings, manager.load())
    candidate = models.load(model, params.load_model(model).path)
    inputs = [candidate.path, *profiler.files]
    with running("profile", settings, [profiler], item=model, inputs=inputs, outs=[folder]) as run:
        profile = profiling.profile(candidate, profiler, settings.tasks, shards=kept("profile", [profiler]))
        tables.write(profile.scores, folder / "scores.parquet", schemas.SCORES)
        tables.write(profile.items, folder / "items.parquet", schemas.ITEMS)
        run.metrics(profiling.competencies(profile.scores))


if __name__ == "__main__":
    main()
