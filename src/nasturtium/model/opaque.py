"""Users' own PyTorch modules: found by import path, measured on the meta device."""

from __future__ import annotations

import importlib
import json

from torch import nn

from nasturtium.errors import TraceError


def resolve(target: str) -> type[nn.Module]:
    """The class at "package.module:Class".

    Raises:
        TraceError: it cannot be imported, or is no `torch.nn.Module`.
    """
    module_name, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise TraceError(
            f"The module {target!r} cannot be imported ({error}): its file must be on the import path, and the class "
            "at its top level."
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise TraceError(f"A module must be a subclass of `torch.nn.Module`, but {target!r} is {found!r}.")
    return found


def _tuples(value: object) -> object:
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return value


def instantiate(target: str, arguments: str) -> nn.Module:
    """Make the module.

    Args:
        target: "package.module:Class".
        arguments: JSON object; lists become tuples.
    """
    values = {name: _tuples(value) for name, value in json.loads(arguments).items()}
    kind = resolve(target)
    try:
        return kind(**values)
    except Exception as error:
        raise TraceError(f"{target}(**{values!r}) failed with {type(error).__name__}: {error}.") from error
