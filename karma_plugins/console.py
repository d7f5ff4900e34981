"""The one place that turns exceptions into a line and an exit status, for `karma` and for every stage."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, NoReturn

import click

from karma_plugins.errors import KarmaError, not_installed


class Guarded(click.Command):
    """A command whose KarmaError ends as one red line on stderr and exit status 1; `KARMA_DEBUG=1` shows the
    traceback.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as click does, with warnings in one line each."""
        return guard(super().main, *args, **kwargs)


class GuardedGroup(click.Group):
    """A group of commands under the same guard."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as click does, with warnings in one line each."""
        return guard(super().main, *args, **kwargs)


def guard(run: Any, *args: Any, **kwargs: Any) -> Any:
    """Call `run`; a KarmaError or a package that is absent becomes one line on stderr and exit status 1."""
    warnings.showwarning = _one_line
    try:
        return run(*args, **kwargs)
    except KarmaError as error:
        if os.environ.get("KARMA_DEBUG"):
            raise
        _stop(error)
    except ImportError as error:
        told = not_installed(error)
        if told is None or os.environ.get("KARMA_DEBUG"):
            raise
        _stop(told)


def _stop(error: KarmaError) -> NoReturn:
    click.secho(f"Error: {' '.join(str(error).split())}", fg="red", err=True)
    sys.exit(1)


def say(text: str) -> None:
    """One line of progress or result on stdout."""
    click.echo(text)


def _one_line(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if "karma" in str(message) or category is UserWarning:
        click.secho(f"Warning: {' '.join(str(message).split())}", fg="yellow", err=True)
