"""Regressors by name, by import path, or as objects: whatever has scikit-learn's `fit` and `predict`."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import ArrayLike

from nasturtium.errors import InvalidInputError, UnknownNameError

TRUSTED = ("nasturtium", "sklearn", "xgboost", "lightgbm", "catboost")
"""Packages from which a regressor is imported on the word of a setting; others must have been imported before."""

REGRESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "boosting": ("sklearn.ensemble:GradientBoostingRegressor", {"subsample": 0.8, "max_features": "sqrt"}),
    "ensemble": ("nasturtium.surrogates.ensemble:Ensemble", {}),
    "forest": ("sklearn.ensemble:RandomForestRegressor", {"n_estimators": 30, "max_features": 1 / 3}),
    "gp": ("nasturtium.surrogates.process_regressor:ProcessRegressor", {}),
    "ridge": ("sklearn.linear_model:RidgeCV", {"alphas": (0.01, 0.1, 1.0, 10.0, 100.0)}),
}
"""Import path and settings of each name. A third of the features a split is Breiman's default for regression (2001), a
subsample Friedman's (2002), the rest are scikit-learn's; trees and features are few, so that a search does not wait."""


class Regressor(Protocol):
    """Learns numbers from rows of numbers."""

    def fit(self, rows: ArrayLike, targets: ArrayLike, /) -> object:
        """Train on `(n, features)` and `(n,)`."""
        ...

    def predict(self, rows: ArrayLike, /) -> Any:
        """Predict `(n,)`."""
        ...


def check_regressor(regressor: object, options: Mapping[str, Any]) -> None:
    """Raise where `make_regressor` would, before anything is searched."""
    make_regressor(regressor, options, seed=0)


def make_regressor(regressor: object, options: Mapping[str, Any], *, seed: int) -> Regressor:
    """A new regressor that was not trained yet.

    Args:
        regressor: A name of `REGRESSORS`, "module:Class", `describe_regressor`'s dictionary, or an object to copy.
        options: Arguments of a named class.
        seed: Its `random_state` or `seed`, where it has one and the options do not set it.

    Raises:
        UnknownNameError: no regressor of that name.
        InvalidInputError: it cannot be imported or made, or has no `fit` and `predict`.
    """
    if isinstance(regressor, str):
        path, settings = _named(regressor)
        made = _build(path, {**settings, **options})
    elif isinstance(regressor, Mapping):
        made = _build(str(regressor.get("type")), {**regressor.get("arguments", {}), **options})
    else:
        if options:
            raise InvalidInputError("`options` are of a regressor given by name; this one is an object: set its own.")
        made = copy.deepcopy(regressor)
    if isinstance(made, type) or not all(callable(getattr(made, name, None)) for name in ("fit", "predict")):
        raise InvalidInputError(f"A regressor must be an object with `fit` and `predict`, got {made!r}.")
    _seed(made, seed, options)
    return made


def describe_regressor(regressor: object) -> object:
    """A regressor as plain JSON: its name, or its import path and arguments.

    Raises:
        InvalidInputError: an object that does not say its arguments.
    """
    if isinstance(regressor, (str, Mapping)):
        return regressor
    kind = type(regressor)
    if callable(getattr(regressor, "get_params", None)):
        arguments = regressor.get_params(deep=False)  # type: ignore[attr-defined]
    elif dataclasses.is_dataclass(regressor):
        arguments = {f.name: getattr(regressor, f.name) for f in dataclasses.fields(regressor) if f.init}
    else:
        raise InvalidInputError(
            f"The regressor {regressor!r} cannot be stored: it has no `get_params` and is no dataclass. Give it one of "
            "them, or name it as 'module:Class'."
        )
    return {"type": f"{kind.__module__}:{kind.__qualname__}", "arguments": arguments}


def _named(name: str) -> tuple[str, dict[str, Any]]:
    if name in REGRESSORS:
        return REGRESSORS[name]
    if ":" not in name:
        raise UnknownNameError("regressor", name, list(REGRESSORS))
    return name, {}


def _build(path: str, arguments: Mapping[str, Any]) -> Any:
    module, _, kind = path.partition(":")
    if module not in sys.modules and module.split(".")[0] not in TRUSTED:
        raise InvalidInputError(
            f"The regressor {path!r} is of a package that is not imported on a setting's word ({', '.join(TRUSTED)} "
            f"are): importing runs its code. Run `import {module}` first if you trust it."
        )
    try:
        found: Any = importlib.import_module(module)
        for name in kind.split("."):
            found = getattr(found, name)
        return found(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InvalidInputError(f"The regressor {path!r} cannot be made with {dict(arguments)}: {error}.") from error


def _seed(made: Any, seed: int, options: Mapping[str, Any]) -> None:
    """Set the source of chance, so that a search can be repeated."""
    if callable(getattr(made, "get_params", None)) and "random_state" in made.get_params(deep=False):
        if "random_state" not in options:
            made.set_params(random_state=seed)
    elif dataclasses.is_dataclass(made) and hasattr(made, "seed") and "seed" not in options:
        made.seed = seed
