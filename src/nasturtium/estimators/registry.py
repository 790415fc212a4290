"""Estimators by name, where text comes in: the command line and stored JSON. In Python, import the class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.estimators.protocol import Estimator

ESTIMATORS: dict[str, str] = {
    "extrapolated": "nasturtium.estimators.curve:Extrapolated",
    "inherited": "nasturtium.estimators.inherited:Inherited",
    "shared_weights": "nasturtium.estimators.shared_weights:SharedWeights",
    "tabular": "nasturtium.estimators.tables:Tabular",
    "trained": "nasturtium.estimators.trained:Trained",
    "zero-cost": "nasturtium.estimators.zero_cost:ZeroCost",
}
"""Classes by the "type" that their `to_dict` writes; each has `from_dict`. Imported when asked for."""


def from_dict(data: Mapping[str, Any], *, trust: bool = False) -> Estimator:
    """The estimator that `to_dict` described.

    Args:
        data: Its "type" is a name of `ESTIMATORS`, or the "module:Class" of a user's estimator, whose `from_dict` gets
            the whole.
        trust: Whether a user's module may be imported, which runs its code.

    Raises:
        UnknownNameError: the type is no known name.
        InvalidInputError: it may not or cannot be imported, or its settings are wrong.
    """
    kind = data.get("type")
    if not isinstance(kind, str):
        raise InvalidInputError(f"A stored estimator must have a \"type\" such as 'trained', got {dict(data)!r}.")
    if kind in ESTIMATORS:
        module_name, _, class_name = ESTIMATORS[kind].partition(":")
        read = getattr(importlib.import_module(module_name), class_name).from_dict
        takes_trust = "trust" in inspect.signature(read).parameters  # for blocks or functions that it names
        known: Estimator = read(data, trust=trust) if takes_trust else read(data)
        return known
    module_name, _, class_name = kind.partition(":")
    if not class_name:
        raise UnknownNameError("estimator", kind, ESTIMATORS)
    if not trust:
        raise InvalidInputError(
            f"The estimator {kind!r} is not part of nasturtium; importing it runs its code. Pass trust=True (--trust) "
            "if you trust it."
        )
    try:
        made = getattr(importlib.import_module(module_name), class_name).from_dict(data)
    except (ImportError, AttributeError) as error:
        raise InvalidInputError(f"The estimator {kind!r} cannot be imported: {error}. Is it on PYTHONPATH?") from error
    if not isinstance(made, Estimator):
        raise InvalidInputError(f"{kind!r} must have what `nasturtium.estimators.Estimator` lists, got {made!r}.")
    return made
