"""`karma`: every command is there, stands alone in its help, and wrong input ends in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import click.shell_completion
import pytest
from click.testing import CliRunner

from karma_plugins import Judge
from karma_plugins.cli import COMMANDS, main
from karma_plugins.cli.plugin_names import described
from karma_plugins.registry import Origin


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


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command, those of groups too."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from every_command(below, (*path, name))


def test_no_help_is_cut() -> None:
    for words in every_command(main):
        for columns in ("60", "80"):
            done = CliRunner().invoke(main, [*words, "--help"], terminal_width=int(columns))
            assert done.exit_code == 0, words
            assert not re.search(r"[a-z ,]\.\.\.$", done.output, re.MULTILINE), words


@pytest.mark.parametrize(
    ("words", "incomplete", "some"),
    [
        (["kinship", "--metric"], "ca", {"capa", "capability"}),
        (["family", "--metric"], "st", {"style"}),
        (["study", "--pairing"], "de", {"delta"}),
        (["study", "--pairing"], "kin:prefer=chance,ra", {"kin:prefer=chance,radius="}),
        (["study", "--objective"], "k", {"kto"}),
        (["import"], "alp", {"alpaca-eval"}),
        (["export"], "hu", {"hub"}),
        (["plugins"], "judg", {"judges"}),
        (["new-plugin", "x", "--kind"], "pair", {"pairing"}),
        (["init", "--template"], "rec", {"recorded"}),
    ],
)
def test_names_complete_in_a_shell(words: list[str], incomplete: str, some: set[str]) -> None:
    completion = click.shell_completion.BashComplete(main, {}, "karma", "_KARMA_COMPLETE")
    assert {item.value for item in completion.get_completions(words, incomplete)} == some


def test_every_plugin_says_in_one_line_what_it_does() -> None:
    listed = json.loads(CliRunner().invoke(main, ["plugins", "--json"]).output)["plugins"]
    texts = {(row["kind"], row["name"]): row["summary"] for row in listed}
    assert all(text and "\n" not in text and len(text) < 110 for text in texts.values()), texts
    assert texts["pairings", "random"] == "Any two answers, by chance alone."
    table = " ".join(CliRunner().invoke(main, ["plugins"]).output.split())
    assert all(text in table for text in texts.values())
    alone = CliRunner().invoke(main, ["plugins", "pairings"]).output
    assert "best-worst" in alone
    assert "lm-eval" not in alone


def test_a_plugin_without_a_word_of_its_own_is_described_by_its_function() -> None:
    def score(answers: object, options: object) -> list[float]:
        """Half of everything.

        And more.
        """
        return []

    silent = Judge(name="half", score=score)
    assert described(silent, Origin("x", "1", "half", "json")) == "Half of everything."


def test_kinship_as_json_is_both_tables(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text("model,one,two\na,0.1,0.9\nb,0.2,0.8\nc,0.9,0.1\n")
    done = CliRunner().invoke(main, ["kinship", str(file), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert {(row["model_a"], row["model_b"]) for row in document["kinship"]} == {
        ("a", "b"), ("a", "c"), ("b", "c"),
    }  # fmt: skip
    assert {row["model"] for row in document["families"]} == {"a", "b", "c"}


def test_check_as_json_says_what_the_lines_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["check", "--json"])
    document = json.loads(done.stdout)
    lines = CliRunner().invoke(main, ["check"])
    assert done.exit_code == lines.exit_code == 1
    assert document["errors"]
    assert all(f"Error: {error}" in lines.stderr for error in document["errors"])
