"""Strategies measured against each other on tables.

Names are loaded on first use, since worker processes need few of them.
"""

import importlib
from typing import TYPE_CHECKING

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

_WHERE = {
    "Comparison": "bench.comparison",
    "Named": "strategies",
    "Progress": "bench.comparison",
    "Run": "bench.run",
    "Summary": "bench.summary",
    "compare": "bench.comparison",
    "load": "bench.comparison",
    "load_table": "bench.tables",
    "simulate": "bench.simulation",
    "summarize": "bench.summary",
}

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from nasturtium.bench.comparison import Comparison, Progress, compare, load
    from nasturtium.bench.run import Run
    from nasturtium.bench.simulation import simulate
    from nasturtium.bench.summary import Summary, summarize
    from nasturtium.bench.tables import load_table
    from nasturtium.strategies import Named


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'nasturtium.bench' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"nasturtium.{_WHERE[name]}"), name)
    globals()[name] = found
    return found
