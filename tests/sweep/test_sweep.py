"""Each case of the tables: the command ends as it must, in one line, and never with a traceback or a hang."""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.ending import ends_within
from tests.sweep import table_checks, table_commands, table_files, table_params
from tests.sweep.cases import Case

CASES = [*table_params.CASES, *table_files.CASES, *table_commands.CASES, *table_checks.CASES]
#: Seconds after which a command counts as one that never ends.
ENDLESS = 30
UNEXPECTED = "This is a fault of"


def test_the_sweep_is_wide() -> None:
    """Every kind once: cases that are the same would only seem to be many."""
    assert len(CASES) >= 500
    names = [case.name for case in CASES]
    assert len(set(names)) >= len(CASES) - 5, sorted({n for n in names if names.count(n) > 1})


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, place: Path) -> None:
    """One line, or success; nothing else."""
    for change in case.changes:
        change()
    with ends_within(ENDLESS), warnings.catch_warnings():
        done = _run(case.command)
    if "which is not installed" in done.output and "which is not installed" not in case.says:
        pytest.skip(done.output.strip()[-200:])
    complaint = _complaint(case, done)
    assert not complaint, f"{complaint}\nexit {done.exit_code}\n{done.output[-3000:]}"
    left = list(place.rglob("*.partial"))
    assert not left, left


def _complaint(case: Case, done: Result) -> str:
    """What is wrong with how a command ended; empty where nothing is."""
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"traceback: {type(done.exception).__name__}: {done.exception}"
    if "Traceback (most" in done.output or UNEXPECTED in done.stderr:
        return "a fault instead of a line"
    status = done.exit_code
    if status != case.status and not (case.status == -1 and status in (0, 1)):
        return f"ended with {status}, not {case.status}"
    said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("Warning:")]
    if case.status == 1 and not case.many and (len(said) != 1 or not said[0].startswith("Error: ")):
        return "not one line that says what is wrong"
    text = said[-1] if case.status in (1, 2) and said else done.output
    if any(len(line) > 3000 for line in done.stderr.splitlines()):
        return "a line that nobody reads"
    return "" if case.says in text else f"does not say {case.says!r}"


def _run(command: tuple[str, ...]) -> Result:
    name, *arguments = command
    if name == "karma":
        main: click.Command = import_module("karma_plugins.cli").main
    else:
        main = import_module(f"stages.{name}").main
    return CliRunner().invoke(main, arguments)
