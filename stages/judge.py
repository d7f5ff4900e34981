"""Stage judge: one judge scores or compares the answers."""

from pathlib import Path

import click

from karma_plugins import console, manager, params, schemas, tables
from karma_plugins.judging.hearing import heard, summary
from karma_plugins.registry import selection
from karma_plugins.staging import kept, running, watched


@click.command(cls=console.Guarded)
@click.argument("judge")
@click.option("--prompts", type=Path, default=Path("data/prompts.parquet"))
@click.option("--responses", type=Path, default=Path("data/responses"))
@click.option("--kinship", type=Path, default=Path("data/kinship.parquet"))
@click.option("--out", type=Path, default=Path("data/verdicts"))
def main(judge: str, prompts: Path, responses: Path, kinship: Path, out: Path) -> None:
    """Have JUDGE, a name in judge.judges of params.yaml, judge the answers."""
    entry = params.load_judge(judge)
    bound = selection.judge(judge, entry, manager.load(), where="judge.judges")
    files = [responses / f"{model}.parquet" for model in params.load_models()]
    read = selection.read_by(bound, entry, kinship)
    watched("judge", judge, read)
    settings, folder = params.JudgeSection(judges={judge: entry}), out / judge
    inputs = [prompts, responses, *read]
    with running("judge", settings, [bound], item=judge, inputs=inputs, outs=[folder]) as run:
        verdicts = heard(
            tables.read(prompts, schemas.PROMPTS),
            tables.scan_all(files, schemas.RESPONSES),
            bound,
            entry,
            kinship=tables.read(kinship, schemas.KINSHIP) if kinship in read else None,
            recorded=tables.read_verdicts(Path(entry.reads)) if bound.plugin.recall and entry.reads else None,
            shards=kept("judge", [bound]),
            report=run.progress,
        )
        tables.write_verdicts(verdicts, folder)
        run.metrics(summary(tables.scan_verdicts({judge: folder})[judge]))


if __name__ == "__main__":
    main()
