"""Channels of a supernet in order of importance, so that narrow networks keep the channels that matter.

An elastic width is the first channels of the widest one. Sorting permutes the channels of every tensor that shares a
width (the convolutions that make them, the norms and depthwise convolutions that work on each, the convolutions that
read them), so the widest network computes what it computed before.

Reference:
    Cai et al. (2020), "Once-for-All", arXiv 1908.09791, section 3.3, "Elastic Width", and the authors' code
    (`re_organize_middle_weights`). Differs from the code: any width of any space is sorted, not only the hidden one of
    inverted residuals; the hidden channels of squeeze-and-excitation keep the prefixes that were trained, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nasturtium.graph import operations as ops
from nasturtium.model import Supernet
from nasturtium.model.elastic import Elastic
from nasturtium.model.elastic_channels import KEEPING, is_depthwise
from nasturtium.space.diagram import Diagram
from nasturtium.space.open_graph import OpenNode

REORDERING = (ops.Slice, ops.Shuffle, ops.GroupNorm)
"""Operations that keep channels but not under every permutation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedChannels:
    """What happened to one width."""

    path: str
    """Of the layer whose weights rank the channels."""
    channels: int
    """At most."""
    kept: tuple[int, ...]
    """Prefixes that hold the same channels as before, increasing."""
    moved: int
    """Channels that stand elsewhere now."""


@torch.no_grad()
def sort_channels(
    supernet: Supernet, supported: Mapping[str, Collection[int]] | None = None
) -> tuple[SortedChannels, ...]:
    """Sort the channels of every elastic width in place, the most important first.

    Importance is the L1 norm of the weights that read a channel: of all layers that read the width itself, and of those
    that read its global average only where there are no others (so the gate of a squeeze-and-excitation does not
    count). Weights of the widest form are meant.

    A width is left alone where a permutation would be seen outside: an input or output of the network, a concatenation,
    slice, shuffle or group norm, a module of the user's.

    Args:
        supernet: Changed in place, running statistics included.
        supported: Indices of the options that were trained before, by decision (decisions that are not named: all).
            Every width that these allow keeps its set of channels, so networks of that width do not change; channels
            move within the parts between. None: only the widest.

    Returns:
        What was sorted.
    """
    widths = _Widths(supernet)
    return tuple([group.sort(supported) for group in widths.groups if group.is_elastic])


@dataclass
class _Group:
    """Tensors that share a width."""

    supernet: Supernet
    nodes: list[OpenNode] = field(default_factory=list)
    makes: dict[str, Elastic] = field(default_factory=dict)
    """Layers whose weights have the channels on their first axis."""
    reads: dict[str, Elastic] = field(default_factory=dict)
    """Layers whose weights have them on their second axis."""
    ranks: dict[str, Elastic] = field(default_factory=dict)
    """Those of `reads` that say how important a channel is."""

    @property
    def channels(self) -> int:
        return max(form.shape[0] for node in self.nodes for form in node.variants)

    @property
    def is_elastic(self) -> bool:
        """Whether there is anything to sort, and every tensor has all channels."""
        widths = {form.shape[0] for node in self.nodes for form in node.variants}
        made = {len(tensor) for layer in self.makes.values() for tensor in _first_axis(layer)}
        read = {layer.get_parameter("weight").shape[1] for layer in self.reads.values()}
        return len(widths) > 1 and bool(self.makes and self.reads) and made | read == {max(widths)}

    def kept(self, supported: Mapping[str, Collection[int]] | None) -> tuple[int, ...]:
        """Widths whose channels stay together."""
        if supported is None:
            return (self.channels,)
        decisions = self.supernet.graph.decisions
        allowed = {d.position: supported[d.name] for d in decisions if d.name in supported}
        shapes = {shape for node in self.nodes for shape in _reachable(node.shapes, allowed)}
        return tuple(sorted({shape[0] for shape in shapes if isinstance(shape, tuple)} | {self.channels}))

    def sort(self, supported: Mapping[str, Collection[int]] | None) -> SortedChannels:
        importance = sum(_importance(layer.get_parameter("weight")) for layer in self.ranks.values())
        assert isinstance(importance, Tensor)
        kept = self.kept(supported)
        parts = []
        for start, stop in zip((0, *kept), kept, strict=False):
            parts.append(start + torch.sort(importance[start:stop], descending=True, stable=True).indices)
        order = torch.cat(parts)
        for layer in self.makes.values():
            for tensor in _first_axis(layer):
                tensor.copy_(tensor[order])
        for layer in self.reads.values():
            weight = layer.get_parameter("weight")
            weight.copy_(weight[:, order])
        return SortedChannels(
            path=next(iter(self.ranks)), channels=self.channels, kept=kept,
            moved=int((order != torch.arange(len(order), device=order.device)).sum()),
        )  # fmt: skip


def _importance(weight: Tensor) -> Tensor:
    return weight.abs().sum(dim=[axis for axis in range(weight.ndim) if axis != 1])


