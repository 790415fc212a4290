"""A group whose commands are loaded one by one on use, so that help is instant."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Loads a command's module only when that command runs.

    Args:
        commands_of: By name: ("module:name" in this room, one line for the list), in the order of the list.
        *args: Of `click.Group`.
        **kwargs: Of `click.Group`.
    """

    def __init__(self, *args: Any, commands_of: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_of = commands_of

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order given."""
        return list(self.commands_of)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self.commands_of:
            return super().get_command(ctx, cmd_name)
        module, name = self.commands_of[cmd_name][0].split(":")
        command = getattr(importlib.import_module(f"nasturtium.cli.{module}"), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"nasturtium.cli.{module}.{name} is no command.")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.commands_of.items()])
