"""Records of other people's files: the one place where a text of a user's file enters.

.json, .jsonl (or .ndjson), .csv, .tsv, all of them maybe packed with gzip, and .parquet. Files are read as a
stream: of a packed file no more than one record is unpacked at a time, and a record has a bound.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import stat
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from karma_plugins.errors import TableError
from karma_plugins.texts import json_text

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
#: Other names of the same.
SPELLINGS = {".ndjson": ".jsonl", ".tsv": ".csv"}
#: Bytes of one record, unpacked: a hundred times the longest answers that are known.
MOST_BYTES = 64 * 2**20
PIECE = 2**20
#: Of a CSV; the first where a header has none.
SEPARATORS = ",;\t"
LFS_POINTER = b"version https://git-lfs.github.com/spec"
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: White space of JSON.
BLANKS = " \t\r\n"
MEND = "Mend or remove the line."

Record = dict[str, Any]


def read(
    paths: Path | Sequence[Path],
    *,
    counts: Counter[str] | None = None,
    suffixes: Sequence[str] = SUFFIXES,
) -> Iterator[tuple[str, Record]]:
    """Each record with the place to name in messages; a folder stands for all its record files, by name.

    Half characters (lone surrogates) are replaced and counted in `counts`, or refused where there is none.
    Raises TableError where nothing is there, or a file is of another kind, broken, or holds no records.
    """
    for where, value in values(paths, counts=counts, suffixes=suffixes):
        if not isinstance(value, dict):
            raise TableError(f"{where}: must be a JSON object, found {type(value).__name__}.")
        yield where, value


def values(
    paths: Path | Sequence[Path],
    *,
    counts: Counter[str] | None = None,
    suffixes: Sequence[str] = SUFFIXES,
) -> Iterator[tuple[str, Any]]:
    """As `read`, but a line or element may be any JSON value."""
    readers = {".parquet": _parquet, ".jsonl": _lines, ".csv": _cells, ".json": _elements}
    for path in [paths] if isinstance(paths, Path) else paths:
        for file in _files(path, suffixes):
            for where, value, suspect in readers[_kind(file)](file):
                yield where, checked(value, where, counts) if suspect else value


def load(file: Path, *, counts: Counter[str] | None = None) -> list[Record]:
    """All records of one .json file; TableError where it is missing, broken, or no list of records."""
    if not file.is_file():
        raise TableError(f"{file}: no such file.")
    return [record for _, record in read(file, counts=counts, suffixes=(".json",))]


def document(file: Path) -> Any:
    """The one value of a JSON file that is no list of records, such as a report.

    Half characters are replaced. Raises TableError where it can't be read.
    """
    with opened(file) as stream:
        content = _bounded(stream.read(MOST_BYTES + 1), str(file))
    value = json_text.parse(content, str(file), "Fetch or mend the file.")
    return json_text.readable(value, Counter())


def text_lines(file: Path, stream: IO[bytes]) -> Iterator[tuple[int, str]]:
    """The lines of a text with their numbers, without their ends; only `\\n` ends a line.

    A byte order mark is no part of the first. Raises TableError for a line that is no UTF-8 or too long.
    """
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise TableError(f"{file}: not readable ({error}).") from error
        if not line:
            return
        where = f"{file}, line {number}"
        if number == 1:
            if line.startswith(UTF16):
                raise TableError(f"{file}: is UTF-16. Save it as UTF-8.")
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield number, _bounded(line, where).decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise TableError(f"{where}: not UTF-8 ({error}). {MEND}") from error


def opened(file: Path) -> IO[bytes]:
    """A file's bytes, unpacked where they are packed.

    TableError for what is no file, or only points to one.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise TableError(f"{file}: is no regular file. Name a file that can be read twice.")
        stream = file.open("rb")
        head = stream.read(len(LFS_POINTER))
        stream.seek(0)
    except OSError as error:
        raise TableError(f"{file}: not readable ({error.strerror or error}).") from error
    if head == LFS_POINTER:
        stream.close()
        raise TableError(f"{file}: is a pointer of git-lfs, not the file. Run `git lfs pull`.")
    packed = file.suffix.lower() == ".gz" or head[:2] == b"\x1f\x8b"
    return cast(IO[bytes], gzip.GzipFile(fileobj=stream, mode="rb")) if packed else stream


