"""Stage kinship: measures how alike the models are, from their profiles and answers, and finds families."""

from pathlib import Path

import click

from karma_plugins import console, kinship, manager, models, params, schemas, tables
from karma_plugins.kinship import pictures
from karma_plugins.registry import selection
from karma_plugins.staging import running


@click.command(cls=console.Guarded)
@click.option("--profile", type=Path, default=Path("data/profile"))
@click.option("--responses", type=Path, help="Folder of answers, for metrics such as `style`.")
@click.option("--prompts", type=Path, help="Table of prompts, for the answers' competencies.")
@click.option("--out", type=Path, default=Path("data/kinship.parquet"))
@click.option("--families", type=Path, default=Path("data/families.parquet"))
@click.option("--metrics", type=Path, default=Path("metrics/kinship.json"))
@click.option("--plot", type=Path, default=Path("plots/kinship.csv"))
def main(
    profile: Path, responses: Path | None, prompts: Path | None, out: Path, families: Path, metrics: Path,
    plot: Path,
) -> None:  # fmt: skip
    """Measure kinship by the metrics that section `kinship` of params.yaml names."""
    settings = params.load("kinship", params.KinshipSection)
    used = selection.metrics(settings, manager.load())
    pool = [models.load(name, entry.path) for name, entry in params.load_models().items()]
    scores = tables.read_all([profile / m.name / "scores.parquet" for m in pool], schemas.SCORES)
    items = tables.read_all([profile / m.name / "items.parquet" for m in pool], schemas.ITEMS)
    answers = responses and tables.read_all(
        [responses / f"{m.name}.parquet" for m in pool], schemas.RESPONSES
    )
    questions = prompts and tables.read(prompts, schemas.PROMPTS)
    inputs, outs = [p for p in (profile, responses, prompts) if p], [out, families, metrics, plot]
    with running("kinship", settings, used, inputs=inputs, outs=outs) as run:
        table = kinship.kinship(
            pool, scores, items, used, primary=settings.metric,
            responses=answers, prompts=questions, seed=settings.seed,
        )  # fmt: skip
        tables.write(table, out, schemas.KINSHIP)
        kin = kinship.families(table, settings.seed)
        tables.write(kin, families, schemas.FAMILIES)
        tables.write_json(kinship.summary(table), metrics)
        tables.write_csv(kinship.points(table), plot)
        run.metrics(kinship.summary(table))
        run.figure("kinship", pictures.kinship_heatmap, table)
        for competency in table.filter("primary")["competency"].drop_nulls().unique().sort():
            run.figure(f"kinship-{competency}", pictures.kinship_heatmap, table, competency)
        run.figure("competence", pictures.competence_profiles, scores)
        console.say(
            "\n".join([f"{settings.metric}:", *kinship.sentences(kin.filter(metric=settings.metric))])
        )


if __name__ == "__main__":
    main()
