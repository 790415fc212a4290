"""Strategies by name, where text comes in: the command line and stored files. In Python, import the class."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.strategies.evolution import RegularizedEvolution
from nasturtium.strategies.grid import Grid
from nasturtium.strategies.local import LocalSearch
from nasturtium.strategies.random_search import Random
from nasturtium.trial.types import Strategy

ENTRY_POINTS = "nasturtium.strategies"
"""Group of entry points under which other packages offer strategies."""

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "evolution": RegularizedEvolution,
    "grid": Grid,
    "local": LocalSearch,
    "random": Random,
}


def load(name: str, **options: Any) -> Strategy:
    """Make a strategy by its name.

    Args:
        name: One of `STRATEGIES`, or an entry point of the group "nasturtium.strategies".
        **options: Its settings.

    Raises:
        UnknownNameError: no strategy of that name.
        InvalidInputError: it does not take these settings, or two packages offer one name.
    """
    makers: dict[str, Any] = dict(STRATEGIES)
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name in makers:
            raise InvalidInputError(f"Two strategies are called {entry.name!r}: the second is {entry.value!r}.")
        makers[entry.name] = entry
    if name not in makers:
        raise UnknownNameError("strategy", name, makers)
    make = makers[name] if name in STRATEGIES else makers[name].load()
    try:
        made: Strategy = make(**options)
    except TypeError as error:
        raise InvalidInputError(f"The strategy {name!r} does not take these settings: {error}.") from error
    return made
