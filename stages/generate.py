"""Stage generate: one model answers the training prompts."""

from pathlib import Path

import click

from karma_plugins import console, generation, manager, models, params, schemas, tables
from karma_plugins.registry import selection
from karma_plugins.staging import kept, running


@click.command(cls=console.Guarded)
@click.argument("model")
@click.option("--prompts", type=Path, default=Path("data/prompts.parquet"))
@click.option("--out", type=Path, default=Path("data/responses"))
def main(model: str, prompts: Path, out: Path) -> None:
    """Have MODEL, a name in section `models` of params.yaml, answer, by section `generate`."""
    settings, entry = params.load("generate", params.GenerateSection), params.load_model(model)
    generator = selection.generator(entry.generator, entry.sampling, manager.load(), where=f"models.{model}")
    candidate, table = models.load(model, entry.path), out / f"{model}.parquet"
    inputs, outs = [prompts, candidate.path], [table]
    with running("generate", settings, [generator], item=model, entry=entry, inputs=inputs, outs=outs) as run:
        chosen = tables.read(prompts, schemas.PROMPTS)
        responses = generation.generate(
            chosen, candidate, generator, settings, shards=kept("generate", [generator]), report=run.progress
        )
        tables.write(responses, table, schemas.RESPONSES)
        run.metrics(generation.summary(responses))


if __name__ == "__main__":
    main()
