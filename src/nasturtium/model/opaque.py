"""Users' own PyTorch modules: found by import path, measured on the meta device, never pickled."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from nasturtium.errors import InvalidInputError, TraceError
from nasturtium.graph.operations import Shape
from nasturtium.model.initialize import isolated_random_state

BATCH = 2
"""Samples in a measurement: two, so that batch normalisation works and a lost batch axis shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a module does to inputs of given shapes, for one sample."""

    output: Shape
    params: int
    """Trainable parameters."""
    macs: int
    activations: int
    """Elements of all convolution outputs."""


def import_path(kind: type) -> str:
    """Import path "package.module:Class" of a class.

    Raises:
        InvalidInputError: the class is no `nn.Module`, or another process could not import it.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise InvalidInputError(
            "`nas.Module` takes a subclass of `torch.nn.Module` or its import path 'package.module:Class', "
            f"got {kind!r}."
        )
    if kind.__module__ == "__main__" or "<" in kind.__qualname__:
        where = "the script that is running" if kind.__module__ == "__main__" else "a function"
        raise InvalidInputError(
            f"{kind.__qualname__} is defined in {where}, where no other process can import it: move it to the top "
            f"level of a module (a file of its own beside the script is enough), import it from there, and give that."
        )
    return f"{kind.__module__}:{kind.__qualname__}"


@lru_cache(maxsize=1024)
def resolve(target: str) -> type[nn.Module]:
    """The class at "package.module:Class".

    Raises:
        TraceError: it cannot be imported, or is no `torch.nn.Module`.
    """
    module_name, _, name = target.partition(":")
    if not (module_name and name):
        raise TraceError(f"An import path looks like 'package.module:Class', got {target!r}.")
    try:
        found: object = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # importing runs the user's code
        raise TraceError(
            f"The module {target!r} cannot be imported ({type(error).__name__}: {error}): its file "
            "must be on the import path (`PYTHONPATH`, "
            "or an installed package), and the class at its top level."
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise TraceError(f"{target!r} must be a subclass of `torch.nn.Module`, got {found!r}.")
    return found


def source_file(target: str) -> Path:
    """The file that defines the class.

    Raises:
        TraceError: the class has no source file.
    """
    file = inspect.getsourcefile(resolve(target))
    if file is None or not Path(file).is_file():
        raise TraceError(f"The source of {target!r} cannot be read ({file!r}), so it has no identity to store.")
    return Path(file)


@lru_cache(maxsize=1024)
def source_digest(target: str) -> str:
    """SHA-256 (16 hexadecimal digits) of the file that defines the class."""
    return hashlib.sha256(source_file(target).read_bytes()).hexdigest()[:16]


def parameters_of(target: str) -> frozenset[str]:
    """Names of the arguments that the class's constructor takes by keyword."""
    try:
        signature = inspect.signature(resolve(target))
    except ValueError:
        return frozenset()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(name for name, p in signature.parameters.items() if p.kind in by_name)


def keywords(arguments: str) -> dict[str, object]:
    """Arguments from their JSON text; lists become tuples."""
    return {name: _tuples(value) for name, value in json.loads(arguments).items()}


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def instantiate(target: str, arguments: str) -> nn.Module:
    """Make the module, on the current default device.

    Args:
        target: "package.module:Class".
        arguments: JSON object.

    Raises:
        TraceError: the class cannot be imported, or its constructor fails.
    """
    kind, values = resolve(target), keywords(arguments)
    try:
        return kind(**values)
    except Exception as error:
        raise TraceError(f"{_shown(target, values)} failed with {type(error).__name__}: {error}.") from error


@lru_cache(maxsize=4096)
def measure(target: str, arguments: str, inputs: tuple[Shape, ...]) -> Measurement:
    """Run the module on the meta device, in evaluation mode, and count.

    MACs are those of convolution and linear layers, transposed ones included, as they are called; arithmetic that the
    module does with functions is not seen.

    Args:
        target: "package.module:Class".
        arguments: JSON object.
        inputs: Input shapes, without the batch.

    Raises:
        TraceError: the module cannot be made or run there, or does not return one tensor with a batch axis.
    """
    counts = {"macs": 0, "activations": 0}

    def count(module: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
        macs, activations = _layer_cost(module, args[0], result)
        counts["macs"] += macs
        counts["activations"] += activations

    with isolated_random_state(0), torch.device("meta"), torch.no_grad():
        module = instantiate(target, arguments).eval()
        for layer in module.modules():
            if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
                layer.register_forward_hook(count)
        try:
            result = module(*[torch.empty(BATCH, *shape) for shape in inputs])
        except Exception as error:
            raise TraceError(
                f"{_shown(target, keywords(arguments))} failed on the meta device, on inputs of shapes "
                f"{', '.join(map(str, inputs))} with a batch of {BATCH}, with {type(error).__name__}: {error}. "
                "If it runs on real data, state what cannot be measured: "
                "`nas.Module(..., output=(channels, height, width), params=…, macs=…)`."
            ) from error
    if not isinstance(result, Tensor) or result.ndim < 2 or result.shape[0] != BATCH:
        got = f"a tensor of shape {tuple(result.shape)}" if isinstance(result, Tensor) else repr(type(result).__name__)
        raise TraceError(
            f"{_shown(target, keywords(arguments))} must return one tensor of shape (batch, ...), here ({BATCH}, ...), "
            f"got {got}. Wrap it in a module that returns one."
        )
    params = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return Measurement(
        output=tuple(result.shape[1:]),
        params=params,
        macs=counts["macs"] // BATCH,
        activations=counts["activations"] // BATCH,
    )


def _layer_cost(module: nn.Module, x: Tensor, result: Tensor) -> tuple[int, int]:
    """MACs and activations of a convolution or linear layer, for the whole batch."""
    if isinstance(module, nn.Linear):
        return result.numel() * module.in_features, 0
    assert isinstance(module, nn.modules.conv._ConvNd)
    each = prod(module.weight.shape[1:])  # per output element; per input element where transposed
    return (x if module.transposed else result).numel() * each, result.numel()


def _shown(target: str, values: dict[str, object]) -> str:
    return f"{target}({', '.join(f'{name}={value!r}' for name, value in values.items())})"
