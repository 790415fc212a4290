"""Which of the shared channels a tensor of the active path holds.

A tensor whose width is open holds the first channels of the widest one. Behind a concatenation that depends on
decisions this does not hold: there every part keeps the place that it has in the widest concatenation, so that a
consumer finds the same weights for the same part whatever stands before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from nasturtium.graph import operations as ops
from nasturtium.graph.operations import Shape
from nasturtium.space.diagram import Diagram
from nasturtium.space.open_graph import Form, OpenGraph, OpenNode, Resolved

Columns = tuple[int, ...] | None
"""Numbers of the shared channels that a tensor holds, in order; None for the first ones."""

KEEPING: tuple[type[ops.Operation], ...] = (
    ops.BatchNorm, ops.GroupNorm, ops.Activation, ops.MaxPool, ops.AvgPool, ops.GlobalPool, ops.AdaptiveAvgPool,
    ops.Add, ops.Multiply, ops.Pad, ops.Resize, ops.Dropout, ops.DropPath, ops.TrainingOnly, ops.Slice, ops.Shuffle,
    ops.Flatten,
)  # fmt: skip
"""Operations whose output channels are those of their first input."""


def is_depthwise(operation: ops.Operation, inputs: tuple[Shape, ...]) -> bool:
    """Whether a convolution works on each channel by itself, one output channel each."""
    if not isinstance(operation, ops.Conv):
        return False
    return operation.groups == inputs[0][0] == operation.channels


class Channels:
    """The shared channels of an open graph."""

    def __init__(self, graph: OpenGraph) -> None:
        self.graph = graph
        self._concats: defaultdict[str, list[OpenNode]] = defaultdict(list)
        for node in graph.nodes:
            if node.kind is ops.Concat:
                self._concats[node.path].append(node)
        self._gated: dict[int, bool] = {}
        self._extent: dict[int, int] = {}
        self._slots: dict[str, dict[tuple[int, int], int]] = {}
        for node in graph.nodes:
            self._gated[node.number] = self._is_gated(node)

    @property
    def gated(self) -> bool:
        """Whether any concatenation depends on decisions."""
        return any(self._gated.values())

    def is_gated(self, value: Diagram) -> bool:
        """Whether a value may hold other than the first channels."""
        return any(self._gated[n] for n in value.leaves() if isinstance(n, int))

    def is_gated_node(self, node: OpenNode) -> bool:
        """Whether a node's output may hold other than the first channels."""
        return self._gated[node.number]

    def _keeps(self, node: OpenNode) -> bool:
        return node.kind in KEEPING or any(is_depthwise(f.operation, f.inputs) for f in node.variants)

    def _is_gated(self, node: OpenNode) -> bool:
        if node.kind is ops.Concat:
            parts = [{form.inputs[i][0] for form in node.variants} for i in range(len(node.inputs) - 1)]
            several = len(self._concats[node.path]) > 1 or any(len(widths) > 1 for widths in parts)
            return several or any(map(self.is_gated, node.inputs))
        return self._keeps(node) and self.is_gated(node.inputs[0])

    def extent(self, value: Diagram) -> int:
        """Channels of the widest form of a value, those that no one tensor holds together included."""
        return max([self._node_extent(self.graph.nodes[n]) for n in value.leaves() if isinstance(n, int)], default=0)

    def _node_extent(self, node: OpenNode) -> int:
        found = self._extent.get(node.number)
        if found is None:
            widths = [form.shape[0] for form in node.variants if form.shape]
            found = max(widths, default=0)
            if self._gated[node.number]:
                if node.kind is ops.Concat:
                    slots = self.slots(node.path)
                    last = max(slots, key=lambda key: slots[key])
                    found = slots[last] + self._slot_extent(node.path, last)
                else:
                    found = self.extent(node.inputs[0])
                    if node.kind is ops.Flatten:
                        found *= max(form.shape[0] // form.inputs[0][0] for form in node.variants)
            self._extent[node.number] = found
        return found

    def slots(self, path: str) -> dict[tuple[int, int], int]:
        """First shared channel of each part of the concatenations at a path: by (the value's number, occurrence)."""
        if path not in self._slots:
            slots: dict[tuple[int, int], int] = {}
            start = 0
            for node in self._concats[path]:
                for key in keys(node):
                    if key not in slots:
                        slots[key] = start
                        start += self._slot_extent(path, key)
            self._slots[path] = slots
        return self._slots[path]

    def _slot_extent(self, path: str, key: tuple[int, int]) -> int:
        for node in self._concats[path]:
            for value, own in zip(node.inputs, keys(node), strict=True):
                if own == key:
                    return self.extent(value)
        return 0

    def columns(self, resolved: Resolved) -> list[Columns]:
        """What each step's output holds."""
        found: list[Columns] = []
        for step in resolved.steps:
            inputs = [found[i] for i in step.inputs]
            found.append(self.of(step.node, step.form, inputs))
        return found

    def of(self, node: OpenNode, form: Form, inputs: list[Columns]) -> Columns:
        """What the output of a node holds, from what its inputs hold."""
        return self._columns(node, form, inputs) if self._gated[node.number] else None

    def _columns(self, node: OpenNode, form: Form, inputs: list[Columns]) -> Columns:
        if node.kind is ops.Concat:
            slots = self.slots(node.path)
            parts = zip(keys(node), form.inputs, inputs, strict=True)
            return tuple([slots[key] + c for key, shape, own in parts for c in _all(own, shape[0])])
        operation = form.operation
        if node.kind not in KEEPING and not is_depthwise(operation, form.inputs):
            return None
        held = _all(inputs[0], form.inputs[0][0])
        if isinstance(operation, ops.Slice):
            return held[operation.start : operation.stop]
        if isinstance(operation, ops.Shuffle):
            each = len(held) // operation.groups
            return tuple([held[group * each + i] for i in range(each) for group in range(operation.groups)])
        if isinstance(operation, ops.Flatten):
            area = form.shape[0] // len(held)
            return tuple([c * area + i for c in held for i in range(area)])
        return held


def keys(node: OpenNode) -> list[tuple[int, int]]:
    """The parts of a concatenation: (number of the value, how often it stood before)."""
    seen: Counter[int] = Counter()
    found = []
    for value in node.inputs:
        found.append((value.number, seen[value.number]))
        seen[value.number] += 1
    return found


def _all(columns: Columns, width: int) -> tuple[int, ...]:
    return tuple(range(width)) if columns is None else columns
