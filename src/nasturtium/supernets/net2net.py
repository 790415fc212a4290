"""Net2Net: the weights of a larger network that computes what a smaller one computes.

Channel by channel: a map says of which channel of the parent each channel of the child is a copy. It follows the
graph, so every branch of a sum, a concatenation or a gate gets the same one, and where that is not possible it is
known. A layer that reads copies divides its weights by their number.

Reference:
    Chen, Goodfellow, Shlens (2016), "Net2Net: Accelerating learning via knowledge transfer", arXiv 1511.05641,
    section 2 (wider: equations 2 to 4; deeper: equation 5). Differs from the paper: networks with sums and
    concatenations; kernels grow, by zeros around them; a residual block is put in with a last norm of weight 0
    (Goyal et al. 2017, arXiv 1706.02677, section 5.1), so that it need not follow an idempotent activation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from nasturtium.graph import operations as ops
from nasturtium.graph.graph import Graph, Node
from nasturtium.graph.operations import Operation, Shape

Channels = tuple[int, ...]
"""For each channel of the child's tensor the parent's channel that it is a copy of."""


class Claim(NamedTuple):
    """What a tensor of the child is: channels of a tensor of the parent."""

    value: int
    """Number of the parent's node."""
    channels: Channels


def mapping(old: int, new: int) -> Channels:
    """The map from `new` channels to `old` ones: itself for the first, then any, or the first of them.

    The same for all tensors of these widths in a network, so that sums of them fit.
    """
    rng = Random(f"{old} {new}")
    return (*range(min(old, new)), *[rng.randrange(old) for _ in range(new - old)])


def widened_conv(weight: Tensor, into: Channels, out: Channels, kernel: tuple[int, int]) -> Tensor:
    """Weight of a convolution `(out, in, height, width)` on copied channels, with copied outputs.

    Args:
        weight: `(parent's out, parent's in, …)`; a linear layer's has two axes.
        into: Map of the input.
        out: Map of the output.
        kernel: Height and width; zeros are put around, or the centre is taken.
    """
    counts = Counter(into)
    share = torch.tensor([1.0 / counts[c] for c in into], dtype=weight.dtype)
    weight = weight[list(out)][:, list(into)] * share.view(1, -1, *[1] * (weight.ndim - 2))
    return resized_kernel(weight, kernel) if weight.ndim == 4 else weight


