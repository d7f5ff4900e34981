"""`karma show`: pairs, answers and verdicts in the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import polars as pl


@click.command("show")
@click.argument("what", type=click.Choice(["pairs", "answers", "heldout", "verdicts"]))
@click.option("--model", help="Of this model; of pairs chosen or rejected.")
@click.option("--prompt", "prompt_id", help="Of this prompt_id, or the first digits of it.")
@click.option("--competency", help="Of this competency.")
@click.option("--judge", help="Of this judge (verdicts).")
@click.option("--status", help="Of this status: ok, tie, skipped or failed (verdicts).")
@click.option(
    "--margin", nargs=2, type=float, metavar="LEAST MOST", help="Of a margin in this range (pairs)."
)
@click.option(
    "--kinship", nargs=2, type=float, metavar="LEAST MOST", help="Of a kinship in this range (pairs)."
)
@click.option("--contains", metavar="TEXT", help="Whose texts contain this.")
@click.option("--limit", type=click.IntRange(1), help="So many at most.")
@click.option("--rev", metavar="REV", help="As a commit has them [default: the workspace].")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def command(what: str, rev: str | None, limit: int | None, as_json: bool, **filters: Any) -> None:
    """Show WHAT: pairs, the pool's answers, held-out answers of both models, or verdicts.

    Held-out answers that got worse come first. On a terminal a pager shows them; elsewhere they are printed.
    """
    from karma_plugins.study.reporting import collect, showing

    rows = showing.rows(collect(Path(), rev), what, filters)
    if limit:
        rows = rows.head(limit)
    lines = _json(rows) if as_json else _text(rows)
    if sys.stdout.isatty() and not as_json:
        click.echo_via_pager(lines)
    else:
        for line in lines:
            click.echo(line, nl=False)


def _json(rows: pl.DataFrame) -> Iterator[str]:
    for row in rows.iter_rows(named=True):
        yield json.dumps(row, ensure_ascii=True) + "\n"  # escapes every control character


def _text(rows: pl.DataFrame) -> Iterator[str]:
    """A block for each row: what is short in one line, then its texts."""
    from karma_plugins.study.reporting.showing import TEXTS

    for row in rows.iter_rows(named=True):
        short = [f"{key} {_number(value)}" for key, value in row.items() if key not in TEXTS]
        yield _harmless(" · ".join(short)) + "\n"
        yield from (_block(key, row) for key in TEXTS if key in row)
        yield "\n"
    yield f"{rows.height} shown.\n"


def _block(key: str, row: Mapping[str, Any]) -> str:
    text = "(none)" if row[key] is None else _harmless(str(row[key]))
    return f"  {key}: " + text.replace("\n", "\n    ") + "\n"


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "unknown" if value is None else str(value)


def _harmless(text: str) -> str:
    """The text with control characters, and those that turn its direction, escaped."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)
