"""`karma`: what a person types beside `dvc`; each command is a file of its own, imported when called."""

from __future__ import annotations

import os
from importlib import import_module

import click

from karma_plugins.console import GuardedGroup, interruptible
from karma_plugins.errors import did_you_mean

interruptible()

#: Commands and their one-line help, so that `karma --help` imports none of them.
COMMANDS = {
    "check": "Say before anything runs what would fail or be expensive.",
    "export": "Write the preference dataset in another layout.",
    "family": "Rank every model's true parent by each kinship metric.",
    "import": "Read recorded answers and preference sets of others.",
    "init": "Write dvc.yaml, params.yaml and stages/ into a DVC repository.",
    "kinship": "Measure how alike some models are, without a pipeline.",
    "lineage": "Show what a model or dataset was made from, and what was made from it.",
    "lock": "Accept the installed plugin code: rewrite karma.lock.json.",
    "new-plugin": "Write a distribution of one's own with a working, tested plugin.",
    "plugins": "List the installed plugins.",
    "report": "Write how a run ended on one page that needs no network.",
    "show": "Print pairs, answers or verdicts, filtered.",
    "study": "Compare pairings and objectives over seeds, with intervals and paired tests.",
    "sync": "Complete MLflow from dvc.lock and deliver what waits on disk.",
    "verify": "Compare what MLflow and dvc.lock claim with the bytes on disk.",
}


class Commands(GuardedGroup):
    """The group, whose commands are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = "import_" if cmd_name == "import" else cmd_name.replace("-", "_")
        command: click.Command = import_module(f"karma_plugins.cli.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name in the message of an unknown one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command '{args[0]}'.{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `karma --help`, which imports no command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="karma-plugins", prog_name="karma")
@click.option("--debug", is_flag=True, envvar="KARMA_DEBUG", help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Kinship-aware preference data for stacks that run on DVC and MLflow.

    \b
    Start in a git and DVC repository:  karma init && dvc repro
    Shell completion:  eval "$(_KARMA_COMPLETE=bash_source karma)"
    """
    if debug:
        os.environ["KARMA_DEBUG"] = "1"
