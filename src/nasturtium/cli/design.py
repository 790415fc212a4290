"""`nasturtium design`: which space to search, and how to scale a network."""

from __future__ import annotations

import click

from nasturtium.cli.lazy import LazyGroup

PARTS = {
    "tiny": ("design_tiny:tiny", "TinyNAS: which width and resolution a microcontroller's memory admits."),
    "edf": ("design_edf:edf", "Compare two spaces by the distributions of their networks' errors."),
    "scale": ("design_scale:scale", "Scale a network to several budgets, by shares found by a grid search."),
}


@click.group(cls=LazyGroup, commands_of=PARTS, epilog="Example: nasturtium design tiny --sram 256kB --flash 1MB")
def design() -> None:
    """Choose a search space, or scale a network, before anything is searched."""
