"""Tables: checked against their schema, the same rows giving the same bytes, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from karma_plugins import schemas, tables
from karma_plugins.errors import TableError
from karma_plugins.schemas import JUDGEMENTS


def rewards(n: int = 3) -> pl.DataFrame:
    rows = [
        {
            "response_id": f"r{i}", "prompt_id": "p", "reward": i / 10, "n_judges": 1, "judges": "x",
            "disagreement": None,
        }
        for i in range(n)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=schemas.REWARDS.columns)


def test_same_rows_in_any_order_are_the_same_bytes(tmp_path: Path) -> None:
    tables.write(rewards(500), tmp_path / "a.parquet", schemas.REWARDS)
    tables.write(
        rewards(500).sample(fraction=1.0, shuffle=True, seed=3), tmp_path / "b.parquet", schemas.REWARDS
    )
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert tables.read(tmp_path / "a.parquet", schemas.REWARDS).equals(rewards(500).sort("response_id"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.rename({"reward": "rewards"}),
            "column 'reward' of table rewards is missing. Did you mean 'rewards'?",
        ),
        (lambda f: f.with_columns(x=1), "column 'x' is not in table rewards"),
        (lambda f: f.with_columns(pl.col("reward").cast(pl.String)), "column 'reward' is String"),
        (lambda f: f.with_columns(judges=None), "column 'judges' of table rewards is empty in 3 rows"),
        (lambda f: pl.concat([f, f]), "two rows of table rewards have the same key {'response_id': 'r0'}"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "rewards.parquet"
    change(rewards()).write_parquet(path)  # type: ignore[operator]
    with pytest.raises(TableError, match="rewards.parquet") as error:
        tables.read(path, schemas.REWARDS)
    assert message in str(error.value)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such table"):
        tables.read(tmp_path / "none.parquet", schemas.REWARDS)
    (tmp_path / "broken.parquet").write_text("not parquet")
    with pytest.raises(TableError, match="not a readable parquet file"):
        tables.read(tmp_path / "broken.parquet", schemas.REWARDS)


def test_a_refused_table_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "rewards.parquet"
    tables.write(rewards(), path, schemas.REWARDS)
    before = path.read_bytes()
    with pytest.raises(TableError):
        tables.write(rewards().drop("reward"), path, schemas.REWARDS)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["rewards.parquet"]


def test_read_all_takes_exactly_the_named_files(tmp_path: Path) -> None:
    for name in ("a", "b", "gone"):
        frame = rewards(1).with_columns(response_id=pl.lit(name))
        tables.write(frame, tmp_path / f"{name}.parquet", schemas.REWARDS)
    found = tables.read_all([tmp_path / "a.parquet", tmp_path / "b.parquet"], schemas.REWARDS)
    assert found["response_id"].to_list() == ["a", "b"]
    assert tables.read_all([], schemas.REWARDS).height == 0


def in_parts(count: int) -> list[pl.DataFrame]:
    rows = pl.DataFrame(
        {"prompt_id": [f"p{i // 3:04d}" for i in range(count)],
         "response_id": [f"r{i:05d}" for i in range(count)], "judge": "one", "version": "1",
         "score": [i / count for i in range(count)], "status": "ok", "reason": None},
        schema=JUDGEMENTS.columns,
    )  # fmt: skip
    return [rows[:30].reverse(), rows[30:30], rows[30:]]


def test_a_table_written_in_parts_is_the_same_file(tmp_path: Path) -> None:
    parts = in_parts(99)
    with tables.Parts(tmp_path / "parts.parquet", JUDGEMENTS) as file:
        for part in parts:
            file.add(part)
    tables.write(pl.concat(parts), tmp_path / "whole.parquet", JUDGEMENTS)
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    with tables.Parts(tmp_path / "none.parquet", JUDGEMENTS):
        pass
    assert tables.read(tmp_path / "none.parquet", JUDGEMENTS).is_empty()
    assert {path.name for path in tmp_path.iterdir()} == {"parts.parquet", "whole.parquet", "none.parquet"}


def test_parts_out_of_order_or_an_error_leave_no_file(tmp_path: Path) -> None:
    first, _, last = in_parts(99)
    with tables.Parts(tmp_path / "x", JUDGEMENTS) as file:
        file.add(last)
        with pytest.raises(ValueError, match="out of order"):
            file.add(first)
    (tmp_path / "x").unlink()
    with pytest.raises(OSError, match="full"), tables.Parts(tmp_path / "x", JUDGEMENTS):
        raise OSError("disk full")
    assert list(tmp_path.iterdir()) == []


def test_a_scan_is_checked_like_a_table_that_is_read(tmp_path: Path) -> None:
    parts = in_parts(9)
    tables.write(pl.concat(parts), tmp_path / "t.parquet", JUDGEMENTS)
    assert (
        tables.scan(tmp_path / "t.parquet", JUDGEMENTS)
        .collect()
        .equals(pl.concat(parts).sort(JUDGEMENTS.key))
    )
    pl.concat(parts).rename({"score": "scoer"}).write_parquet(tmp_path / "odd.parquet")
    with pytest.raises(
        TableError, match="column 'score' of table judgements is missing. Did you mean 'scoer'"
    ):
        tables.scan(tmp_path / "odd.parquet", JUDGEMENTS)


@pytest.mark.parametrize(
    "order", [lambda t: pl.concat([t, t]), lambda t: pl.concat([t, t]).sort(t.columns), lambda t: t.reverse()]
)
def test_a_scan_stops_at_rows_that_no_stage_wrote(
    tmp_path: Path, order: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    """Doubled, put one below the other, or sorted anew: what a lazy reader would count twice in silence."""
    table = pl.concat(in_parts(9)).sort(JUDGEMENTS.key)
    order(table).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(TableError, match="rows of table judgements stand twice or out of order"):
        tables.scan(tmp_path / "t.parquet", JUDGEMENTS)
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(TableError, match="not a readable parquet file"):
        tables.scan(tmp_path / "text.parquet", JUDGEMENTS)
    with pytest.raises(TableError, match="no such table"):
        tables.scan(tmp_path / "none.parquet", JUDGEMENTS)


def test_a_csv_for_a_spreadsheet_holds_no_formula(tmp_path: Path) -> None:
    names = ["=HYPERLINK(1)", "+1", "-x", "@SUM", "plain", None, "a=b", "\tx"]
    frame = pl.DataFrame({"model": names, "kinship": [-0.5] * len(names)})
    tables.write_csv(frame, tmp_path / "t.csv", spreadsheet=True)
    told = pl.read_csv(tmp_path / "t.csv")
    assert told["model"].to_list() == ["'=HYPERLINK(1)", "'+1", "'-x", "'@SUM", "plain", None, "a=b", "'\tx"]
    assert told["kinship"].to_list() == [-0.5] * len(names)
    tables.write_csv(frame, tmp_path / "t.csv")
    assert pl.read_csv(tmp_path / "t.csv")["model"].to_list() == names
