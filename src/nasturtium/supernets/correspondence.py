"""Which tensor of a child network is which channels of which tensor of its parent, and the weights that make it so."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nasturtium.errors import InvalidInputError
from nasturtium.graph import operations as ops
from nasturtium.graph.graph import Graph, Node
from nasturtium.graph.operations import Shape
from nasturtium.supernets import net2net
from nasturtium.supernets.net2net import Channels, Claim

PASSING = (ops.Dropout, ops.DropPath, ops.TrainingOnly)
"""Operations that change nothing in evaluation."""
CHANNELWISE = (
    *PASSING, ops.BatchNorm, ops.Activation, ops.MaxPool, ops.AvgPool, ops.GlobalPool, ops.AdaptiveAvgPool, ops.Resize,
    ops.Pad,
)  # fmt: skip
"""Operations that treat each channel by itself."""


class Correspondence:
    """Walks through the child's graph once, in order.

    Args:
        parent: The parent's graph.
        weights: Its `state_dict`.
        child: The child's graph.
        shapes: Of the child's `state_dict`, by name.

    Attributes:
        state: What the child has from its parent, by the child's names.
        changed: Names whose tensor is not the parent's own.
        copies: Of weights, by name: output channels that are further copies.
        norms: Paths of new norms that are the identity.
        reasons: Where the child stops computing what its parent computes.
    """

    def __init__(self, parent: Graph, weights: Mapping[str, Tensor], child: Graph, shapes: Mapping[str, Shape]) -> None:
        self.parent, self.weights, self.child, self.shapes = parent, weights, child, shapes
        _check(parent, weights)
        self.state: dict[str, Tensor] = {}
        self.changed: set[str] = set()
        self.copies: dict[str, tuple[int, ...]] = {}
        self._breaks: dict[int, str] = {}
        self._wanted: dict[int, Channels] = {}
        self._claims: list[Claim | None] = []
        self._ranges = net2net.Ranges(parent)
        self._places: dict[str, list[int]] = {}
        self._done: dict[str, tuple[int, object, Channels | None]] = {}
        for number, node in enumerate(parent.nodes):
            self._places.setdefault(node.path, []).append(number)
        self._counterparts = self._pair()
        self._readers: list[list[int]] = [[] for _ in child.nodes]
        for number, node in enumerate(child.nodes):
            for read in node.inputs:
                self._readers[read].append(number)
        self._identities: set[int] = set()
        self._kept: dict[int, int] = {}
        self._silent: set[int] = set()
        self._branch: set[int] = set()
        self._find_residuals()
        self._walk()
        self.norms = tuple([child.nodes[number].path for number in sorted(self._identities)])
        self.reasons = self._judge()

    def _pair(self) -> list[int | None]:
        """For each node of the child the parent's at its path, of its type; the k-th of a path is the k-th."""
        turns: dict[str, int] = {}
        pairs: list[int | None] = []
        for node in self.child.nodes:
            turn = turns[node.path] = turns.get(node.path, -1) + 1
            found = self._places.get(node.path, [])
            other = found[turn] if turn < len(found) else None
            same = other is not None and type(self.parent.nodes[other].operation) is type(node.operation)
            pairs.append(other if same else None)
        return pairs

    # What is new, and adds nothing

    def _find_residuals(self) -> None:
        """New sums of a tensor and a branch that can be made zero."""
        for number, node in enumerate(self.child.nodes):
            if self._counterparts[number] is not None or not isinstance(node.operation, ops.Add):
                continue
            ends = [self._zeroable(read) for read in node.inputs]
            kept = [read for read, end in zip(node.inputs, ends, strict=True) if end is None]
            if len(kept) != 1:
                continue
            self._kept[number] = kept[0]
            self._silent.update([end for end in ends if end is not None])
            for read in node.inputs:
                if read != kept[0]:
                    self._branch |= self._only_for(read, number) - self.child.ancestors({kept[0]})

    def _zeroable(self, number: int) -> int | None:
        """The new norm (or convolution) whose weight 0 makes a tensor zero that one node reads."""
        while True:
            node = self.child.nodes[number]
            if self._counterparts[number] is not None or len(self._readers[number]) != 1:
                return None
            operation = node.operation
            if isinstance(operation, (ops.Conv, ops.Linear)) or (
                isinstance(operation, ops.BatchNorm) and operation.affine
            ):
                return number
            if not isinstance(operation, PASSING):
                return None
            number = node.inputs[0]

    def _only_for(self, end: int, reader: int) -> set[int]:
        """The new nodes, up to one, that nothing reads but for the sake of a reader of that one."""
        inside = {reader}
        for number in range(end, len(self.child.inputs) - 1, -1):
            readers = self._readers[number]
            if self._counterparts[number] is None and readers and all(each in inside for each in readers):
                inside.add(number)
        return inside - {reader}

    # Node by node

    def _walk(self) -> None:
        """Claim after claim; where two branches of a sum differ, one that may have any map gets the other's."""
        while len(self._claims) < len(self.child.nodes):
            number = len(self._claims)
            node = self.child.nodes[number]
            claim = self._claim(number, node)
            back = None if claim is not None else self._agree(number, node)
            if back is None:
                self._claims.append(claim)
                continue
            del self._claims[back:]
            self._breaks = {place: why for place, why in self._breaks.items() if place < back}
            self._done = {path: known for path, known in self._done.items() if known[0] < back}

    def _agree(self, number: int, node: Node) -> int | None:
        """Settle the maps of a sum's (or product's) operands; the node from which to walk again, or None."""
        if not isinstance(node.operation, (ops.Add, ops.Multiply)) or self._counterparts[number] is None:
            return None
        claims = [self._claims[read] for read in node.inputs]
        producers = [self._producer(read) for read in node.inputs]
        pairs = [(c.channels, p) for c, p in zip(claims, producers, strict=True) if c is not None]
        if len(pairs) < len(claims):
            return None
        target = next((channels for channels, p in pairs if p is None or p in self._wanted), pairs[0][0])
        free = [
            p
            for channels, p in pairs
            if p is not None and p not in self._wanted and channels != target and len(channels) == len(target)
        ]
        self._wanted |= dict.fromkeys(free, target)
        return min(free, default=None)

    def _producer(self, number: int) -> int | None:
        """The layer that may copy its outputs in any way, from which a tensor comes channel by channel."""
        while True:
            node = self.child.nodes[number]
            operation = node.operation
            mixes = isinstance(operation, ops.Linear) or (isinstance(operation, ops.Conv) and operation.groups == 1)
            if mixes:
                return number if self._counterparts[number] is not None else None
            depthwise = isinstance(operation, ops.Conv) and net2net.is_depthwise(
                operation, self.child.input_shapes(node)[0]
            )
            if not depthwise and not isinstance(operation, CHANNELWISE):
                return None
            number = node.inputs[0]

    def _claim(self, number: int, node: Node) -> Claim | None:
        if isinstance(node.operation, ops.Input):
            same = number < len(self.parent.inputs) and self.parent.nodes[number].shape == node.shape
            return Claim(number, tuple(range(node.shape[0]))) if same else None
        other = self._counterparts[number]
        claim = self._new(number, node) if other is None else self._matched(number, node, other)
        breaks = claim is None and all(self._claims[read] is not None for read in node.inputs)
        if breaks and number not in self._branch:
            self._breaks[number] = self._reason(node, other)
        return claim

    def _reason(self, node: Node, other: int | None) -> str:
        kind = node.operation.kind
        if other is None:
            return f"the new {kind} at {node.path!r} cannot be the identity on what comes in"
        return f"the {kind} at {node.path!r} has no channels in common with the parent's that would give the same"

    def _new(self, number: int, node: Node) -> Claim | None:
        operation, path = node.operation, node.path
        if number in self._silent:
            for name in operation.weights(*self.child.input_shapes(node)):
                self._set(f"{path}.{name}", torch.zeros(self.shapes[f"{path}.{name}"]), changed=True)
        if number in self._branch:
            return None
        if number in self._kept:
            return self._claims[self._kept[number]]
        claim = self._claims[node.inputs[0]] if len(node.inputs) == 1 else None
        if claim is None or path in self._done:
            return None
        self._done[path] = (number, None, None)
        if isinstance(operation, PASSING):
            return claim
        if isinstance(operation, ops.Activation):
            return claim if self._ranges.unchanged_by(claim.value, operation.function) else None
        if isinstance(operation, ops.BatchNorm):
            for name, tensor in net2net.identity_norm(operation, node.shape[0]).items():
                self._set(f"{path}.{name}", tensor, changed=True)
            self._identities.add(number)
            return claim
        if isinstance(operation, ops.Conv):
            return self._identity_conv(node, operation, claim)
        return None

    def _identity_conv(self, node: Node, operation: ops.Conv, claim: Claim) -> Claim | None:
        into = self.child.input_shapes(node)[0]
        depthwise = net2net.is_depthwise(operation, into)
        fits = depthwise or (operation.groups == 1 and operation.channels >= into[0])
        if not fits or not net2net.keeps_extent(operation):
            return None
        source = net2net.mapping(into[0], operation.channels)
        name = f"{node.path}.weight"
        self._set(name, net2net.identity_conv(self.shapes[name], source, operation.groups), changed=True)
        self.copies[name] = tuple(range(into[0], operation.channels))
        if operation.bias:
            self._set(f"{node.path}.bias", torch.zeros(operation.channels), changed=True)
        return Claim(claim.value, tuple([claim.channels[channel] for channel in source]))

    def _matched(self, number: int, node: Node, other: int) -> Claim | None:
        """A node that the parent has: its weights on the child's channels, and whether it gives the same."""
        theirs = self.parent.nodes[other]
        if len(theirs.inputs) != len(node.inputs):
            return None
        maps, follows = [], True
        for read, read_there in zip(node.inputs, theirs.inputs, strict=True):
            claim = self._claims[read]
            if claim is not None and claim.value == read_there:
                maps.append(claim.channels)
            else:
                follows = False
                before, now = self.parent.nodes[read_there].shape[0], self.child.nodes[read].shape[0]
                maps.append(net2net.mapping(before, now))
        channels = self._output(number, node, theirs, maps)
        return Claim(other, channels) if follows and channels is not None else None

    def _output(self, number: int, node: Node, theirs: Node, maps: list[Channels]) -> Channels | None:
        """The output's map; None where the operation gives something else. Sets the weights."""
        before, now = list(self.parent.input_shapes(theirs)), list(self.child.input_shapes(node))
        operation, parent = node.operation, theirs.operation
        stateful = bool(operation.weights(*now)) or isinstance(operation, (ops.BatchNorm, ops.Opaque))
        if not stateful:
            return net2net.carried(operation, parent, maps, before, now)
        if node.path in self._done:  # tied: the weights are set, and fit only what is mapped alike
            _, how, known = self._done[node.path]
            return known if how == (maps, before, now) else None
        match operation, parent:
            case ops.Conv(), ops.Conv():
                found = self._conv(number, node, theirs, maps[0])
            case ops.Linear(), ops.Linear():
                out = self._wanted.get(number) or net2net.mapping(parent.features, operation.features)
                found = self._dense(node.path, maps[0], before[0][0], out, (1, 1))
                found = found if operation.bias or not parent.bias else None
            case ops.BatchNorm(), ops.BatchNorm():
                self._channelwise(node.path, maps[0], norm=True)
                found = maps[0] if operation.eps == parent.eps and operation.affine >= parent.affine else None
            case ops.Activation(), ops.Activation():
                self._channelwise(node.path, maps[0])
                found = maps[0] if operation == parent else None
            case _:
                found = self._as_it_is(node.path, maps[0]) if operation == parent else None
        self._done[node.path] = (number, (maps, before, now), found)
        return found

    def _conv(self, number: int, node: Node, theirs: Node, into: Channels) -> Channels | None:
        operation, parent = node.operation, theirs.operation
        assert isinstance(operation, ops.Conv)
        assert isinstance(parent, ops.Conv)
        before, now = self.parent.input_shapes(theirs)[0], self.child.input_shapes(node)[0]
        depthwise = net2net.is_depthwise(operation, now) and net2net.is_depthwise(parent, before)
        if depthwise:
            weight = self._given(f"{node.path}.weight")[list(into)]
            self._put(f"{node.path}.weight", net2net.resized_kernel(weight, operation.kernel), into)
            self._bias(node.path, into)
            found: Channels | None = into
        elif operation.groups == parent.groups == 1:
            out = self._wanted.get(number) or net2net.mapping(parent.channels, operation.channels)
            found = self._dense(node.path, into, before[0], out, operation.kernel)
        else:
            found = self._as_it_is(node.path, into)
        same = net2net.same_but_kernel(parent, operation) and (operation.bias or not parent.bias)
        return found if same else None

    def _dense(self, path: str, into: Channels, before: int, out: Channels, kernel: tuple[int, int]) -> Channels | None:
        """A layer that mixes all channels; exact if every one of the parent's is there."""
        self._put(f"{path}.weight", net2net.widened_conv(self._given(f"{path}.weight"), into, out, kernel), out)
        self._bias(path, out)
        return out if set(into) == set(range(before)) else None

    def _bias(self, path: str, out: Channels) -> None:
        name = f"{path}.bias"
        if name in self.shapes:
            there = name in self.weights
            self._set(name, self._given(name)[list(out)] if there else torch.zeros(len(out)), changed=not there)

    def _channelwise(self, path: str, channels: Channels, *, norm: bool = False) -> None:
        own = [name for name in self.shapes if name.rpartition(".")[0] == path]
        given = {name: self._given(name) for name in own if name in self.weights}
        for name, tensor in net2net.norm_state(given, channels).items():
            self._put(name, tensor)
        if norm:
            for name in own:
                if name not in given:
                    value = 1.0 if name.endswith((".weight", ".running_var")) else 0.0
                    self._set(name, torch.full(self.shapes[name], value), changed=True)

    def _as_it_is(self, path: str, into: Channels) -> Channels | None:
        """Weights that are copied or left; the output has the parent's channels if the input has."""
        own = [name for name in self.shapes if name == path or name.startswith(f"{path}.")]
        fits = all(name in self.weights and self.weights[name].shape == self.shapes[name] for name in own)
        if not fits:
            return None
        for name in own:
            self._put(name, self._given(name))
        out = next((self.shapes[name][0] for name in own if name.endswith(".weight")), len(into))
        return tuple(range(out)) if into == tuple(range(len(into))) else None

    # Tensors

    def _given(self, name: str) -> Tensor:
        found = self.weights.get(name)
        if found is None:
            raise InvalidInputError(f"The parent's weight {name!r} is missing: give the whole `state_dict` of it.")
        return found.detach().cpu()

    def _put(self, name: str, tensor: Tensor, out: Channels = ()) -> None:
        """A tensor made of the parent's."""
        given = self._given(name)
        same = tensor.shape == given.shape and torch.equal(tensor, given)
        self._set(name, tensor, changed=not same)
        seen: set[int] = set()
        copies = []
        for row, channel in enumerate(out):
            if channel in seen:
                copies.append(row)
            seen.add(channel)
        self.copies.pop(name, None)
        if copies:
            self.copies[name] = tuple(copies)

    def _set(self, name: str, tensor: Tensor, *, changed: bool) -> None:
        self.state[name] = tensor
        (self.changed.add if changed else self.changed.discard)(name)

    def _judge(self) -> list[str]:
        """Why the outputs are not the parent's; nothing if they are."""
        theirs = {output.name: output.node for output in self.parent.outputs}
        for output in self.child.outputs:
            claim = self._claims[output.node]
            other = theirs.get(output.name)
            whole = None if other is None else tuple(range(self.parent.nodes[other].shape[0]))
            if claim is None or claim.value != other or claim.channels != whole:
                made = f"the output {output.name!r} is made of other tensors"
                return [self._breaks[number] for number in sorted(self._breaks)] or [made]
        return []


def _check(parent: Graph, weights: Mapping[str, Tensor]) -> None:
    """Whether weights are those of a graph."""
    for node in parent.nodes:
        for name, shape in node.operation.weights(*parent.input_shapes(node)).items():
            found = weights.get(f"{node.path}.{name}")
            if found is None or tuple(found.shape) != shape:
                got = "it is missing" if found is None else f"got {tuple(found.shape)}"
                raise InvalidInputError(
                    f"The parent's weight '{node.path}.{name}' must have shape {shape}, {got}: give the `state_dict` "
                    "of the network that `build` makes of the parent's graph."
                )
