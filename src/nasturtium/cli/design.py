"""`nasturtium design`: which space to search, and how to scale a network."""

from __future__ import annotations

import importlib

import click

PARTS = {
    "tiny": ("design_tiny:tiny", "TinyNAS: which width and resolution a microcontroller's memory admits."),
    "edf": ("design_edf:edf", "Compare two spaces by the distributions of their networks' errors."),
    "scale": ("design_scale:scale", "Scale a network to several budgets, by shares found by a grid search."),
}


class Parts(click.Group):
    """Loads a sub-command when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the lecture."""
        return list(PARTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The sub-command, imported now."""
        if cmd_name not in PARTS:
            return super().get_command(ctx, cmd_name)
        module, name = PARTS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(f"nasturtium.cli.{module}"), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"nasturtium.cli.{module}.{name} is no command.")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in PARTS.items()])


@click.group(cls=Parts, epilog="Example: nasturtium design tiny --sram 256kB --flash 1MB")
def design() -> None:
    """Choose a search space, or scale a network, before anything is searched."""
