"""`karma family`: which kinship metric finds each model's true parent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from karma_plugins.cli import profiled
from karma_plugins.console import say


@click.command("family")
@profiled.options
@click.option(
    "--parents",
    type=Path,
    required=True,
    metavar="PARENTS.csv",
    help="Columns model and direct_parent, empty for none.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, each child's rank too.")
def command(
    files: Sequence[Path],
    metrics: Sequence[str],
    settings: Sequence[str],
    competencies: Sequence[str],
    places: Sequence[str],
    seed: int,
    parents: Path,
    as_json: bool,
) -> None:
    """Rank every model's true parent among all other models by each kinship metric.

    FILE is as for `karma kinship`. Prints recall@1 (share of children whose parent is nearest) and the mean
    reciprocal rank of the parent, the parent's kinship minus that of the nearest other model (a tie where its
    interval holds 0), with 95% intervals over the children; and the share of children that are of their
    parent's family.
    """
    from karma_plugins.kinship import family

    profiles = profiled.read(files, competencies)
    names = list(metrics) or profiled.usual_metrics(profiles)
    known = family.read_parents(parents)
    ranks = family.ranks(
        profiled.measure(profiles, names, [*settings, *_no_interval(names)], places, seed), known
    )
    result = family.benchmark(ranks, seed)
    children = ranks["model"].n_unique()
    if as_json:
        document = {
            "children": children,
            "children_left_out": sorted(set(known) - set(ranks["model"])),
            "enough_to_compare": children >= family.ENOUGH_CHILDREN,
            "metrics": result,
            "ranks": ranks.to_dicts(),
        }
        say(json.dumps(document, indent=1, sort_keys=True))
        return
    say(
        f"{'metric':20} {'children':>8}  {'recall@1':22} {'mean reciprocal rank':22} {'chance':6} "
        f"{'parent - nearest':25} same family"
    )
    for name, row in result.items():
        recall, mrr = (_interval(row[key]) for key in ("recall_at_1", "mrr"))
        margin = "unknown" if row["parent_minus_nearest"] is None else _signed(row["parent_minus_nearest"])
        say(
            f"{name:20} {row['children']:8}  {recall:22} {mrr:22} {row['chance']:.3f}  {margin:25} "
            f"{row['same_family']:.2f}"
        )
    if len(known) > children:
        say(f"Left out: {len(known) - children} children that are not among the models with their parent.")
    if children < family.ENOUGH_CHILDREN:
        say(f"Fewer than {family.ENOUGH_CHILDREN} children: this does not show that one metric is better.")


def _no_interval(names: Sequence[str]) -> list[str]:
    """Ranks need no interval of the kinship itself."""
    resampled = (*profiled.FROM_ITEMS, "capability")
    return [f"{name}.bootstrap=0" for name in names if name in resampled]


def _interval(row: dict[str, float]) -> str:
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _signed(row: dict[str, float]) -> str:
    return f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
