"""The committed reference is what the code says, and everything in it says what it is for."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from karma_plugins import cli, schemas
from karma_plugins.contracts import KINDS, Judge
from karma_plugins.params import JurySection
from karma_plugins.registry import manager
from scripts import reference
from scripts.option_tables import options_table, undescribed


@pytest.mark.parametrize("path", sorted(reference.pages()), ids=lambda path: path.name)
def test_the_page_is_what_the_code_says(path: Path) -> None:
    assert path.is_file(), f"{path}: run `python scripts/reference.py`"
    assert path.read_text(encoding="utf-8") == reference.pages()[path], "run `python scripts/reference.py`"


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_of_every_plugin_is_described(kind: str) -> None:
    registry = manager.load([])
    lacking = {
        name: keys
        for name in registry.names(kind)
        if (keys := undescribed(registry.plugins[kind, name][0].options))
    }
    assert lacking == {}


@pytest.mark.parametrize("models", [reference.SECTIONS, reference.DESCRIPTORS], ids=["params", "descriptors"])
def test_every_key_is_described(models: dict[str, type[BaseModel]]) -> None:
    assert {name: keys for name, model in models.items() if (keys := undescribed(model))} == {}


def test_every_column_and_table_is_described() -> None:
    tables = [table for table in vars(schemas).values() if isinstance(table, schemas.Schema)]
    assert len(tables) > 10
    for table in tables:
        assert table.about
        assert all(table.notes[column] for column in table.columns), table.name


def test_every_option_of_every_command_is_described() -> None:
    for path, command in reference.commands(cli.main, ("karma",)):
        assert command.help, path
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, (path, option.name)


def test_every_section_that_a_stage_reads_has_a_table() -> None:
    from karma_plugins.registry.stages import STAGES

    sections = {name.partition(".")[0] for name in reference.SECTIONS}
    assert {stage.name for stage in STAGES.values() if stage.sectioned} <= sections


def test_a_changed_option_column_or_help_changes_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = reference.pages()
    monkeypatch.setattr(JurySection.model_fields["align"], "description", "another")
    JurySection.model_rebuild(force=True)
    monkeypatch.setitem(schemas.PAIRS.notes, "margin", "another")
    command = cli.main.get_command(click.Context(cli.main), "lock")
    assert command is not None
    monkeypatch.setattr(command, "help", "Another.")
    after = reference.pages()
    assert {path.name for path in before if before[path] != after[path]} == {
        "params.md",
        "tables.md",
        "cli.md",
    }


def test_a_plugin_is_told_with_its_options_names_and_bounds() -> None:
    page = reference.pages()[reference.FOLDER / "plugins/judges.md"]
    assert "## `llm-rubric`" in page
    assert f"[{Judge.__name__}](../face.md#judge)" in page
    registry = manager.load([])
    table = options_table(registry.plugins["objectives", "ppo"][0].options)
    assert "| `clip` | number > 0, < 1 | `0.2` |" in table
    assert "also written `kl_coef`" in table
    assert "| `reward.judges` | mapping" in table
    assert options_table(registry.plugins["pairings", "random"][0].options) == "No options."
