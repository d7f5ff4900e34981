"""Pairs and held-out answers as rows that the page filters, at most as many as a page stays usable with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from karma_plugins.study.reporting.collecting import Run

#: A page holds at most so many rows of a table, and about so many bytes of their texts.
ROWS, BYTES = 10_000, 7_000_000
#: Longer texts are cut on the page; the table has them whole.
LONGEST = 4_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a table, and how many it has; `how` says which were taken where they are fewer."""

    columns: tuple[str, ...]
    rows: list[list[Any]]
    whole: int
    how: str


def pairs(run: Run) -> Rows | None:
    """Pairs with their texts and what each judge said of both answers; null where there are none.

    Columns as PAIR_COLUMNS; `verdicts` is a list of judge, score of chosen, of rejected and reason; where a
    judge compared the two its score of chosen is the probability that it is the better one, `order` says
    which was shown first. Where there are too many, every k-th in training order is taken.
    """
    table = run.table("pairs")
    if table is None:
        return None
    texts = _texts(table.sort("order"))
    limit = _limit(texts, ("prompt", "chosen", "rejected"))
    some = _every(texts, limit)
    said = _verdicts(run, some)
    rows = [
        [*(_shown(value) for value in row), said.get(key, [])]
        for key, row in zip(
            some.select("chosen_id", "rejected_id").rows(),
            some.select(*PAIR_COLUMNS[:-1]).rows(),
            strict=True,
        )
    ]
    how = "" if some.height == texts.height else f"every {-(-texts.height // limit)}th pair in training order"
    return Rows(PAIR_COLUMNS, rows, texts.height, how)


PAIR_COLUMNS = (
    "order",
    "phase",
    "competency",
    "prompt_id",
    "prompt",
    "chosen",
    "rejected",
    "chosen_model",
    "rejected_model",
    "chosen_reward",
    "rejected_reward",
    "margin",
    "kinship",
    "difficulty",
    "verdicts",
)
HELDOUT_COLUMNS = (
    "prompt_id",
    "sample",
    "competency",
    "prompt",
    "reference",
    "base",
    "aligned",
    "base_reward",
    "aligned_reward",
    "change",
)


def heldout(run: Run) -> Rows | None:
    """Held-out answers side by side, those that got worse first; null where there are none."""
    table, prompts = run.table("heldout"), run.table("prompts")
    if table is None or prompts is None:
        return None
    prompt_texts = prompts.select("prompt_id", "reference", prompt=content("messages", roles=True))
    whole = (
        table.with_columns(change=pl.col("aligned_reward") - pl.col("base_reward"))
        .join(prompt_texts, on="prompt_id", how="left", maintain_order="left")
        .sort("change", "prompt_id", "sample", nulls_last=True)
    )
    limit = _limit(whole, ("prompt", "base", "aligned"))
    some = whole.head(limit)
    rows = [[_shown(value) for value in row] for row in some.select(*HELDOUT_COLUMNS).iter_rows()]
    how = "" if some.height == whole.height else "those that got worse most"
    return Rows(HELDOUT_COLUMNS, rows, whole.height, how)


def content(column: str, *, roles: bool = False) -> pl.Expr:
    """A conversation as text; with roles where it has more than one message."""
    content = pl.element().struct.field("content")
    whole = pl.concat_str([pl.element().struct.field("role"), pl.lit(": "), content], ignore_nulls=True)
    plain = pl.col(column).list.eval(content).list.join("\n\n", ignore_nulls=True)
    if not roles:
        return plain
    text = pl.col(column).list.eval(whole).list.join("\n\n", ignore_nulls=True)
    return pl.when(pl.col(column).list.len() > 1).then(text).otherwise(plain)


def _texts(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(
        prompt=content("prompt", roles=True), chosen=content("chosen"), rejected=content("rejected")
    )


def _limit(table: pl.DataFrame, texts: Sequence[str]) -> int:
    """How many rows fit, by the mean bytes of their texts as they are shown."""
    if table.is_empty():
        return 1
    size = pl.sum_horizontal(pl.col(name).str.len_bytes().clip(0, LONGEST).fill_null(0) for name in texts)
    mean = float(table.select(size.mean()).item()) + 150.0
    return max(1, min(ROWS, int(BYTES / mean)))


def _every(table: pl.DataFrame, limit: int) -> pl.DataFrame:
    """Every k-th row, so that at most `limit` are left."""
    return table if table.height <= limit else table.gather_every(-(-table.height // limit))


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4) if value == value else None
    if isinstance(value, str) and len(value) > LONGEST:
        return f"{value[:LONGEST]} … [cut: {len(value)} characters in all]"
    return value


def _verdicts(run: Run, some: pl.DataFrame) -> dict[tuple[str, str], list[list[Any]]]:
    """What judges said of both answers of each pair, by chosen_id and rejected_id."""
    judgements, comparisons = run.verdicts()
    ids = pl.concat([some["chosen_id"], some["rejected_id"]]).unique()
    scored: dict[str, dict[str, Mapping[str, Any]]] = {}
    wanted = (
        judgements.filter(pl.col("response_id").is_in(ids.implode())).sort("judge", "response_id").collect()
    )
    for row in wanted.iter_rows(named=True):
        scored.setdefault(row["response_id"], {})[row["judge"]] = row
    keys = some.select("chosen_id", "rejected_id")
    compared = _compared(comparisons, keys)
    verdicts: dict[tuple[str, str], list[list[Any]]] = {}
    for chosen, rejected in keys.iter_rows():
        mine, theirs = scored.get(chosen, {}), scored.get(rejected, {})
        said = [
            [
                judge,
                *(_score(side.get(judge)) for side in (mine, theirs)),
                _reasons(mine.get(judge), theirs.get(judge)),
                "",
            ]
            for judge in sorted(mine.keys() | theirs.keys())
            if any((side.get(judge) or {}).get("status") != "skipped" for side in (mine, theirs))
        ]
        verdicts[chosen, rejected] = said + compared.get((chosen, rejected), [])
    return verdicts


def _compared(comparisons: pl.LazyFrame, keys: pl.DataFrame) -> dict[tuple[str, str], list[list[Any]]]:
    """Comparisons of the two answers of a pair, as seen from the chosen one."""
    forth = keys.lazy().rename({"chosen_id": "response_a", "rejected_id": "response_b"})
    back = keys.lazy().rename({"chosen_id": "response_b", "rejected_id": "response_a"})
    by_pair: dict[tuple[str, str], list[list[Any]]] = {}
    for side, is_a in ((forth, True), (back, False)):
        rows = comparisons.join(side, on=["response_a", "response_b"], how="semi").sort(
            "judge", "response_a", "order"
        )
        for row in rows.collect().iter_rows(named=True):
            a, b, p = row["response_a"], row["response_b"], row["p_a"]
            better = p if is_a or p is None else 1.0 - p
            shown = "chosen first" if (row["order"] == "ab") == is_a else "rejected first"
            said = [row["judge"], _shown(better), None, row["reason"] or "", shown]
            by_pair.setdefault((a, b) if is_a else (b, a), []).append(said)
    return by_pair


def _score(row: Mapping[str, Any] | None) -> Any:
    return _shown(row["score"]) if row else None


def _reasons(*rows: Mapping[str, Any] | None) -> str:
    sides = zip(("chosen", "rejected"), rows, strict=True)
    return "; ".join(f"{side}: {row['reason']}" for side, row in sides if row and row["reason"])