def _bounded(content: bytes, where: str) -> bytes:
    if len(content) > MOST_BYTES:
        raise TableError(f"{where}: longer than {MOST_BYTES >> 20} MB, which no record is.")
    return content


def checked(value: Any, where: str, counts: Counter[str] | None = None) -> Any:
    """The value with half characters replaced and counted, or TableError where there is no `counts`."""
    broken: Counter[str] = Counter() if counts is None else counts
    value = json_text.readable(value, broken)
    if counts is None and broken[json_text.BROKEN]:
        raise TableError(
            f"{where}: half a character (a lone surrogate such as \\ud83d), which no UTF-8 text holds. {MEND}"
        )
    return value


# --- which files --------------------------------------------------------------------------------------------


def _files(path: Path, suffixes: Sequence[str]) -> list[Path]:
    kinds = f"{', '.join(suffixes)} file (all but .parquet may end with .gz)"
    try:
        if not path.exists():
            raise TableError(f"{path}: no such file or folder.")
        if not path.is_dir():
            if _kind(path) not in suffixes:
                raise TableError(f"{path}: is no {kinds}.")
            return [path]
        inside = sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
    except OSError as error:
        raise TableError(f"{path}: not readable ({error.strerror or error}).") from error
    files = [file for file in inside if _kind(file) in suffixes]
    if not files:
        raise TableError(f"{path}: holds no {kinds}.")
    return files


def _kind(file: Path) -> str:
    """The suffix that says how a file is written, without that of its packing."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = next(iter(suffixes[-2:-1] if packed else suffixes[-1:]), "")
    kind = SPELLINGS.get(kind, kind)
    return "" if packed and kind == ".parquet" else kind


# --- one reader for each kind -------------------------------------------------------------------------------


# Each gives place, value, and whether half a character may be in it: only an escape in JSON can make one.


def _lines(file: Path) -> Iterator[tuple[str, Any, bool]]:
    with opened(file) as stream:
        for number, line in text_lines(file, stream):
            if line.strip():
                where = f"{file}, line {number}"
                yield where, json_text.parse(line, where, MEND), json_text.holds_half(line, 0, len(line))


def _elements(file: Path) -> Iterator[tuple[str, Any, bool]]:
    """The elements of a file's list, or its objects one after the other, as some tools write them."""
    with opened(file) as stream:
        buffer = _Buffer(file, stream)
        opening = buffer.next_character()
        if opening not in ("[", "{"):
            what = "is empty" if not opening else f"starts with {opening!r}"
            raise TableError(f"{file}: must hold a list of JSON objects, but {what}.")
        listed = opening == "["
        if listed:
            buffer.skip(1)
        number = 0
        while (character := buffer.next_character()) and not (listed and character == "]"):
            number += 1
            where = f"{file}, record {number}"
            value = buffer.value(where)
            yield where, value, json_text.holds_half(buffer.text, buffer.start, buffer.place)
            character = buffer.next_character()
            if listed and character == ",":
                buffer.skip(1)
            elif listed and character != "]":
                raise TableError(f"{file}, record {number}: not JSON (no comma or ']' follows it).")
        if not listed:
            return
        if character != "]":
            raise TableError(f"{file}: not JSON (the list does not end). Fetch or mend the file.")
        buffer.skip(1)
        if buffer.next_character():
            raise TableError(f"{file}: not JSON (something follows the list). Fetch or mend the file.")


