"""`karma import`: read recorded answers and preference sets of others into a folder for the stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from karma_plugins.console import say

if TYPE_CHECKING:
    from karma_plugins.importers.recorded_folder import RecordedFolder

F = TypeVar("F", bound=Callable[..., Any])


def _source(metavar: str) -> Callable[[F], F]:
    return click.argument("source", type=Path, metavar=metavar)


_out = click.option("--out", type=Path, required=True, metavar="FOLDER", help="Folder to write.")


@click.group("import")
def command() -> None:
    """Read recorded answers and preference sets of others.

    Writes a folder with prompts.jsonl, models/NAME/, verdicts/, a report of what was dropped and why, and
    models.yaml, the block to paste into params.yaml.
    """


@command.command("alpaca-eval")
@_source("FOLDER")
@_out
@click.option("--scores", type=Path, help="CSV of benchmark scores [default: FOLDER/capability_vectors.csv].")
def alpaca_eval_command(source: Path, out: Path, scores: Path | None) -> None:
    """AlpacaEval: answers and verdicts.

    Reads FOLDER/results/MODEL/model_outputs.json and FOLDER/results/MODEL/JUDGE/annotations.json.

    Prints each model's win rate over its baseline, recomputed from what was imported.
    """
    from karma_plugins.importers import alpaca_eval

    found = alpaca_eval.read(source, scores)
    _write(found, out)
    for row in alpaca_eval.win_rates(out).iter_rows(named=True):
        rate = "  none" if row["win_rate"] is None else f"{row['win_rate']:6.2%}"
        failed = f", {row['failed']} failed" if row["failed"] else ""
        say(f"{row['judge']}: {row['model']} beats {row['baseline']} in {rate} of {row['n']}{failed}")


@command.command("ultrafeedback")
@_source("FILE")
@_out
def ultrafeedback_command(source: Path, out: Path) -> None:
    """UltraFeedback: answers rated by aspect.

    FILE is .json, .jsonl (maybe .gz) or .parquet, or a folder of them.
    """
    from karma_plugins.importers import ultrafeedback

    _write(ultrafeedback.read(source), out)


@command.command("ultrafeedback-binarized")
@_source("FILE")
@_out
def ultrafeedback_binarized_command(source: Path, out: Path) -> None:
    """UltraFeedback in pairs, with scores.

    FILE is .json, .jsonl (maybe .gz) or .parquet, or a folder of them.
    """
    from karma_plugins.importers import ultrafeedback_binarized

    _write(ultrafeedback_binarized.read(source), out)


@command.command("hh-rlhf")
@_source("FILE")
@_out
def hh_rlhf_command(source: Path, out: Path) -> None:
    """HH-RLHF: pairs of dialogues.

    FILE is .json, .jsonl (maybe .gz) or .parquet, or a folder of them.
    """
    from karma_plugins.importers import hh_rlhf

    _write(hh_rlhf.read(source), out)


def _write(found: RecordedFolder, out: Path) -> None:
    """Write the folder, say the counts and what to do next."""
    found.write(out)
    report = found.report()
    say(
        f"{out}: "
        + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in report["counts"].items())
    )
    for judge, counts in report["judges"].items():
        say(f"verdicts of {judge}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    say(f"Paste {out / 'models.yaml'} into params.yaml; report: {out / 'report.json'}.")
