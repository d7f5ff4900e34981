"""Records of other people's files: what is odd in them is one line with the place, in every reader."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from karma_plugins import prompts
from karma_plugins.cli.import_ import command
from karma_plugins.errors import TableError
from karma_plugins.importers import profiles
from karma_plugins.params import PromptsSection
from karma_plugins.texts import filters, json_text, records

HALF = '{"prompt": "half \\ud83d", "chosen": "a", "rejected": "b", "competency": "x"}\n'
GOOD = '{"prompt": "whole", "chosen": "a\\u2028b", "rejected": "c", "competency": "x"}\n'


def all_of(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in records.read(path)]


# --- what is no fault ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", b'\xef\xbb\xbf{"a": "1"}\n\n   \n{"a": "2"}'),
        ("x.ndjson", b'{"a": "1"}\r\n\r\n{"a": "2"}\r\n'),
        ("X.JSONL", b'{"a": "1"}\n{"a": "2"}\n'),
        ("x.json", b'\xef\xbb\xbf\n[ {"a": "1"}\n, {"a": "2"} ]\n'),
        ("x.json", b'{"a": "1"}\n{"a": "2"}\n'),
        ("x.json", b'{\n "a": "1"\n}\n{\n "a": "2"\n}\n'),
        ("x.csv", b"\xef\xbb\xbfa\r\n1\r\n\r\n2\r\n"),
        ("x.csv", b"a,b\n1,\n,\n2,\n"),
        ("x.tsv", b"a\tb\n1\t\n2\t\n"),
        ("x.csv", b"a;b\n1;\n2;\n"),
    ],
)
def test_marks_blank_lines_and_packing(tmp_path: Path, name: str, content: bytes, packed: bool) -> None:
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    assert [record["a"] for record in all_of(path)] == ["1", "2"]


def test_a_packed_file_may_lack_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(gzip.compress(b'{"a": "1"}\n'))
    assert all_of(tmp_path / "x.jsonl") == [{"a": "1"}]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven"
    (tmp_path / "x.jsonl").write_text(json.dumps({"a": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    (tmp_path / "x.csv").write_text(f'a,b\n"{text}",1\n', encoding="utf-8")
    (tmp_path / "x.txt").write_text(f"{text}\nlast", encoding="utf-8")
    assert all_of(tmp_path / "x.jsonl")[0]["a"] == text
    assert all_of(tmp_path / "x.csv")[0]["a"] == text
    assert filters.read_items(tmp_path / "x.txt") == [text, "last"]


def test_cells_hold_line_breaks_and_long_texts(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('a,b\n"two\nlines",' + "x" * 200_000 + "\n3,4\n5\n")
    reader = records.read(tmp_path / "x.csv")
    where, row = next(reader)
    assert row == {"a": "two\nlines", "b": "x" * 200_000} and where.endswith("line 3")
    next(reader)
    with pytest.raises(TableError, match="x.csv, line 5: has 1 cells, the header has 2"):
        next(reader)


def test_numbers_that_fit_nowhere_else_are_kept(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 123456789012345678901234567890, "b": 1e999}\n')
    assert all_of(tmp_path / "x.jsonl") == [{"a": 123456789012345678901234567890, "b": float("inf")}]


def test_elements_longer_than_a_piece(tmp_path: Path) -> None:
    rows = [{"a": "x" * n} for n in (1, records.PIECE - 9, 3 * records.PIECE, 2)]
    (tmp_path / "x.json").write_text(json.dumps(rows, indent=2))
    assert all_of(tmp_path / "x.json") == rows


# --- what is a fault ----------------------------------------------------------------------------------------

ASKED = b'{"prompt": "q", "competency": "x"}\n'
FAULTS: list[tuple[str, bytes, str]] = [
    ("x.jsonl", ASKED + b'{"a": ' + b"[" * 200_000 + b"\n", "line 2: lists or objects are nested more than"),
    ("x.jsonl", b"[" * 200_000, "line 1: lists or objects are nested"),
    ("x.jsonl", b'{"a":' * 200_000, "line 1: lists or objects are nested"),
    ("x.json", b"[" * 200_000, "record 1: lists or objects are nested|record 1: not JSON"),
    ("x.json", b'[{"a":' + b"[" * 600 + b"]" * 600 + b"}]", "record 1: lists or objects are nested"),
    ("x.json", b'[{"a": ' + b"9" * 400 + b"}]", "record 1: a whole number of 400 digits"),
    ("x.jsonl", b'{"a": -' + b"9" * 400 + b"}", "line 1: a whole number of 400 digits"),
    ("x.jsonl", b'{"a": ' + b"9" * 9999 + b"}", "line 1: a whole number of 9999 digits"),
    ("x.jsonl", b'{"a": 1}\n{"a": "\\ud83d"}\n', "line 2: half a character"),
    ("x.jsonl", b'{"a": 1}\n\n{"b\\udc00": 1}\n', "line 3: half a character"),
    ("x.jsonl", b'{"a": "\xff"}\n', "line 1: not UTF-8"),
    ("x.jsonl", '{"a": 1}\n'.encode("utf-16"), "is UTF-16. Save it as UTF-8"),
    ("x.jsonl", b"null\n", "line 1: must be a JSON object, found NoneType"),
    ("x.json", b"", "must hold a list of JSON objects, but is empty"),
    ("x.json", b'"text"', "must hold a list"),
    ("x.json", b'[{"a": 1} {"a": 2}]', "no comma or ']' follows"),
    ("x.json", b'[{"a": 1}', "the list does not end|no comma"),
    ("x.json", b'[{"a": 1}] [', "something follows the list"),
    ("x.json", b'{"a": 1}\n]', "not JSON"),
    ("x.json", b'[{"a": 1}, {"a"', "record 2: not JSON"),
    ("x.csv", b"", "is empty; a header"),
    ("x.csv", b"\ra,b\n1,2\n", "x.csv, line 1: not readable as CSV"),
    ("x.csv", b'a,"b\n1,2\n', "x.csv, line 1: not readable as CSV"),
    ("x.csv", b"\n\na,\rb\n1,2\n", "x.csv, line 3: not readable as CSV"),
    ("x.csv", b"a,a\n1,2\n", "column 'a' is there twice"),
    ("x.csv", b"a,b\n1,2,3\n", "line 2: has 3 cells, the header has 2"),
    ("x.csv", b'a,b\n1,"2\n', "not readable as CSV"),
    ("x.csv", b"a,b\n1,\xff\n", "line 2: not UTF-8"),
    ("x.csv.gz", b"a,b\n", "not readable"),
    ("x.parquet", b"PAR1", "not a readable parquet file"),
    ("x.parquet.gz", b"", "is no .json"),
    ("x.txt", b"a", "is no .json, .jsonl, .csv, .parquet file"),
    ("x.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git-lfs"),
    ("x.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git-lfs"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), FAULTS)
def test_a_fault_is_one_line_with_file_and_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=message) as error:
        all_of(tmp_path / name)
    assert str(tmp_path / name) in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.parquet", "x.jsonl.gz"])
def test_what_is_no_file_is_said_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(TableError, match="is no regular file"):
        all_of(tmp_path / name)
    with pytest.raises(TableError, match="no such file or folder"):
        all_of(tmp_path / "nowhere")
    with pytest.raises(TableError, match="is no .json"):
        all_of(Path(os.devnull))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / name)
    with pytest.raises(TableError, match="holds no"):
        all_of(tmp_path / "folder")


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.json.gz", "x.csv.gz"])
def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """One record of 200 MB in a file of 200 kB; the bound is lowered so that the test is quick."""
    monkeypatch.setattr(records, "MOST_BYTES", 4 * 2**20)
    with gzip.open(tmp_path / name, "wb", compresslevel=1) as stream:
        stream.write(b'[{"a": "' if ".json.gz" in name else b'{"a": "' if "jsonl" in name else b"a,b\n1,")
        for _ in range(200):
            stream.write(b"x" * 2**20)
    tracemalloc.start()
    with pytest.raises(TableError, match="longer than 4 MB"):
        all_of(tmp_path / name)
    assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
    tracemalloc.stop()


# --- in every reader ----------------------------------------------------------------------------------------


def read_prompts(path: Path) -> Any:
    return prompts.read(PromptsSection(path=str(path)))


def import_trl(path: Path) -> Any:
    done = CliRunner().invoke(command, ["trl", str(path), "--out", f"{path}.out"], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def read_profiles(path: Path) -> Any:
    return profiles.read([path])


READERS: list[Callable[[Path], Any]] = [read_prompts, import_trl, filters.read_items]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        fault
        for fault in FAULTS
        if fault[0] == "x.jsonl" and b"null" not in fault[1] and b"ud" not in fault[1]
    ],
)
def test_every_reader_says_so(
    tmp_path: Path, reader: Callable[[Path], Any], name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=message):
        for _ in reader(tmp_path / name) or []:
            pass


def test_half_characters_are_refused_in_prompts_and_counted_in_imports(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(GOOD + HALF)
    with pytest.raises(TableError, match="x.jsonl, line 2: half a character"):
        read_prompts(tmp_path / "x.jsonl")
    assert "texts with broken characters 1" in import_trl(tmp_path / "x.jsonl")
    assert read_prompts(tmp_path / "x.jsonl.out" / "prompts.jsonl").height == 2
    assert "half \ufffd" in filters.read_items(tmp_path / "x.jsonl")


def test_prompts_and_profiles_come_packed(tmp_path: Path) -> None:
    (tmp_path / "p.csv.gz").write_bytes(gzip.compress(b"prompt,competency\nWhat?,x\n\nWhy?,y\n", mtime=0))
    assert read_prompts(tmp_path / "p.csv.gz").height == 2
    (tmp_path / "s.csv.gz").write_bytes(gzip.compress(b"model,mmlu\na,0.5\nb,0.25\n", mtime=0))
    assert read_profiles(tmp_path / "s.csv.gz").scores["score"].to_list() == [0.5, 0.25]
    (tmp_path / "i.jsonl.gz").write_bytes(gzip.compress(b'{"q": "one"}\n["two", 3]\n'))
    assert filters.read_items(tmp_path / "i.jsonl.gz") == ["one", "two"]


@pytest.mark.parametrize(
    "content", [b"[" * 200_000, b'{"results": ' + b"[" * 200_000, b'{"a": ' + b"9" * 400 + b"}"]
)
def test_results_of_lm_eval_are_read_with_the_same_care(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "results_x.json").write_bytes(content)
    with pytest.raises(TableError, match=r"results_x.json: (lists or objects|a whole number)"):
        read_profiles(tmp_path / "results_x.json")


def test_files_of_unlike_columns_in_a_dataset_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "x", "competency": "c"}\n')
    (tmp_path / "b.jsonl").write_text('{"question": {"deep": 1}}\n')
    section = PromptsSection(dataset=str(tmp_path))
    with pytest.raises(TableError, match="params.yaml, prompts.dataset: can't load dataset") as error:
        prompts.read(section)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 800


def test_columns_of_unlike_kinds_in_a_folder_are_no_matter(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "x", "chosen": "a", "rejected": "b", "n": 1}\n')
    pl.DataFrame({"question": ["y"], "chosen": ["a"], "rejected": ["b"], "n": [["odd"]]}).write_parquet(
        tmp_path / "b.parquet"
    )
    assert "pairs 2" in import_trl(tmp_path)


def test_a_conversation_under_prompt_is_taken_as_it_is(tmp_path: Path) -> None:
    """As `karma export trl` writes it."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    row = {"prompt": [*turns, {"role": "user", "content": "And?"}], "competency": "x"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    assert read_prompts(tmp_path / "x.jsonl")["messages"].to_list() == [row["prompt"]]


def test_depth_is_counted_outside_of_texts() -> None:
    assert json_text.parse(json.dumps({"a": "[" * 5000, "b": '\\"[' * 900}), "here")["a"] == "[" * 5000
    flat: Iterator[Any] = iter(json_text.parse(json.dumps([[] for _ in range(5000)]), "here"))
    assert next(flat) == []


def test_readable_counts_each_text() -> None:
    counts: Counter[str] = Counter()
    assert json_text.readable({"a\ud800": ["b", "\udfff", 1]}, counts) == {"a\ufffd": ["b", "\ufffd", 1]}
    assert counts[json_text.BROKEN] == 2
