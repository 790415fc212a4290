"""Strategies and estimators as JSON and back, for the settings of a study and for worker processes."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from nasturtium.errors import InvalidInputError, StoreError

Json = dict[str, Any]


@runtime_checkable
class Lenient(Protocol):
    """What a method or an estimator may have besides: settings that change no result, such as how much memory is used.

    A study goes on when they differ; it keeps the new ones.
    """

    @property
    def incidental(self) -> tuple[str, ...]:
        """Their names in `to_dict`; with dots, where they are inside others."""
        ...


def incidental_of(method: object, name: str) -> tuple[str, ...]:
    """Where the incidental settings of a method or an estimator stand among what is compared.

    Args:
        method: It, or None.
        name: "method" or "estimator".
    """
    return tuple([f"{name}.arguments.{own}" for own in method.incidental]) if isinstance(method, Lenient) else ()


def describe(value: object, what: str) -> Json:
    """`{"type": "module:Class", "arguments": {…}}` of an object that has `to_dict`, or is a dataclass of plain values.

    Args:
        value: A strategy or an estimator.
        what: "strategy" or "estimator", for messages.

    Raises:
        InvalidInputError: its settings cannot be written as JSON.
    """
    kind = type(value)
    if hasattr(value, "to_dict"):
        arguments = value.to_dict()
    elif dataclasses.is_dataclass(value):
        arguments = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    else:
        raise InvalidInputError(
            f"The {what} {value!r} cannot be stored with a study: it is not a dataclass of plain values and has no "
            "`to_dict`. Make it one, so that the study can say what it was run with and go on after a stop."
        )
    try:
        arguments = json.loads(json.dumps(arguments, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"The {what} {value!r} cannot be stored with a study: its settings are not plain JSON ({error}). Give it "
            "`to_dict` and `from_dict`, or keep to numbers, text, lists and dictionaries in its fields."
        ) from error
    return {"type": f"{kind.__module__}:{kind.__qualname__}", "arguments": arguments}


def restore(data: Mapping[str, Any], what: str, *, trust: bool = False) -> Any:
    """Inverse of `describe`.

    Args:
        data: What `describe` gave.
        what: "strategy" or "estimator", for messages.
        trust: Whether modules other than nasturtium's, that are not imported yet, may be imported.

    Raises:
        StoreError: the class is unknown, not trusted, or does not take the arguments.
    """
    module_name, _, qualified = str(data.get("type", "")).partition(":")
    if not qualified:
        raise StoreError(f"The stored {what} must have a type 'module:Class', got {data!r}.")
    if not (trust or module_name in sys.modules or module_name.split(".")[0] == "nasturtium"):
        raise StoreError(
            f"The stored {what} is {data['type']!r}, which is not part of nasturtium. Import {module_name!r} first, or "
            "pass `trust=True` (`--trust`) if you trust where this study comes from: importing runs its code."
        )
    try:
        found: Any = importlib.import_module(module_name)
        for name in qualified.split("."):
            found = getattr(found, name)
        arguments = data["arguments"]
        if not hasattr(found, "from_dict"):
            return found(**arguments)
        takes_trust = "trust" in inspect.signature(found.from_dict).parameters  # for a function that it names
        return found.from_dict(arguments, trust=trust) if takes_trust else found.from_dict(arguments)
    except (ImportError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise StoreError(f"The stored {what} {data.get('type')!r} cannot be made again: {error}.") from error
