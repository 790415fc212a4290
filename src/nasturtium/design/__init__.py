"""Which network or space to search: scaling of one network, distributions of errors and of MACs. Loads no torch."""

import importlib
from typing import TYPE_CHECKING

from nasturtium.design.multipliers import Multipliers, compound, fast_compound
from nasturtium.design.scaling import ENDS, Scaled, scale

__all__ = [
    "ENDS",
    "Distribution",
    "ErrorSample",
    "Footprints",
    "Limits",
    "Multipliers",
    "Scaled",
    "compare_spaces",
    "complexity_weights",
    "compound",
    "fast_compound",
    "find_coefficients",
    "normalized",
    "sample_errors",
    "sample_footprints",
    "scale",
    "scaled_family",
    "scan",
]

_WHERE = {
    "Distribution": "edf",
    "ErrorSample": "edf",
    "Footprints": "footprint",
    "Limits": "tiny",
    "compare_spaces": "comparing",
    "complexity_weights": "edf",
    "find_coefficients": "coefficients",
    "normalized": "edf",
    "sample_errors": "sampling",
    "sample_footprints": "tiny",
    "scaled_family": "coefficients",
    "scan": "tiny",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'nasturtium.design' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"nasturtium.design.{_WHERE[name]}"), name)
    globals()[name] = found
    return found


if TYPE_CHECKING:  # the same names, for type checkers and editors
    from nasturtium.design.coefficients import find_coefficients, scaled_family
    from nasturtium.design.comparing import compare_spaces
    from nasturtium.design.edf import Distribution, ErrorSample, complexity_weights, normalized
    from nasturtium.design.footprint import Footprints
    from nasturtium.design.sampling import sample_errors
    from nasturtium.design.tiny import Limits, sample_footprints, scan
