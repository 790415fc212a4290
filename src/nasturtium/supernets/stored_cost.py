"""A searcher's cost as JSON and back: the name of a count, the import path of a function, or a table's content."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol, Self

from nasturtium.errors import InvalidInputError
from nasturtium.graph.operations import OPERATIONS, Operation, Shape
from nasturtium.hardware.table_cost import TableCost
from nasturtium.space.describe import predicate_digest
from nasturtium.supernets.expected import Additive, OperationCost

AnyCost = Additive | OperationCost | Mapping[tuple[Operation, tuple[Shape, ...]], float]
KINDS = {kind.__name__: kind for kind in OPERATIONS}


class StoredObject(Protocol):
    """An object that is called for a cost, and that a file can hold."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        ...

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        ...


OBJECTS: dict[str, type[StoredObject]] = {"latency_table": TableCost}
"""Objects that are costs and can be stored, by the name under which they are."""


def cost_to_json(cost: AnyCost | None) -> str | dict[str, Any] | None:
    """A cost as plain JSON.

    Args:
        cost: A name such as "macs"; a function of a module, stored as `{"function": "module:name"}`; a table, stored
            as `{"table": [{"operation", "fields", "inputs", "cost"}, ...]}`; the `cost` of a latency table, stored as
            `{"latency_table": {...}}` with all its kernels; or None.

    Raises:
        InvalidInputError: a function that cannot be imported again (a lambda, a function inside another one, an
            object that is called), or a table with operations of another library.
    """
    if cost is None or isinstance(cost, str):
        return cost
    name = stored_name(cost)
    if name is not None:
        return {name: cost.to_dict()}  # type: ignore[union-attr]
    if callable(cost):
        return {"function": _import_path(cost)}
    entries = [_entry(operation, inputs, value) for (operation, inputs), value in cost.items()]
    return {"table": sorted(entries, key=repr)}


def cost_from_json(data: Any, *, trust: bool = False) -> Any:
    """Inverse of `cost_to_json`.

    Args:
        data: What it gave.
        trust: Whether a module that is not nasturtium's and not imported yet may be imported for a function.

    Raises:
        InvalidInputError: it is no stored cost, its module is not trusted, or the function is not there.
    """
    if data is None or isinstance(data, str):
        return data
    if isinstance(data, Mapping) and set(data) == {"function"}:
        return _imported(str(data["function"]), trust)
    if isinstance(data, Mapping) and set(data) == {"table"}:
        return dict(map(_read_entry, data["table"]))
    if isinstance(data, Mapping) and len(data) == 1 and set(data) <= set(OBJECTS):
        [(name, content)] = data.items()
        return OBJECTS[name].from_dict(content)
    raise InvalidInputError(
        f"A stored `cost` must be a name, {{'function': 'module:name'}}, {{'table': [...]}}, "
        f"{{'latency_table': {{...}}}} or None, got {data!r}."
    )


def stored_name(cost: object) -> str | None:
    """The name under which an object that is a cost is stored; None for functions, tables and all else."""
    return next((name for name, kind in OBJECTS.items() if type(cost) is kind), None)


def cost_facts(cost: AnyCost | None) -> object:
    """What tells costs apart where a search goes on from its checkpoint: functions by name and code, objects by type.

    Tables are told apart by what Python prints of them, objects that can be stored by a digest of that.
    """
    if cost is None or isinstance(cost, str):
        return cost
    name = stored_name(cost)
    if name is not None:
        text = json.dumps(cost.to_dict(), sort_keys=True)  # type: ignore[union-attr]
        return {name: hashlib.sha256(text.encode()).hexdigest()}
    if not callable(cost):
        return sorted(map(repr, cost.items()))
    if not hasattr(cost, "__code__"):
        return {"object": type(cost).__qualname__}
    return {"function": cost.__qualname__, "digest": predicate_digest(cost)}  # type: ignore[arg-type]


def _import_path(function: Callable[..., object]) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module is not None and name is not None and "<" not in name and _found(module, name) is function:
        return f"{module}:{name}"
    raise InvalidInputError(
        f"The `cost` {function!r} cannot be stored with a study, which would go on from its file: define it as a "
        "function at the top level of a module, not as a lambda, inside another function or as an object that is "
        "called; or give a table of costs by operation and shapes of its inputs, or the `cost` of a latency table."
    )


def _found(module: str, name: str) -> object:
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _imported(path: str, trust: bool) -> object:
    module, _, name = path.partition(":")
    if not (trust or module in sys.modules or module.split(".")[0] == "nasturtium"):
        raise InvalidInputError(
            f"The stored `cost` is the function {path!r}, which is not part of nasturtium. Import {module!r} first, or "
            "pass `trust=True` (`--trust`) if you trust where this study comes from: importing runs its code."
        )
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InvalidInputError(f"The stored `cost` {path!r} cannot be imported: {error}.") from error
    found = _found(module, name)
    if not callable(found):
        raise InvalidInputError(f"The stored `cost` {path!r} is no function of its module: was it renamed or moved?")
    return found


def _entry(operation: Operation, inputs: tuple[Shape, ...], value: float) -> dict[str, Any]:
    name = type(operation).__name__
    if KINDS.get(name) is not type(operation):
        raise InvalidInputError(
            f"The `cost` table cannot be stored with a study: {operation!r} is no operation of "
            "`nasturtium.graph.operations`. Give a function of a module that knows its cost instead."
        )
    shapes = [list(shape) for shape in inputs]
    return {"operation": name, "fields": asdict(operation), "inputs": shapes, "cost": float(value)}


def _read_entry(entry: Mapping[str, Any]) -> tuple[tuple[Operation, tuple[Shape, ...]], float]:
    try:
        fields = {name: _tuples(value) for name, value in entry["fields"].items()}
        operation = KINDS[entry["operation"]](**fields)
        return (operation, tuple([tuple(shape) for shape in entry["inputs"]])), float(entry["cost"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            f"An entry of a stored `cost` table must have operation, fields, inputs and cost, got {entry!r}."
        ) from error


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
