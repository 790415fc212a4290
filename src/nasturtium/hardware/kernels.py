"""The kernels of a network: operations that a runtime launches as one, each with a stable key and a graph of its own.

A kernel is an operation with the norms and activations behind it that nobody else reads: convolution, norm and
activation are one. It is measured as a small network, so whatever the runtime fuses inside is fused.

A table of kernels adds them up. That is wrong where a runtime fuses across them (ONNX Runtime adds a residual inside
some convolutions, say), runs them in parallel, or changes the layout between them; the held-out error shows how much.

Reference:
    Zhang et al. (2021), "nn-Meter", MobiSys, section 3. Differs from the paper: which operations fuse is a rule here,
    not found by test cases.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.graph import operations as ops
from nasturtium.graph.graph import Graph, Node, Output
from nasturtium.graph.layers import fused_rows, kind_of
from nasturtium.graph.memory import is_depthwise
from nasturtium.graph.operations import OPERATIONS, Operation, Shape

FOLLOWERS: tuple[type[Operation], ...] = (ops.BatchNorm, ops.GroupNorm, ops.Activation, ops.Dropout, ops.DropPath,
                                          ops.Flatten)  # fmt: skip
"""Operations that become part of the kernel before them, where nothing else reads that."""

FREE: tuple[type[Operation], ...] = (ops.Input, ops.TrainingOnly, ops.Dropout, ops.DropPath, ops.Flatten)
"""Operations that launch nothing when the network is used."""

KINDS: Mapping[str, type[Operation]] = {kind.__name__: kind for kind in OPERATIONS}

_IGNORED = {ops.BatchNorm: ("eps", "momentum"), ops.GroupNorm: ("eps",)}
"""Numbers that change no time."""


@dataclass(frozen=True)
class Kernel:
    """Operations that run as one, on inputs of given shapes. Equal kernels take equally long.

    What cannot change the time (epsilons, momentum, dropout) is left out, so that it makes no difference.
    """

    operations: tuple[Operation, ...]
    """The first reads the inputs, each other one its predecessor."""
    inputs: tuple[Shape, ...]
    """Shapes, without the batch."""

    @classmethod
    def of(cls, operations: tuple[Operation, ...], inputs: tuple[Shape, ...]) -> Kernel:
        """The kernel of operations as a graph states them."""
        return _kernel(operations, inputs)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Output shape of each operation."""
        found = [self.operations[0].shape(*self.inputs)]
        for operation in self.operations[1:]:
            found.append(operation.shape(found[-1]))
        return tuple(found)

    @cached_property
    def key(self) -> str:
        """Stable text that tells kernels apart, for files: what it is, and a digest of all of it."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return f"{self.text} #{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @cached_property
    def text(self) -> str:
        """For people: "conv 3x3 /2, batch norm, relu on 3x224x224 to 16x112x112"."""
        first, *rest = self.operations
        names = [kind_of(first, self.inputs), *[kind_of(each, ()) for each in rest]]
        shapes = " and ".join(["x".join(map(str, shape)) for shape in self.inputs])
        return f"{', '.join(names)} on {shapes} to {'x'.join(map(str, self.shapes[-1]))}"

    @cached_property
    def group(self) -> str:
        """What its speed depends on most: "depthwise", "pointwise", "convolution", "linear" or "other"."""
        first = self.operations[0]
        if isinstance(first, ops.Conv):
            if is_depthwise(first, self.inputs):
                return "depthwise"
            return "pointwise" if first.kernel == (1, 1) and first.groups == 1 else "convolution"
        return "linear" if isinstance(first, ops.Linear) else "other"

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates for one sample."""
        return self.operations[0].macs(self.shapes[0], *self.inputs)

    @cached_property
    def weights(self) -> int:
        """Trainable parameters."""
        first = self.operations[0].params(*self.inputs)
        return first + sum([o.params(s) for o, s in zip(self.operations[1:], self.shapes, strict=False)])

    def graph(self) -> Graph:
        """The kernel alone, as a network."""
        single = len(self.inputs) == 1
        names = tuple(["input" if single else f"input.{i}" for i in range(len(self.inputs))])
        nodes = [Node(ops.Input(s), (), s, n) for s, n in zip(self.inputs, names, strict=True)]
        reads = tuple(range(len(nodes)))
        for number, (operation, shape) in enumerate(zip(self.operations, self.shapes, strict=True)):
            nodes.append(Node(operation, reads, shape, f"kernel.{operation.kind}_{number}"))
            reads = (len(nodes) - 1,)
        return Graph(nodes=tuple(nodes), inputs=names, outputs=(Output("output", reads[0]),))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON.

        Raises:
            InvalidInputError: an operation is not of the library.
        """
        return {"operations": [_described(o) for o in self.operations], "inputs": [list(s) for s in self.inputs]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Kernel:
        """Inverse of `to_dict`.

        Raises:
            InvalidInputError: it cannot be read.
        """
        try:
            operations = tuple([_operation(each) for each in data["operations"]])
            return cls(operations, tuple([tuple(shape) for shape in data["inputs"]]))
        except (KeyError, TypeError) as error:
            raise InvalidInputError(f"A kernel has operations and inputs, got {data!r} ({error!r}).") from error


def kernels(graph: Graph) -> tuple[Kernel, ...]:
    """The kernels that a network runs, in order of execution; repeated ones as often as they run.

    What serves training-only outputs alone is left out. Dead branches count, as in all costs of a graph.
    """
    return tuple([kernel for kernel, _ in placed_kernels(graph)])


def placed_kernels(graph: Graph) -> tuple[tuple[Kernel, tuple[int, ...]], ...]:
    """The kernels with the nodes of each."""
    found = []
    for row in fused_rows(graph, FOLLOWERS, needed=[output.node for output in graph.outputs]):
        operations = tuple([graph.nodes[i].operation for i in row])
        if runs(operations):
            found.append((_kernel(operations, graph.input_shapes(graph.nodes[row[0]])), row))
    return tuple(found)


def runs(operations: tuple[Operation, ...]) -> bool:
    """Whether operations launch anything at all."""
    return any(not isinstance(operation, FREE) for operation in operations)


@lru_cache(65536)
def _kernel(operations: tuple[Operation, ...], inputs: tuple[Shape, ...]) -> Kernel:
    dropped = (ops.Dropout, ops.DropPath, ops.TrainingOnly)
    kept = [plain(operation) for operation in operations if not isinstance(operation, dropped)]
    return Kernel(tuple(kept), inputs)


def plain(operation: Operation) -> Operation:
    """The operation with what changes no time set to its default."""
    names = _IGNORED.get(type(operation), ())
    defaults = {f.name: f.default for f in fields(operation) if f.name in names}
    return replace(operation, **defaults) if defaults else operation


def _described(operation: Operation) -> dict[str, Any]:
    name = type(operation).__name__
    if KINDS.get(name) is not type(operation):
        raise InvalidInputError(
            f"{operation!r} is no operation of `nasturtium.graph.operations`, so a table of kernels cannot be stored."
        )
    return {"operation": name, "fields": asdict(operation)}


def _operation(data: Mapping[str, Any]) -> Operation:
    made = {name: _tuples(value) for name, value in data["fields"].items()}
    return KINDS[data["operation"]](**made)


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
