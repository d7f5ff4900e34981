"""Stage curriculum: pairs the answers of kin models and orders the pairs from easy to hard."""

import warnings
from pathlib import Path

import click

from karma_plugins import console, curriculum, manager, params, schemas, tables
from karma_plugins.curriculum import dataset, pictures
from karma_plugins.registry import selection
from karma_plugins.staging import hashes, running


@click.command(cls=console.Guarded)
@click.option("--prompts", type=Path, default=Path("data/prompts.parquet"))
@click.option("--responses", type=Path, default=Path("data/responses"))
@click.option("--jury", type=Path, default=Path("data/jury"))
@click.option(
    "--verdicts", type=Path, default=Path("data/verdicts"), help="Read for `perplexity` and `likelihood`."
)
@click.option("--kinship", type=Path, default=Path("data/kinship.parquet"))
@click.option("--profile", type=Path, help="Folder of profiles, for pairings such as `delta`.")
@click.option("--out", type=Path, default=Path("data/pairs"))
@click.option("--metrics", type=Path, default=Path("metrics/curriculum.json"))
@click.option("--plot", type=Path, default=Path("plots/curriculum.csv"))
def main(
    prompts: Path,
    responses: Path,
    jury: Path,
    verdicts: Path,
    kinship: Path,
    profile: Path | None,
    out: Path,
    metrics: Path,
    plot: Path,
) -> None:
    """Make the preference dataset by section `curriculum` of params.yaml."""
    settings = params.load("curriculum", params.CurriculumSection)
    pairing = selection.pairing(settings, manager.load())
    pool = list(params.load_models())
    files = [responses / f"{model}.parquet" for model in pool]
    scores = profile and tables.read_all([profile / m / "scores.parquet" for m in pool], schemas.SCORES)
    inputs = [prompts, responses, jury, verdicts, kinship, *([profile] if profile else [])]
    outs = [out, metrics, plot]
    with running("curriculum", settings, [pairing], inputs=inputs, outs=outs) as run:
        judges = tables.read(jury / "judges.parquet", schemas.JUDGES)
        scoring = curriculum.scoring_judges(settings, judges)
        built = curriculum.build(
            tables.read(prompts, schemas.PROMPTS),
            tables.scan_all(files, schemas.RESPONSES),
            tables.scan(jury / "rewards.parquet", schemas.REWARDS),
            tables.read(kinship, schemas.KINSHIP),
            pairing,
            settings,
            tables.scan_all([verdicts / j / "judgements.parquet" for j in scoring], schemas.JUDGEMENTS),
            scores,
        )
        bias = tables.read(jury / "bias.parquet", schemas.BIAS)
        hashed = [prompts, *files, jury / "rewards.parquet", kinship]
        dataset.write(built, out, settings, dataset.provenance(judges, bias, hashes(hashed)))
        tables.write_json(built.report, metrics)
        tables.write_csv(curriculum.points(built.pairs), plot)
        run.metrics(built.report)
        if stands := built.report.get("target"):
            console.say(curriculum.target.sentence(stands))
        if warning := curriculum.target.warning(stands):
            warnings.warn(warning, stacklevel=1)
        run.figure("difficulty", pictures.difficulty, built.pairs)
        run.figure("dropped", pictures.funnel, built.report)


if __name__ == "__main__":
    main()
