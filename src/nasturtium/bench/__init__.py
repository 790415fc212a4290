"""Strategies measured against each other on tables."""

from nasturtium.bench.comparison import Comparison, Progress, compare, load
from nasturtium.bench.naming import Named
from nasturtium.bench.run import Run
from nasturtium.bench.simulation import simulate
from nasturtium.bench.summary import Summary, summarize
from nasturtium.bench.tables import load_table

__all__ = [
    "Comparison",
    "Named",
    "Progress",
    "Run",
    "Summary",
    "compare",
    "load",
    "load_table",
    "simulate",
    "summarize",
]
