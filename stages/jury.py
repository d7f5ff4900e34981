"""Stage jury: the verdicts of all judges become rewards, their habits a report."""

from pathlib import Path

import click

from karma_plugins import console, params, schemas, tables
from karma_plugins.judging import pictures
from karma_plugins.judging.deciding import decide
from karma_plugins.staging import running


@click.command(cls=console.Guarded)
@click.option("--responses", type=Path, default=Path("data/responses"))
@click.option("--verdicts", type=Path, default=Path("data/verdicts"))
@click.option("--kinship", type=Path, default=Path("data/kinship.parquet"))
@click.option("--out", type=Path, default=Path("data/jury"))
@click.option("--metrics", type=Path, default=Path("metrics/jury.json"))
def main(responses: Path, verdicts: Path, kinship: Path, out: Path, metrics: Path) -> None:
    """Decide by section `jury` of params.yaml, on the verdicts of the judges in section `judge`."""
    settings = params.load("jury", params.JurySection)
    files = [responses / f"{model}.parquet" for model in params.load_models()]
    with running("jury", settings, inputs=[responses, verdicts, kinship], outs=[out, metrics]) as run:
        decided = decide(
            tables.scan_all(files, schemas.RESPONSES),
            tables.scan_verdicts({judge: verdicts / judge for judge in params.load_judges()}),
            tables.read(kinship, schemas.KINSHIP),
            settings,
        )
        tables.write(decided.rewards, out / "rewards.parquet", schemas.REWARDS)
        tables.write(decided.bias, out / "bias.parquet", schemas.BIAS)
        tables.write(decided.judges, out / "judges.parquet", schemas.JUDGES)
        tables.write_json(decided.counts, metrics)
        run.metrics(decided.counts)
        run.figure("bias", pictures.bias, decided.bias)


if __name__ == "__main__":
    main()
