"""Estimators: how good is an architecture.

Those that train load torch when they are asked for; tables do not need it.
"""

import importlib
from typing import TYPE_CHECKING

from nasturtium.estimators.protocol import Described, Estimator, Job, Parent
from nasturtium.estimators.registry import ESTIMATORS, from_dict

__all__ = [
    "ESTIMATORS",
    "Column",
    "Described",
    "Estimator",
    "Extrapolated",
    "Inherited",
    "Job",
    "Parent",
    "SharedWeights",
    "Tabular",
    "Trained",
    "ZeroCost",
    "compare_rankings",
    "from_dict",
    "load_weights",
    "make_table",
    "measure_test",
    "merge_repeats",
    "read_correct",
    "read_trust",
    "table",
    "zero_cost",
]

_WHERE = {
    "Column": "tables",
    "Extrapolated": "curve",
    "Inherited": "inherited",
    "SharedWeights": "shared_weights",
    "Tabular": "tables",
    "Trained": "trained",
    "ZeroCost": "zero_cost",
    "compare_rankings": "comparing",
    "load_weights": "final",
    "make_table": "tables",
    "measure_test": "final",
    "merge_repeats": "tables",
    "read_correct": "results",
    "read_trust": "comparing",
    "table": "tables",
    "zero_cost": "",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'nasturtium.estimators' has no attribute {name!r}")
    module = importlib.import_module(f"nasturtium.estimators.{_WHERE[name] or name}")
    found = getattr(module, name) if _WHERE[name] else module
    globals()[name] = found
    return found


if TYPE_CHECKING:  # the same names, for type checkers and editors
    from nasturtium.estimators import zero_cost
    from nasturtium.estimators.comparing import compare_rankings, read_trust
    from nasturtium.estimators.curve import Extrapolated
    from nasturtium.estimators.final import load_weights, measure_test
    from nasturtium.estimators.inherited import Inherited
    from nasturtium.estimators.results import read_correct
    from nasturtium.estimators.shared_weights import SharedWeights
    from nasturtium.estimators.tables import Column, Tabular, make_table, merge_repeats, table
    from nasturtium.estimators.trained import Trained
    from nasturtium.estimators.zero_cost import ZeroCost
