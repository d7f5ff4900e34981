"""`karma`: every command is there, stands alone in its help, and wrong input ends in one line."""

from __future__ import annotations

import click.shell_completion
import pytest
from click.testing import CliRunner

from karma_plugins.cli import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0
    assert len(done.output.splitlines()) > 4


def test_help_lists_every_command() -> None:
    listed = CliRunner().invoke(main, ["--help"]).output
    assert all(f"\n  {name} " in listed for name in COMMANDS)


def test_an_unknown_command_suggests_the_nearest() -> None:
    done = CliRunner().invoke(main, ["kinshp"])
    assert done.exit_code == 2
    assert "No such command 'kinshp'. Did you mean 'kinship'?" in done.stderr


def test_commands_complete_in_a_shell() -> None:
    completion = click.shell_completion.BashComplete(main, {}, "karma", "_KARMA_COMPLETE")
    found = {item.value for item in completion.get_completions([], "ki")}
    assert found == {"kinship"}
