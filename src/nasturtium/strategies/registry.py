"""Strategies by name, where text comes in: the command line and stored files. In Python, import the class."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.trial.types import Strategy

ENTRY_POINTS = "nasturtium.strategies"
"""Group of entry points under which other packages offer strategies."""

STRATEGIES: dict[str, str] = {
    "asha": "nasturtium.strategies.asha:ASHA",
    "auto": "nasturtium.strategies.learned.auto:Auto",
    "bananas": "nasturtium.strategies.learned.bananas:Bananas",
    "bayesian": "nasturtium.strategies.learned.bayesian:BayesianOptimization",
    "controller": "nasturtium.strategies.learned.controller:Controller",
    "evolution": "nasturtium.strategies.evolution:RegularizedEvolution",
    "grid": "nasturtium.strategies.grid:Grid",
    "halving": "nasturtium.strategies.halving:SuccessiveHalving",
    "hyperband": "nasturtium.strategies.hyperband:Hyperband",
    "local": "nasturtium.strategies.local:LocalSearch",
    "nsga2": "nasturtium.strategies.nsga2:NSGA2",
    "optuna": "nasturtium.strategies.optuna_sampler:Optuna",
    "predictor": "nasturtium.strategies.learned.predictor:PredictorGuided",
    "random": "nasturtium.strategies.random_search:Random",
}
"""Where each strategy is found; a module is imported when its strategy is asked for."""


def load(name: str, **options: Any) -> Strategy:
    """Make a strategy by its name.

    Args:
        name: One of `STRATEGIES`, or an entry point of the group "nasturtium.strategies".
        **options: Its settings.

    Raises:
        UnknownNameError: no strategy of that name.
        InvalidInputError: it does not take these settings, or two packages offer one name.
    """
    make = strategy_class(name) if name in STRATEGIES else _others_strategy(name)
    try:
        made: Strategy = make(**options)
    except TypeError as error:
        raise InvalidInputError(f"The strategy {name!r} does not take these settings: {error}.") from error
    return made


def _others_strategy(name: str) -> Any:
    """What another package offers by a name; all installed packages are looked through."""
    others: dict[str, Any] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name in STRATEGIES or entry.name in others:
            raise InvalidInputError(f"Two strategies are called {entry.name!r}: the second is {entry.value!r}.")
        others[entry.name] = entry
    if name not in others:
        raise UnknownNameError("strategy", name, [*STRATEGIES, *others])
    return others[name].load()


def strategy_class(name: str) -> Any:
    """The class of a strategy of `STRATEGIES`."""
    module, _, kind = STRATEGIES[name].partition(":")
    return getattr(importlib.import_module(module), kind)
