"""Where to look next. Each meets `nasturtium.trial.Strategy`.

Those in `learned` train models of their own, with torch; they are loaded when they are asked for.
"""

import importlib
from typing import TYPE_CHECKING

from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.naming import Named
from nasturtium.strategies.preference import lexicographic, preferences, usable
from nasturtium.strategies.registry import STRATEGIES, load, strategy_class

__all__ = [
    "ASHA",
    "NSGA2",
    "STRATEGIES",
    "Auto",
    "Bananas",
    "BayesianOptimization",
    "Candidates",
    "ConstraintMap",
    "Controller",
    "Grid",
    "Hyperband",
    "LocalSearch",
    "Named",
    "Optuna",
    "PredictorGuided",
    "Random",
    "RegularizedEvolution",
    "SuccessiveHalving",
    "chance_of_top",
    "constraint_map",
    "expected_best",
    "lexicographic",
    "load",
    "preferences",
    "usable",
]

_CLASSES = {target.rpartition(":")[2]: name for name, target in STRATEGIES.items()}
_WHERE = {
    "ConstraintMap": "feasibility",
    "chance_of_top": "random_search",
    "constraint_map": "feasibility",
    "expected_best": "random_search",
}


def __getattr__(name: str) -> object:
    if name in _CLASSES:
        found = strategy_class(_CLASSES[name])
    elif name in _WHERE:
        found = getattr(importlib.import_module(f"nasturtium.strategies.{_WHERE[name]}"), name)
    else:
        raise AttributeError(f"module 'nasturtium.strategies' has no attribute {name!r}")
    globals()[name] = found
    return found


if TYPE_CHECKING:  # the same names, for type checkers and editors
    from nasturtium.strategies.asha import ASHA
    from nasturtium.strategies.evolution import RegularizedEvolution
    from nasturtium.strategies.feasibility import ConstraintMap, constraint_map
    from nasturtium.strategies.grid import Grid
    from nasturtium.strategies.halving import SuccessiveHalving
    from nasturtium.strategies.hyperband import Hyperband
    from nasturtium.strategies.learned.auto import Auto
    from nasturtium.strategies.learned.bananas import Bananas
    from nasturtium.strategies.learned.bayesian import BayesianOptimization
    from nasturtium.strategies.learned.controller import Controller
    from nasturtium.strategies.learned.predictor import PredictorGuided
    from nasturtium.strategies.local import LocalSearch
    from nasturtium.strategies.nsga2 import NSGA2
    from nasturtium.strategies.optuna_sampler import Optuna
    from nasturtium.strategies.random_search import Random, chance_of_top, expected_best
