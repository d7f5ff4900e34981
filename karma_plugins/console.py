"""The one place that turns exceptions into a line and an exit status, for `karma` and for every stage."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn
from unicodedata import category

import click

from karma_plugins.errors import KarmaError, full_disk, is_full, not_installed, refused_by_system

#: Exit status of a process that Ctrl-C ended, as shells count it.
INTERRUPTED = 130
#: Characters of a line on stderr.
LONGEST = 2000
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
JOINERS = "\t\xad\u200c\u200d"
STOPPED = "Stopped by Ctrl-C. Finished work is kept: the same command goes on where it was."


class Guarded(click.Command):
    """A command whose errors end as one red line on stderr and exit status 1; `KARMA_DEBUG=1` shows the
    traceback.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as click does, with warnings in one line each."""
        return guard(_run, super().main, *args, **kwargs)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """None where DVC runs the command: there `--help` is a name out of params, and help is no out."""
        return None if os.environ.get("DVC_STAGE") else super().get_help_option(ctx)


class GuardedGroup(click.Group):
    """A group of commands under the same guard."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as click does, with warnings in one line each."""
        return guard(_run, super().main, *args, **kwargs)


def _run(main: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Click's own `main`, but that Ctrl-C and the system's errors come through to the guard."""
    standalone = kwargs.pop("standalone_mode", True)
    try:
        given = args[0] if args else kwargs.get("args")
        if "" in (sys.argv[1:] if given is None else given):  # as a path it would be the working directory
            raise click.UsageError("An argument is empty. Give a value, or leave it out.")
        status = main(*args, standalone_mode=False, **kwargs)
    except click.ClickException as error:
        if not standalone:
            raise
        error.show()
        sys.exit(error.exit_code)
    if standalone:
        sys.exit(status if isinstance(status, int) else 0)
    return status


def guard(run: Any, *args: Any, **kwargs: Any) -> Any:
    """Call `run`; what goes wrong becomes one line on stderr and exit status 1, Ctrl-C status 130.

    A KarmaError says what to do. So does a package that is absent, and what the operating system refuses
    (a full disk, permissions). Anything else is a fault of ours or of a plugin, and its line says so.
    `KARMA_DEBUG=1` shows the traceback of each.
    """
    warnings.showwarning = _one_line
    try:
        _log()
        return run(*args, **kwargs)
    except (KeyboardInterrupt, click.Abort):
        if os.environ.get("KARMA_DEBUG"):
            raise
        _end(STOPPED, INTERRUPTED)
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit) or os.environ.get("KARMA_DEBUG"):
            raise
        _end(f"Error: {described(error)}", 1)  # also a panic of polars, which is no Exception


def interruptible() -> None:
    """Have Ctrl-C end in one line also while modules are imported, before any command runs."""
    sys.excepthook = _interrupted


def described(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, KarmaError):
        return " ".join(str(error).split())
    if isinstance(error, ImportError) and (lacking := not_installed(error)):
        return str(lacking)
    if reason := refused_by_system(error):
        return reason
    if (here := _full()) is not None:  # some libraries only say that they could not write
        return str(refused_by_system(full_disk(here)))
    if isinstance(error, MemoryError):
        return "not enough memory. Free some, or make batches, shards or inputs smaller."
    return _unexpected(error)


def _full() -> Path | None:
    """The working folder where its disk is full; null where it is not, or the folder is gone."""
    with suppress(OSError):
        return here if is_full(here := Path.cwd()) else None
    return None


def _unexpected(error: BaseException) -> str:
    """A fault: what it was and where, for whoever mends it."""
    said = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return (
        f"unexpected {type(error).__name__}{place}{f': {said[:300]}' if said else ''}. This is a fault of "
        "karma-plugins or of a plugin: KARMA_DEBUG=1 shows all of it; please report it."
    )


def _interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt) or os.environ.get("KARMA_DEBUG"):
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(f"{STOPPED}\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)


def _log() -> None:
    """Show what the package logs, on stderr, from the level that `KARMA_LOG` names on."""
    level = os.environ.get("KARMA_LOG", "").upper()
    if not level:
        return
    if level not in LEVELS:
        raise KarmaError(f"KARMA_LOG={level}: is no level. Set it to one of {', '.join(LEVELS)}.")
    logger = logging.getLogger("karma_plugins")
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Printable("%(asctime)s %(name)s: %(message)s"))
        logger.addHandler(handler)


class _Printable(logging.Formatter):
    """Lines that a terminal obeys in nothing."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _end(line: str, status: int) -> NoReturn:
    click.secho(_clipped(line), fg="red", err=True)
    sys.exit(status)


def say(text: str) -> None:
    """One or more lines of progress or result on stdout."""
    click.echo("\n".join(printable(line) for line in text.split("\n")))


def printable(line: str) -> str:
    """The text with what would move the cursor, colour, hide or turn round what follows it made visible.

    Such characters come from servers, files and names; a terminal or a log must not obey them.
    """
    if line.isprintable():
        return line
    return "".join(c.encode("unicode_escape").decode() if _acts(c) else c for c in line)


def _acts(character: str) -> bool:
    """Whether a terminal may act on a character instead of showing it; emoji and scripts need joiners."""
    return category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in JOINERS


def _clipped(text: str) -> str:
    """One line of a length that people read."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"


def _one_line(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if "karma" in str(message) or category is UserWarning:
        click.secho(_clipped(f"Warning: {message}"), fg="yellow", err=True)
