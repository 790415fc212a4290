"""Random graphs, and statements of a graph that mean the same."""

from __future__ import annotations

import random

from nasturtium.graph import Context, Graph, Node, Output
from nasturtium.graph import operations as ops

SHAPE = (3, 4, 4)


class Builder:
    """Builds a graph node by node."""

    def __init__(self, shape=SHAPE, inputs: int = 1) -> None:
        self.nodes: list[Node] = []
        self.names = tuple(f"input.{i}" for i in range(inputs))
        for name in self.names:
            self(ops.Input(shape), path=name)

    def __call__(self, operation, *inputs: int, path: str | None = None) -> int:
        shape = operation.shape(*[self.nodes[i].shape for i in inputs])
        self.nodes.append(Node(operation, tuple(inputs), shape, path or f"n{len(self.nodes)}"))
        return len(self.nodes) - 1

    def shape(self, i: int):
        return self.nodes[i].shape

    def graph(self, *outputs: int) -> Graph:
        named = tuple(Output(f"output.{k}", i) for k, i in enumerate(outputs))
        return Graph(tuple(self.nodes), self.names, named, tuple(range(len(outputs))), Context())


def conv(channels: int = 3, kernel: int = 1, groups: int = 1, bias: bool = False):
    side = kernel // 2
    return ops.Conv(channels, (kernel, kernel), (1, 1), (side, side, side, side), (1, 1), groups, bias)


def random_graph(rng: random.Random, size: int = 8, inputs: int = 1, ties: bool = True) -> Graph:
    """A random graph of `size` operations on images of one shape, with dead branches, zeros, twins and ties."""
    b = Builder(inputs=inputs)
    pool = list(range(inputs))
    tied: list[tuple[object, str]] = []
    for step in range(size):
        kind = rng.choice(
            ["conv", "conv", "dw", "bn", "relu", "relu", "add", "add", "mul", "pool", "zero", "cat", "tie"]
        )
        x, y, z = (rng.choice(pool[-4:] if rng.random() < 0.5 else pool) for _ in range(3))
        match kind:
            case "conv":
                op = conv(3, rng.choice([1, 3]))
                made = b(op, x)
                tied.append((op, b.nodes[made].path))
            case "tie" if tied and ties:
                op, path = rng.choice(tied)
                made = b(op, x, path=path)
            case "dw":
                made = b(conv(3, 3, groups=3), x)
            case "bn":
                made = b(ops.BatchNorm(), x)
            case "relu" | "tie":
                made = b(ops.Activation(rng.choice(["relu", "sigmoid"])), x)
            case "add":
                made = b(ops.Add(), *([x, y, z] if rng.random() < 0.3 else [x, y]))
            case "mul":
                made = b(ops.Multiply(), x, y)
            case "pool":
                made = b(rng.choice([ops.MaxPool(), ops.AvgPool()]), x)
            case "zero":
                made = b(ops.Zero(), x)
            case _:
                cat = b(ops.Concat(), x, y)
                if rng.random() < 0.5:
                    cat = b(ops.Activation("relu"), cat)
                made = b(conv(3, 1), cat)
        pool.append(made)
    outputs = [pool[-1]] if rng.random() < 0.8 else [pool[-1], rng.choice(pool)]
    return b.graph(*outputs)


def restated(graph: Graph, rng: random.Random, noise: bool = True) -> Graph:
    """The same network in other words: other order and names, commuted inputs, and, with `noise`, idle operations."""
    count = len(graph.nodes)
    waiting = {i: set(node.inputs) for i, node in enumerate(graph.nodes)}
    renamed: dict[str, str] = {}
    b = Builder.__new__(Builder)
    b.nodes, b.names = [], graph.inputs
    place: dict[int, int] = {}
    first = [i for i in range(count) if isinstance(graph.nodes[i].operation, ops.Input)]
    ready = []

    def emit(i: int) -> None:
        node = graph.nodes[i]
        inputs = [place[j] for j in node.inputs]
        if node.operation.is_commutative:
            rng.shuffle(inputs)
        path = renamed.setdefault(node.path, f"m{rng.random()}")
        if noise and isinstance(node.operation, ops.Add) and rng.random() < 0.5:
            if rng.random() < 0.5:
                inputs.append(b(ops.Zero(), inputs[0]))
            if len(inputs) > 2:
                inputs = [inputs[0], b(ops.Add(), *inputs[1:])]
        place[i] = b(node.operation, *inputs, path=path)
        if noise and rng.random() < 0.2:
            dead = b(ops.Activation("relu"), place[i])
            if len(node.shape) == 3:
                b(conv(2), dead)
        if noise and rng.random() < 0.2:
            place[i] = b(ops.Dropout(0.0), place[i])
        if noise and len(node.shape) == 3 and rng.random() < 0.2:
            place[i] = b(ops.Pad((0, 0, 0, 0)), place[i])

    def release(i: int) -> None:
        for j in range(count):
            if i in waiting[j]:
                waiting[j].discard(i)
                if not waiting[j]:
                    ready.append(j)

    for i in first:
        place[i] = b(graph.nodes[i].operation, path=graph.nodes[i].path)
    ready.extend(i for i in range(count) if i not in first and not waiting[i])
    for i in first:
        release(i)
    while ready:
        i = ready.pop(rng.randrange(len(ready)))
        emit(i)
        release(i)
    outputs = tuple(Output(o.name, place[o.node]) for o in graph.outputs)
    return Graph(tuple(b.nodes), graph.inputs, outputs, graph.structure, graph.context)