def _first_axis(layer: Elastic) -> list[Tensor]:
    """Weights and statistics with an entry for each channel."""
    named = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    return [named[name] for name in ("weight", "bias", "running_mean", "running_var") if name in named]


def _reachable(diagram: Diagram, allowed: Mapping[int, Collection[int]]) -> list[object]:
    """The values that a function takes where decisions take allowed indices."""
    found: list[object] = []
    seen: set[int] = set()
    stack = [diagram]
    while stack:
        part = stack.pop()
        if part.number in seen:
            continue
        seen.add(part.number)
        if part.children:
            indices = allowed.get(part.variable, range(len(part.children)))
            stack.extend([part.children[i] for i in indices])
        else:
            found.append(part.value)
    return found


class _Widths:
    """The widths of a supernet: which tensors share their channels."""

    def __init__(self, supernet: Supernet) -> None:
        self.supernet = supernet
        self._above: dict[Hashable, Hashable] = {}
        self._fixed: list[Hashable] = []
        self._reading: list[tuple[OpenNode, str, Elastic]] = []
        self._making: list[tuple[OpenNode, str, Elastic]] = []
        self._averaged: dict[int, bool] = {}
        for node in supernet.graph.nodes:
            self._visit(node)
        for _, value in supernet.graph.outputs:
            self._fixed += _nodes(value)
        self.groups = self._collect()

    def _root(self, key: Hashable) -> Hashable:
        while (above := self._above.get(key, key)) != key:
            self._above[key] = self._above.get(above, above)
            key = above
        return key

    def _join(self, *keys: Hashable) -> None:
        for key in keys[1:]:
            self._above[self._root(key)] = self._root(keys[0])

    def _visit(self, node: OpenNode) -> None:
        """Take note of how one operation's output channels follow from its inputs'."""
        layer = self.supernet.layer_of(node)
        made = layer[1] if layer is not None else None
        own = node.number
        for value in node.inputs:
            self._join(*_nodes(value))
        self._averaged[own] = self._is_averaged(node)
        if _keeps(node):
            self._join(own, *[number for value in node.inputs for number in _nodes(value)])
            if isinstance(made, Elastic) and layer is not None:
                self._making.append((node, layer[0], made))
                self._join(own, (layer[0], 0))
        elif node.kind in (ops.Conv, ops.Linear) and isinstance(made, Elastic) and layer is not None and _is_full(node):
            self._making.append((node, layer[0], made))
            self._reading.append((node, layer[0], made))
            self._join(own, (layer[0], 0))
            self._join((layer[0], 1), *_nodes(node.inputs[0]))
        elif node.kind is not ops.Zero:
            self._fixed += [own, *[number for value in node.inputs for number in _nodes(value)]]

    def _is_averaged(self, node: OpenNode) -> bool:
        """Whether a value is a global average (or a function of one alone, channel by channel)."""
        if node.kind is ops.GlobalPool:
            return True
        if not _keeps(node):
            return False
        return all(any(self._averaged[n] for n in _nodes(value)) for value in node.inputs)

    def _collect(self) -> list[_Group]:
        fixed = {self._root(key) for key in self._fixed}
        groups: defaultdict[Hashable, _Group] = defaultdict(lambda: _Group(self.supernet))
        for node in self.supernet.graph.nodes:
            if self._root(node.number) not in fixed and any(form.shape for form in node.variants):
                groups[self._root(node.number)].nodes.append(node)
        for node, path, layer in self._making:
            if (root := self._root(node.number)) in groups:
                groups[root].makes[path] = layer
        averages: defaultdict[Hashable, dict[str, Elastic]] = defaultdict(dict)
        for node, path, layer in self._reading:
            root = self._root((path, 1))
            if root in groups:
                groups[root].reads[path] = layer
                direct = not any(self._averaged[n] for n in _nodes(node.inputs[0]))
                (groups[root].ranks if direct else averages[root])[path] = layer
        for root, group in groups.items():
            group.ranks = group.ranks or averages[root]
        return list(groups.values())


def _nodes(value: Diagram) -> list[int]:
    return [number for number in value.leaves() if isinstance(number, int)]


def _is_full(node: OpenNode) -> bool:
    """Whether every output channel reads every input channel."""
    return all(getattr(form.operation, "groups", 1) == 1 for form in node.variants)


def _keeps(node: OpenNode) -> bool:
    """Whether the operation works on each channel by itself."""
    forms = node.variants
    if node.kind is ops.Conv:
        return all(is_depthwise(form.operation, form.inputs) and form.inputs[0][0] > 1 for form in forms)
    if node.kind is ops.Flatten:
        return all(form.shape[0] == form.inputs[0][0] for form in forms)
    if node.kind in (ops.Add, ops.Multiply):
        return all(len({shape[0] for shape in form.inputs}) == 1 for form in forms)
    if node.kind is ops.Activation:
        return all(not (weights := form.operation.weights(*form.inputs)) or weights["weight"] == form.inputs[0][:1]
                   for form in forms)  # fmt: skip
    return node.kind in KEEPING and node.kind not in REORDERING
