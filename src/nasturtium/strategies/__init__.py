"""Where to look next. Each meets `nasturtium.trial.Strategy`.

Those in `learned` train models of their own, with torch; they are loaded when they are asked for.
"""

from typing import TYPE_CHECKING

from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.preference import lexicographic, preferences
from nasturtium.strategies.registry import STRATEGIES, load, strategy_class

__all__ = [
    "ASHA",
    "NSGA2",
    "STRATEGIES",
    "Auto",
    "Bananas",
    "BayesianOptimization",
    "Candidates",
    "Controller",
    "Grid",
    "Hyperband",
    "LocalSearch",
    "Optuna",
    "PredictorGuided",
    "Random",
    "RegularizedEvolution",
    "SuccessiveHalving",
    "lexicographic",
    "load",
    "preferences",
]

_CLASSES = {target.rpartition(":")[2]: name for name, target in STRATEGIES.items()}


def __getattr__(name: str) -> object:
    if name not in _CLASSES:
        raise AttributeError(f"module 'nasturtium.strategies' has no attribute {name!r}")
    found = strategy_class(_CLASSES[name])
    globals()[name] = found
    return found


if TYPE_CHECKING:  # the same names, for type checkers and editors
    from nasturtium.strategies.evolution import RegularizedEvolution
    from nasturtium.strategies.grid import Grid
    from nasturtium.strategies.local import LocalSearch
    from nasturtium.strategies.random_search import Random