class _Buffer:
    """The part of a JSON text that is being read: at most one value and one piece."""

    def __init__(self, file: Path, stream: IO[bytes]) -> None:
        self.file, self.stream, self.text = file, stream, ""
        self.start = self.place = 0  # of the last value, and of what comes next
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.ended = False

    def more(self, size: int = PIECE) -> None:
        """Read another piece; what was taken before is forgotten."""
        try:
            piece = self.stream.read(size)
            self.ended = not piece
            self.text = self.text[self.place :] + self.decoder.decode(piece, final=self.ended)
        except UnicodeDecodeError as error:
            raise TableError(f"{self.file}: not UTF-8 ({error}). Save it as UTF-8.") from error
        except (OSError, EOFError, zlib.error) as error:
            raise TableError(f"{self.file}: not readable ({error}).") from error
        self.place = 0

    def next_character(self) -> str:
        """The next character that is no blank, not taken; empty at the end."""
        while True:
            text, place = self.text, self.place
            while place < len(text):
                if text[place] not in BLANKS:
                    self.place = place
                    return text[place]
                place += 1
            self.place = place
            if self.ended:
                return ""
            self.more()

    def skip(self, characters: int) -> None:
        """Take characters without looking at them."""
        self.place += characters

    def value(self, where: str) -> Any:
        """The JSON value that starts here, with as many more pieces as it needs."""
        while True:
            try:
                value, end = json_text.DECODER.raw_decode(self.text, self.place)
            except json_text.UnfitError as error:
                raise TableError(f"{where}: {error}.") from None
            except RecursionError:
                raise TableError(f"{where}: {json_text.TOO_DEEP}.") from None
            except ValueError as error:
                if self.ended:
                    raise TableError(f"{where}: not JSON ({error}). Fetch or mend the file.") from error
            else:
                # What ends with the buffer may go on: 12 of 123.
                if end < len(self.text) or self.ended:
                    self._refuse_depth(where, end)
                    self.start, self.place = self.place, end
                    return value
            if len(self.text) - self.place > MOST_BYTES:
                raise TableError(f"{where}: not JSON, or longer than {MOST_BYTES >> 20} MB.")
            self.more(max(PIECE, len(self.text) - self.place))

    def _refuse_depth(self, where: str, end: int) -> None:
        try:
            json_text.refuse_depth(self.text, self.place, end)
        except json_text.UnfitError as error:
            raise TableError(f"{where}: {error}.") from None


def _cells(file: Path) -> Iterator[tuple[str, Record, bool]]:
    """Each row as a record of texts; an empty cell is a null."""
    with opened(file) as stream:
        numbered = text_lines(file, stream)
        header_lines, header_line = next(((n, line) for n, line in numbered if line.strip()), (0, ""))
        if not header_line:
            raise TableError(f"{file}: is empty; a header with the columns' names must come first.")
        separator = max(SEPARATORS, key=header_line.count)
        # The module's own bound is 128 kB for a cell, less than a long answer has.
        csv.field_size_limit(max(csv.field_size_limit(), MOST_BYTES))
        try:
            header = [
                name.strip() for name in next(csv.reader([header_line], delimiter=separator, strict=True))
            ]
        except csv.Error as error:
            raise TableError(f"{file}, line {header_lines}: not readable as CSV ({error}). {MEND}") from error
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            raise TableError(f"{file}: column '{twice[0]}' is there twice. Rename one.")
        rows = csv.reader((f"{line}\n" for _, line in numbered), delimiter=separator, strict=True)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                where = f"{file}, line {rows.line_num + header_lines}"
                raise TableError(f"{where}: not readable as CSV ({error}). {MEND}") from error
            if row is None:
                return
            if not any(cell.strip() for cell in row):
                continue
            where = f"{file}, line {rows.line_num + header_lines}"
            if len(row) != len(header):
                raise TableError(f"{where}: has {len(row)} cells, the header has {len(header)}. {MEND}")
            yield where, {name: cell or None for name, cell in zip(header, row, strict=True)}, False


def _parquet(file: Path) -> Iterator[tuple[str, Record, bool]]:
    for i, record in enumerate(parquet_table(file).iter_rows(named=True), start=1):
        yield f"{file}, row {i}", record, False


def parquet_table(file: Path) -> pl.DataFrame:
    """A parquet file as it is; TableError where it can't be read."""
    import polars as pl

    with opened(file):  # says what no parquet reader would: a pipe, a pointer
        pass
    try:
        return pl.read_parquet(file)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise TableError(f"{file}: not a readable parquet file ({str(error).splitlines()[0]}).") from error


def csv_table(file: Path) -> pl.DataFrame:
    """A CSV as a polars frame of texts, surrounding blanks removed, an empty cell null."""
    import polars as pl

    rows = [row for _, row in read(file, counts=Counter(), suffixes=(".csv",))]
    if not rows:
        raise TableError(f"{file}: has a header and no row.")
    text = pl.all().str.strip_chars()
    frame = pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String), orient="row")
    return frame.select(pl.when(text != "").then(text).name.keep())
