"""Where to look next. Each meets `nasturtium.trial.Strategy`; none imports torch."""

from nasturtium.strategies.candidates import Candidates
from nasturtium.strategies.evolution import RegularizedEvolution
from nasturtium.strategies.grid import Grid
from nasturtium.strategies.local import LocalSearch
from nasturtium.strategies.preference import lexicographic, preferences
from nasturtium.strategies.random_search import Random
from nasturtium.strategies.registry import STRATEGIES, load

__all__ = [
    "STRATEGIES",
    "Candidates",
    "Grid",
    "LocalSearch",
    "Random",
    "RegularizedEvolution",
    "lexicographic",
    "load",
    "preferences",
]
