"""Groups whose commands are the plugins of one kind, built-in or of other distributions."""

from __future__ import annotations

from typing import Any, ClassVar

import click

from karma_plugins.contracts import Plugin
from karma_plugins.errors import did_you_mean


class PluginCommands(click.Group):
    """A group with a command for each plugin of `kind`; subclasses say how one is called."""

    kind: ClassVar[str]

    def plugins(self) -> dict[str, Plugin]:
        """The usable plugins by name."""
        from karma_plugins.registry import manager

        registry = manager.load()
        return {name: registry.plugins[self.kind, name][0] for name in registry.names(self.kind)}

    def command_of(self, name: str, plugin: Any) -> click.Command:
        """The command that calls a plugin."""
        raise NotImplementedError

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The fixed commands and the plugins, sorted."""
        return sorted({*super().list_commands(ctx), *self.plugins()})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, with each summary whole: click would cut it."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(c)) for name, c in commands.items() if c is not None])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A fixed command, or the one of the plugin of that name."""
        fixed = super().get_command(ctx, cmd_name)
        plugin = None if fixed is not None else self.plugins().get(cmd_name)
        return fixed if plugin is None else self.command_of(cmd_name, plugin)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name, and the reason where a plugin of that name can't be used."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            from karma_plugins.registry import manager

            registry = manager.load()
            broken = [
                b.message for b in registry.broken if b.name in ("", name) and b.kind in ("", self.kind)
            ]
            known = self.list_commands(ctx)
            why = f" {'; '.join(broken)}." if broken else ""
            ctx.fail(f"No {self.kind.removesuffix('s')} '{name}'.{did_you_mean(name, known)}{why}")
        return super().resolve_command(ctx, args)


def _summary(command: click.Command) -> str:
    text = command.short_help or (command.help or "").partition("\n\n")[0]
    return " ".join(text.split())
