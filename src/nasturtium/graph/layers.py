"""A graph as a table of layers: one row for each convolution, linear layer or other step, with what follows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasturtium.graph import operations as ops
from nasturtium.graph.memory import is_depthwise
from nasturtium.graph.operations import Operation, Shape

if TYPE_CHECKING:
    from nasturtium.graph.graph import Graph

FOLLOWERS = (ops.BatchNorm, ops.GroupNorm, ops.Activation, ops.Dropout, ops.DropPath, ops.Flatten)
"""Operations that belong to the layer whose result only they read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One row of the table. The rows' sums are the graph's totals."""

    path: str
    """Where its first operation stands."""
    kind: str
    """For people: "conv 3x3 /2", "depthwise 5x5", "linear", "add" …."""
    shape: Shape
    """Output shape, without the batch."""
    params: int
    macs: int
    activations: int
    nodes: tuple[int, ...]
    """The operations, by number."""


def layers(graph: Graph) -> tuple[Layer, ...]:
    """Rows in order of execution; inputs and what serves training-only outputs have none."""
    seen: set[str] = set()
    return tuple(_layer(graph, row, seen) for row in fused_rows(graph, FOLLOWERS))


def fused_rows(
    graph: Graph, followers: tuple[type[ops.Operation], ...], *, needed: Iterable[int] = ()
) -> list[tuple[int, ...]]:
    """The operations by number, each with what alone reads it and is of a kind that follows.

    Args:
        graph: The network; inputs, and what serves training-only outputs alone, are left out.
        followers: Kinds of operations that join the row of what they read, if nothing else reads that.
        needed: Numbers of operations whose results are needed besides (outputs), so that nothing joins them.

    Returns:
        Rows in order of execution of their first operations.
    """
    readers = Counter(i for number in graph.costed for i in graph.nodes[number].inputs)
    readers.update(needed)
    members: list[list[int]] = []
    row_of: dict[int, int] = {}
    for number in graph.costed:
        operation, inputs, _, _ = graph.nodes[number]
        if isinstance(operation, ops.Input):
            continue
        source = inputs[0] if inputs else -1
        if isinstance(operation, followers) and source in row_of and readers[source] == 1:
            row_of[number] = row_of[source]
            members[row_of[number]].append(number)
        else:
            row_of[number] = len(members)
            members.append([number])
    return [tuple(row) for row in members]


def _layer(graph: Graph, row: tuple[int, ...], seen: set[str]) -> Layer:
    params = macs = activations = 0
    for number in row:
        node = graph.nodes[number]
        shapes = graph.input_shapes(node)
        count = node.operation.params(*shapes)
        if count and node.path not in seen:
            seen.add(node.path)
            params += count
        macs += node.operation.macs(node.shape, *shapes)
        activations += node.operation.activations(node.shape)
    first = graph.nodes[row[0]]
    return Layer(
        path=first.path,
        kind=kind_of(first.operation, graph.input_shapes(first)),
        shape=graph.nodes[row[-1]].shape,
        params=params,
        macs=macs,
        activations=activations,
        nodes=row,
    )


def kind_of(operation: Operation, inputs: tuple[Shape, ...]) -> str:
    """An operation in a few words, for people."""
    match operation:
        case ops.Conv(kernel=kernel, stride=stride, dilation=dilation, groups=groups):
            name = "depthwise" if is_depthwise(operation, inputs) else f"conv g{groups}" if groups > 1 else "conv"
            apart = f" d{max(dilation)}" if max(dilation) > 1 else ""
            return f"{name} {_window(kernel)}{apart}{_step(stride)}"
        case ops.MaxPool(kernel=kernel, stride=stride) | ops.AvgPool(kernel=kernel, stride=stride):
            return f"{operation.kind.replace('_', ' ')} {_window(kernel)}{_step(stride)}"
        case ops.GlobalPool(function=function):
            return f"global {function} pool"
        case ops.Activation(function=function):
            return function
        case ops.Opaque(target=target):
            return target.rpartition(":")[2]
        case _:
            return operation.kind.replace("_", " ")


def _window(kernel: tuple[int, int]) -> str:
    return f"{kernel[0]}x{kernel[1]}"


def _step(stride: tuple[int, int]) -> str:
    return "" if stride == (1, 1) else f" /{stride[0]}" if stride[0] == stride[1] else f" /{stride[0]}x{stride[1]}"
