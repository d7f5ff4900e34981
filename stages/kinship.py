"""Stage kinship: measures how alike the models are, from their profiles."""

from pathlib import Path

import click

from karma_plugins import console, kinship, manager, models, params, schemas, tables
from karma_plugins.kinship import pictures
from karma_plugins.registry import selection
from karma_plugins.staging import running


@click.command(cls=console.Guarded)
@click.option("--profile", type=Path, default=Path("data/profile"))
@click.option("--responses", type=Path, help="Folder of answers, for the metric `answers`.")
@click.option("--out", type=Path, default=Path("data/kinship.parquet"))
@click.option("--metrics", type=Path, default=Path("metrics/kinship.json"))
@click.option("--plot", type=Path, default=Path("plots/kinship.csv"))
def main(profile: Path, responses: Path | None, out: Path, metrics: Path, plot: Path) -> None:
    """Measure kinship by the metrics that section `kinship` of params.yaml names."""
    settings = params.load("kinship", params.KinshipSection)
    used = selection.metrics(settings, manager.load())
    pool = [models.load(name, entry.path) for name, entry in params.load_models().items()]
    scores = tables.read_all([profile / m.name / "scores.parquet" for m in pool], schemas.SCORES)
    items = tables.read_all([profile / m.name / "items.parquet" for m in pool], schemas.ITEMS)
    answers = responses and tables.read_all(
        [responses / f"{m.name}.parquet" for m in pool], schemas.RESPONSES
    )
    with running("kinship", settings, used, inputs=[profile], outs=[out, metrics, plot]) as run:
        table = kinship.kinship(
            pool, scores, items, used, primary=settings.metric, responses=answers, seed=settings.seed
        )
        tables.write(table, out, schemas.KINSHIP)
        tables.write_json(kinship.summary(table), metrics)
        tables.write_csv(kinship.points(table), plot)
        run.metrics(kinship.summary(table))
        run.figure("kinship", pictures.kinship_heatmap, table)
        for competency in table.filter("primary")["competency"].drop_nulls().unique().sort():
            run.figure(f"kinship-{competency}", pictures.kinship_heatmap, table, competency)
        run.figure("competence", pictures.competence_profiles, scores)


if __name__ == "__main__":
    main()