def resized_kernel(weight: Tensor, kernel: tuple[int, int]) -> Tensor:
    """Zeros around the last two axes, or their centre."""
    around = []
    for axis in (3, 2):
        more = kernel[axis - 2] - weight.shape[axis]
        around += [more // 2, more - more // 2]
    return torch.nn.functional.pad(weight, around)


def identity_conv(shape: Shape, source: Channels, groups: int) -> Tensor:
    """Weight `(out, in / groups, height, width)` that copies the centre of a channel; one input a group, or one group.

    Args:
        shape: Of the weight, odd kernel.
        source: Input channel that each output is to be.
        groups: 1, or the number of channels.
    """
    weight = torch.zeros(shape)
    for out, channel in enumerate(source):
        weight[out, 0 if groups > 1 else channel, shape[2] // 2, shape[3] // 2] = 1.0
    return weight


def keeps_extent(operation: ops.Conv) -> bool:
    """Whether a convolution with weight at its centre alone is the identity: stride 1, odd, padded alike."""
    wanted = [d * (k - 1) // 2 for d, k in zip(operation.dilation, operation.kernel, strict=True)]
    around = (wanted[0], wanted[0], wanted[1], wanted[1])
    return operation.stride == (1, 1) and operation.padding == around and all(k % 2 for k in operation.kernel)


def same_but_kernel(parent: ops.Conv, child: ops.Conv) -> bool:
    """Whether zeros around the parent's kernel make the child's convolution equal: what is padded grows with it."""
    grown = []
    for axis in (0, 1):
        more = child.kernel[axis] - parent.kernel[axis]
        if more < 0 or more % 2:
            return False
        grown += [parent.padding[2 * axis + i] + more // 2 * parent.dilation[axis] for i in (0, 1)]
    grows = child.kernel != parent.kernel
    same_taps = child.dilation == parent.dilation or (parent.kernel == (1, 1) and not grows)
    return child.stride == parent.stride and same_taps and child.padding == tuple(grown)


def is_depthwise(operation: ops.Conv, inputs: Shape) -> bool:
    """One channel a group, in and out."""
    return operation.groups == inputs[0] == operation.channels and operation.groups > 1


class Ranges:
    """What is known of the values of a graph's tensors: at least 0, at most 6."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.known: list[tuple[bool, bool]] = []
        for node in graph.nodes:
            self.known.append(self._range(node))

    def _range(self, node: Node) -> tuple[bool, bool]:
        inputs = [self.known[i] for i in node.inputs]
        operation = node.operation
        if isinstance(operation, ops.Activation):
            nonneg, small = inputs[0]
            match operation.function:
                case "relu":
                    return True, nonneg and small
                case "relu6" | "sigmoid" | "hardsigmoid":
                    return True, True
            return False, False
        if isinstance(operation, (ops.Add, ops.Multiply)):
            return all(nonneg for nonneg, _ in inputs), False
        if isinstance(operation, ops.Zero):
            return True, True
        if isinstance(operation, _RANGE_KEPT):
            return all(nonneg for nonneg, _ in inputs), all(small for _, small in inputs)
        return False, False

    def unchanged_by(self, value: int, function: str) -> bool:
        """Whether an activation changes nothing of a tensor."""
        nonneg, small = self.known[value]
        return (function == "relu" and nonneg) or (function == "relu6" and nonneg and small)


_RANGE_KEPT = (
    ops.MaxPool, ops.AvgPool, ops.GlobalPool, ops.AdaptiveAvgPool, ops.Flatten, ops.Concat, ops.Slice, ops.Shuffle,
    ops.Pad, ops.Resize, ops.TrainingOnly,
)  # fmt: skip
"""Each output is one of the inputs, a mean of some, or 0. (Dropout scales, in training.)"""


def carried(operation: Operation, parent: Operation, maps: list[Channels], before: list[Shape], now: list[Shape]) -> (
    Channels | None
):  # fmt: skip
    """The output's map of an operation without weights, where it treats channels alike; None where there is none.

    Args:
        operation: The child's.
        parent: The parent's, of the same type.
        maps: Of the inputs.
        before: Input shapes of the parent.
        now: Input shapes of the child.
    """
    match operation, parent:
        case ops.Concat(), ops.Concat():
            starts = [sum(shape[0] for shape in before[:i]) for i in range(len(before))]
            return tuple([start + c for start, channels in zip(starts, maps, strict=True) for c in channels])
        case ops.Add() | ops.Multiply(), _:
            return maps[0] if all(other == maps[0] for other in maps) else None
        case ops.Flatten(), ops.Flatten():
            if before[0][1:] != now[0][1:]:
                return None
            area = torch.Size(now[0][1:]).numel()
            return tuple([c * area + i for c in maps[0] for i in range(area)])
        case ops.Slice(start=a, stop=b), ops.Slice(start=c, stop=d):
            kept = tuple([channel - c for channel in maps[0][a:b]])
            return kept if all(0 <= channel < d - c for channel in kept) else None
        case ops.Shuffle(groups=a), ops.Shuffle(groups=b):
            back = {source: place for place, source in enumerate(shuffled(before[0][0], b))}
            return tuple([back[maps[0][source]] for source in shuffled(now[0][0], a)])
        case ops.Zero(), ops.Zero():
            same = operation.channels is None and parent.channels is None
            return maps[0] if same else mapping(parent.shape(before[0])[0], operation.shape(now[0])[0])
        case ops.Dropout() | ops.DropPath(), _:
            return maps[0]  # nothing in evaluation, whatever the rate
    return maps[0] if operation == parent else None


def shuffled(channels: int, groups: int) -> list[int]:
    """Which input channel each output channel of a shuffle is."""
    return [g * (channels // groups) + i for i in range(channels // groups) for g in range(groups)]


def norm_state(weights: Mapping[str, Tensor], channels: Channels) -> dict[str, Tensor]:
    """Weights and statistics of a norm on copied channels."""
    return {name: tensor[list(channels)] if tensor.ndim else tensor for name, tensor in weights.items()}


def identity_norm(operation: ops.BatchNorm, channels: int) -> dict[str, Tensor]:
    """A batch norm that changes nothing in evaluation, by any statistics; here mean 0 and variance 1."""
    ones, zeros = torch.ones(channels), torch.zeros(channels)
    statistics = {"running_mean": zeros, "running_var": ones if operation.affine else ones - operation.eps}
    if not operation.affine:
        return statistics
    return statistics | {"weight": ones * (1.0 + operation.eps) ** 0.5, "bias": zeros.clone()}
