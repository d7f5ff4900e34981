"""Stage judge: the jury scores and compares the answers; its votes become rewards, its biases a report."""

from pathlib import Path

import click

from karma_plugins import console, judging, manager, params, schemas, tables
from karma_plugins.registry import selection
from karma_plugins.staging import kept, running


@click.command(cls=console.Guarded)
@click.option("--prompts", type=Path, default=Path("data/prompts.parquet"))
@click.option("--responses", type=Path, default=Path("data/responses"))
@click.option("--kinship", type=Path, default=Path("data/kinship.parquet"))
@click.option("--recorded", type=Path, help="Folder of recorded judgements and comparisons.")
@click.option("--out", type=Path, default=Path("data/judge"))
@click.option("--metrics", type=Path, default=Path("metrics/judge.json"))
def main(
    prompts: Path, responses: Path, kinship: Path, recorded: Path | None, out: Path, metrics: Path
) -> None:
    """Judge the answers by section `judge` of params.yaml."""
    settings = params.load("judge", params.JudgeSection)
    jury = selection.jury(settings.judges, manager.load(), where="judge.judges")
    files = [responses / f"{model}.parquet" for model in params.load_models()]
    inputs = [prompts, responses, kinship, *([recorded] if recorded else [])]
    with running("judge", settings, [j.judge for j in jury], inputs=inputs, outs=[out, metrics]) as run:
        judged = judging.judge(
            tables.read(prompts, schemas.PROMPTS),
            tables.read_all(files, schemas.RESPONSES),
            tables.read(kinship, schemas.KINSHIP),
            jury,
            settings,
            recorded=tables.read_verdicts(recorded) if recorded else None,
            shards=kept("judge"),
            report=run.progress,
        )
        tables.write(judged.judgements, out / "judgements.parquet", schemas.JUDGEMENTS)
        tables.write(judged.comparisons, out / "comparisons.parquet", schemas.COMPARISONS)
        tables.write(judged.rewards, out / "rewards.parquet", schemas.REWARDS)
        tables.write(judged.bias, out / "bias.parquet", schemas.BIAS)
        tables.write_json(judged.counts, metrics)
        run.metrics(judged.counts)


if __name__ == "__main__":
    main()
