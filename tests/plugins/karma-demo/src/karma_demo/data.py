"""A reader of questions with a good and a bad answer in plain text, and a writer of what was chosen."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from karma_plugins import Exporter, Importer, KarmaError, Options, Tables, hookimpl
from karma_plugins.importers import Pair, RecordedFolder, add_pair, finished


class TextOptions(Options):
    """What stands between a line's three parts."""

    separator: str = Field("|", min_length=1, description="what stands between question and answers")


def read(sources: Sequence[Path], options: TextOptions) -> RecordedFolder:
    """Lines of the form `question | good answer | bad answer`; any other line is counted."""
    folder = RecordedFolder("demo-text", ("a line is a question, a good answer and a bad one",))
    for source in sources:
        try:
            lines = source.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise KarmaError(f"{source}: not readable as text ({error}).") from error
        for line in filter(None, lines):
            parts = [part.strip() for part in line.split(options.separator)]
            if len(parts) == 3:
                question, good, bad = parts
                add_pair(folder, Pair([{"role": "user", "content": question}], good, bad))
            else:
                folder.counts["lines_of_another_form"] += 1
    return finished(folder, ", ".join(map(str, sources)), "a question with two answers")


def write(tables: Tables, out: Path, options: TextOptions) -> str:
    """One line for each pair, in curriculum order: question, chosen answer, rejected answer."""
    if out.exists():
        raise KarmaError(f"{out}: is there already. Name another file.")
    pairs = tables.read("pairs").sort("order")
    sides = [pairs[side].list.last().struct.field("content") for side in ("prompt", "chosen", "rejected")]
    lines = [
        options.separator.join(" ".join(text.split()) for text in row) for row in zip(*sides, strict=True)
    ]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{out}: {len(lines)} lines."


@hookimpl
def karma_register_importers() -> list[Importer]:
    """The reader."""
    summary = "Lines of a question, a good answer and a bad one."
    return [Importer(name="demo-text", read=read, options=TextOptions, summary=summary)]


@hookimpl
def karma_register_exporters() -> list[Exporter]:
    """The writer."""
    summary = "Lines of a question, the chosen answer and the rejected one."
    return [Exporter(name="demo-text", write=write, options=TextOptions, summary=summary)]
