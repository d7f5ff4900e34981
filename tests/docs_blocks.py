"""The code blocks of README and docs: fenced ones with their language, indented ones by what they hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)$")
#: A comment on the line before a block says what kind it is, or why it can't run: `not run: …`.
NOTE = re.compile(r"^<!-- block: (?P<note>.+) -->$")
#: An indented block whose first word is one of these is commands; any other is text.
PROGRAMS = (
    "accelerate", "cd", "CUDA_VISIBLE_DEVICES", "dvc", "export", "git", "karma", "make", "mlflow", "pip",
    "python", "source", "torchrun", "transformers", "twine",
)  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A block: its page, the line that it begins on, its language (`text` where it is no code), its note."""

    page: str
    line: int
    language: str
    text: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The command lines of a console block, continued ones joined, comments and output left out."""
        lines = re.sub(r"\\\n\s*", " ", self.text).splitlines()
        prompted = any(line.startswith("$ ") for line in lines)
        commands = [line.removeprefix("$ ") for line in lines if not prompted or line.startswith("$ ")]
        return [command for command in commands if command.strip() and not command.startswith("#")]


def pages() -> list[Path]:
    """README and every page of the docs."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def blocks() -> list[Block]:
    """Every block of every page."""
    return [block for page in pages() for block in _blocks(page)]


def _blocks(path: Path) -> Iterator[Block]:
    page, lines = path.relative_to(REPOSITORY).as_posix(), path.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        before = NOTE.match(lines[at - 1]) if at else None
        note = before["note"] if before else ""
        if fence := FENCE.match(lines[at]):
            end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == "```")
            text = "\n".join(line.removeprefix(fence["indent"]) for line in lines[at + 1 : end])
            yield Block(page, at + 1, fence["language"] or "text", text + "\n", note)
            at = end + 1
        elif lines[at].startswith("    ") and not (at and lines[at - 1].strip()):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            text = "\n".join(line[4:] for line in lines[at:end]).rstrip() + "\n"
            first = re.split(r"[\s=]", text.removeprefix("$ "))[0]
            yield Block(page, at + 1, "console" if first in PROGRAMS else "text", text, note)
            at = end
        else:
            at += 1
