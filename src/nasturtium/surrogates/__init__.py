"""Models of performance: encodings, kernels, Gaussian processes, ensembles, curves, acquisition functions.

Names are loaded on first use: Gaussian processes need torch, the others do not.
"""

import importlib
from typing import TYPE_CHECKING

__all__ = [
    "CurveStopping",
    "Encoder",
    "Ensemble",
    "Forecast",
    "Kernels",
    "LowerLog",
    "MedianStopping",
    "Processes",
    "acquisition",
    "extrapolate",
    "gaussian_process",
    "stopping_from_dict",
]

_WHERE = {
    "CurveStopping": "stopping",
    "Encoder": "encodings",
    "Ensemble": "ensemble",
    "Forecast": "curves",
    "LowerLog": "warping",
    "Kernels": "kernels",
    "MedianStopping": "stopping",
    "Processes": "kernels",
    "extrapolate": "curves",
    "stopping_from_dict": "stopping",
}
_MODULES = ("acquisition", "gaussian_process")

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from nasturtium.surrogates import acquisition, gaussian_process
    from nasturtium.surrogates.curves import Forecast, extrapolate
    from nasturtium.surrogates.encodings import Encoder
    from nasturtium.surrogates.ensemble import Ensemble
    from nasturtium.surrogates.kernels import Kernels, Processes
    from nasturtium.surrogates.stopping import CurveStopping, MedianStopping, stopping_from_dict
    from nasturtium.surrogates.warping import LowerLog


def __getattr__(name: str) -> object:
    if name in _WHERE:
        value = getattr(importlib.import_module(f"nasturtium.surrogates.{_WHERE[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"nasturtium.surrogates.{name}")
    else:
        raise AttributeError(f"module 'nasturtium.surrogates' has no attribute {name!r}")
    globals()[name] = value
    return value
