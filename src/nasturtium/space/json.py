"""Blocks as plain JSON, both ways; reading imports nothing that is not trusted."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.space.block import Block, Open

VERSION = 1
"""Version of the stored form of blocks, architectures and spaces."""


def type_name(cls: type) -> str:
    """`"module:qualified.name"` of a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def block_to_dict(block: Block) -> dict[str, object]:
    """A closed block as plain JSON: `{"type": "module:Class", "fields": {...}}`.

    Raises:
        InvalidInputError: a field holds an open choice, or a value that JSON cannot express.
    """
    return block_json(block, _refuse_open)


def block_from_dict(data: Mapping[str, object], *, trust: bool = False) -> Block:
    """The block of a dictionary made by `block_to_dict`; lists become tuples.

    Args:
        data: The dictionary.
        trust: Whether modules other than Nasturtium's own may be imported, which runs their code. Classes that are
            already imported need no trust.

    Raises:
        InvalidArchitectureError: the dictionary does not describe a block, or its class cannot be found.
    """
    if not isinstance(data, Mapping) or not {"type", "fields"} <= set(data):
        raise InvalidArchitectureError(f'A stored block must be {{"type": ..., "fields": ...}}, got {data!r}.')
    cls = find_class(str(data["type"]), trust=trust)
    fields = data["fields"]
    if not isinstance(fields, Mapping):
        raise InvalidArchitectureError(f'"fields" of a stored {data["type"]} must be an object, got {fields!r}.')
    try:
        block = cls(**{str(k): value_from_json(v, trust=trust) for k, v in fields.items()})
    except TypeError as error:
        raise InvalidArchitectureError(f"Stored fields do not fit {data['type']}: {error}.") from error
    for name in block.foreign_modules:
        if not trust and name not in sys.modules:
            raise InvalidArchitectureError(
                f"The stored block {data['type']!r} would import {name!r} and run its code: import that module first, "
                "or pass `trust=True` if you trust it."
            )
    return block


def find_class(name: str, *, trust: bool = False) -> type[Block]:
    """The block class `"module:qualified.name"`; see `block_from_dict`."""
    found = Block._known.get(name)
    if found is not None:
        return found
    module_name, _, qualified = name.partition(":")
    if not qualified:
        raise InvalidArchitectureError(f'A block\'s type must be "module:Class", got {name!r}.')
    if module_name.split(".")[0] != "nasturtium" and not trust:
        raise InvalidArchitectureError(
            f"The stored block {name!r} is not one of Nasturtium's, and reading it would run the code of "
            f"{module_name!r}: import that module first, or pass `trust=True` if you trust it."
        )
    try:
        importlib.import_module(module_name)
    except ImportError as error:
        raise InvalidArchitectureError(
            f"The module of the stored block {name!r} cannot be imported: {error}."
        ) from error
    found = Block._known.get(name)
    if found is None:
        raise InvalidArchitectureError(f"The module {module_name!r} has no block {qualified!r}.")
    return found


def block_json(block: Block, on_open: Callable[[Open], object]) -> dict[str, object]:
    """`block_to_dict` where `on_open` says how an open value is written."""
    fields = {}
    for name in block._field_names:
        try:
            fields[name] = value_json(getattr(block, name), on_open)
        except InvalidInputError as error:
            raise type(error)(f"{type(block).__name__}.{name}: {error}") from None
    return {"type": type_name(type(block)), "fields": fields}


def value_json(value: object, on_open: Callable[[Open], object]) -> Any:
    """A field's value as plain JSON."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Block):
        return block_json(value, on_open)
    if isinstance(value, (tuple, list)):
        return [value_json(item, on_open) for item in value]
    if isinstance(value, Open):
        return on_open(value)
    raise InvalidInputError(
        f"cannot store {value!r}: a stored field holds numbers, strings, booleans, None, blocks, or tuples of these."
    )


def value_from_json(value: object, *, trust: bool = False) -> Any:
    """The inverse of `value_json` for closed values."""
    if isinstance(value, list):
        return tuple([value_from_json(item, trust=trust) for item in value])
    if isinstance(value, Mapping):
        return block_from_dict(value, trust=trust)
    return value


def check_version(data: object, what: str) -> Mapping[str, Any]:
    """A stored object of a version that this library reads.

    Raises:
        InvalidArchitectureError: it is not an object, has no version, or one that is unknown.
    """
    if not isinstance(data, Mapping) or "version" not in data:
        raise InvalidArchitectureError(f'A stored {what} must be a JSON object with a "version", got {data!r}.')
    if data["version"] != VERSION:
        raise InvalidArchitectureError(
            f"The stored {what} has version {data['version']!r}, but this Nasturtium reads version {VERSION}: "
            "read it with the Nasturtium that wrote it, or a newer one."
        )
    return data


def _refuse_open(value: Open) -> object:
    raise InvalidInputError(f"has the open value {value!r}; only closed blocks are stored: close it through a `Space`.")
