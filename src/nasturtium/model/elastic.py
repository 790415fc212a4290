"""Elastic layers: weights of the largest form, of which each architecture uses a slice.

Width is the first channels (behind an open concatenation: the parts' own channels), a kernel is the centre of the
largest one, running statistics are sliced like the norm's weights. With kernel transforms, a depthwise kernel is the
centre of the next larger one put through a matrix that all channels of the layer share.

Reference:
    Cai et al. (2020), "Once-for-All", arXiv 1908.09791, sections 3.2 and 3.3; Yu et al. (2019), "Slimmable Neural
    Networks", arXiv 1812.08928. Differs from the papers: running statistics are sliced, not kept for each width
    (recalibrate them).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasturtium.graph import operations as ops
from nasturtium.graph.operations import Operation, Shape
from nasturtium.model.elastic_channels import Columns, is_depthwise
from nasturtium.model.kernel_transform import Steps, matrix_name, shrink, steps_to

NARROW = 8
"""Input channels from which a 1x1 convolution with a stride is safe with channels last on the CPU."""
Part = slice | Tensor
"""Indices along one axis of a weight: a range, or a list of numbers (int64)."""
Cut = tuple[Part, ...]
"""The part of a shared weight that a form uses, axis by axis."""
WEIGHTED = (ops.Conv, ops.Linear, ops.BatchNorm, ops.GroupNorm, ops.Activation)
"""Operations that may have weights which are sliced."""


def is_unsafe_with_channels_last(kernel: Sequence[int], stride: Sequence[int], channels: int) -> bool:
    """Whether PyTorch's CPU kernel for the weight's gradient writes outside of its memory.

    It does for a 1x1 convolution with a stride on images that lie with channels last and have fewer than 8 channels
    (torch 2.13, `tests/model/test_narrow_convolutions.py`): such images are to lie with channels first.
    """
    return max(kernel) == 1 and max(stride) > 1 and channels < NARROW


def take(weight: Tensor, cut: Cut) -> Tensor:
    """The part of a shared weight; a view where every axis is a range, the weight itself for an empty cut."""
    if not cut:
        return weight
    whole = slice(None)
    weight = weight[tuple([part if isinstance(part, slice) else whole for part in cut])]
    for axis, part in enumerate(cut):
        if isinstance(part, Tensor):
            weight = weight.index_select(axis, part.to(weight.device))
    return weight


def put(weight: Tensor, cut: Cut, value: Tensor) -> None:
    """Write the part of a one-axis buffer, where `take` made a copy of it."""
    if cut and isinstance(cut[0], Tensor):
        weight.index_copy_(0, cut[0].to(weight.device), value)


def _first(count: int) -> slice:
    return slice(0, count)


def _held(columns: Columns, count: int) -> Part:
    if columns is None or columns == tuple(range(count)):
        return _first(count)
    return torch.tensor(columns)


def _centre(largest: int, size: int) -> slice:
    start = (largest - size) // 2
    return slice(start, start + size)


class Elastic(nn.Module):
    """Weights of all forms of the operations at one path.

    Args:
        shapes: Largest shape of each weight.
        buffers: Channels of the running statistics, 0 for none.
        kernels: Sides of the square kernels, of which each smaller one is made of the next larger by a matrix of its
            own, `(side^2, side^2)`; with fewer than two, kernels are centre crops.
    """

    def __init__(self, shapes: dict[str, Shape], buffers: int = 0, kernels: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.kernels = tuple(sorted(kernels, reverse=True))
        for larger, smaller in pairwise(self.kernels):
            self.register_parameter(matrix_name(larger, smaller), nn.Parameter(torch.eye(smaller * smaller)))
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        if buffers:
            self.register_buffer("running_mean", torch.zeros(buffers))
            self.register_buffer("running_var", torch.ones(buffers))
            self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def cuts(self, operation: Operation, inputs: tuple[Shape, ...], columns: Columns) -> dict[str, Cut]:
        """What a form uses of each weight and of the running statistics, by name."""
        channels = inputs[0][0]
        held = _held(columns, channels)
        if isinstance(operation, ops.Conv):
            weight = self.get_parameter("weight")
            out = held if is_depthwise(operation, inputs) else _first(operation.channels)
            into = held if operation.groups == 1 else _first(channels // operation.groups)
            sides = operation.kernel if not self.steps(operation) else weight.shape[2:]
            kernel = [_centre(n, k) for n, k in zip(weight.shape[2:], sides, strict=True)]
            cuts: dict[str, Cut] = {"weight": (out, into, *kernel), "bias": (out,)}
        elif isinstance(operation, ops.Linear):
            cuts = {"weight": (_first(operation.features), held), "bias": (_first(operation.features),)}
        else:
            cuts = {"weight": (held,), "bias": (held,)}
        wanted = {name: cuts[name] for name in operation.weights(*inputs)}
        if isinstance(operation, ops.BatchNorm):
            wanted |= {"running_mean": (held,), "running_var": (held,)}
        return wanted

    def steps(self, operation: Operation) -> Steps:
        """The matrices that a form's kernel is put through, in order, with the side that each makes."""
        if len(self.kernels) < 2 or not isinstance(operation, ops.Conv):
            return ()
        return steps_to(self.kernels, operation.kernel[0])

    def forward(self, x: Tensor, operation: Operation, cuts: dict[str, Cut]) -> Tensor:
        """Compute one form.

        Args:
            x: `(batch, *shape)`.
            operation: The form's operation.
            cuts: Of `cuts`.
        """
        used = {name: take(getattr(self, name), cut) for name, cut in cuts.items()}
        weight, bias = used.get("weight"), used.get("bias")
        if isinstance(operation, ops.Conv):
            assert weight is not None
            top, bottom, left, right = operation.padding
            for name, side in self.steps(operation):
                weight = shrink(weight, self.get_parameter(name), side)
            around = (top, left)
            if (top, left) != (bottom, right):
                x, around = functional.pad(x, (left, right, top, bottom)), (0, 0)
            weight = weight.contiguous()
            if x.device.type == "cpu" and is_unsafe_with_channels_last(operation.kernel, operation.stride, x.shape[1]):
                x = x.contiguous()
            return functional.conv2d(x, weight, bias, operation.stride, around, operation.dilation, operation.groups)
        if isinstance(operation, ops.Linear):
            assert weight is not None
            return functional.linear(x, weight.contiguous(), bias)
        if isinstance(operation, ops.BatchNorm):
            return self._batch_norm(x, operation, cuts, used)
        if isinstance(operation, ops.GroupNorm):
            return functional.group_norm(x, operation.groups, weight, bias, operation.eps)
        assert weight is not None
        return functional.prelu(x, weight)

    def _batch_norm(self, x: Tensor, operation: ops.BatchNorm, cuts: dict[str, Cut], used: dict[str, Tensor]) -> Tensor:
        if self.training:
            self.get_buffer("num_batches_tracked").add_(1)
        mean, variance = used["running_mean"], used["running_var"]
        y = functional.batch_norm(
            x, mean, variance, used.get("weight"), used.get("bias"), self.training, operation.momentum, operation.eps
        )
        if self.training:
            put(self.get_buffer("running_mean"), cuts["running_mean"], mean)
            put(self.get_buffer("running_var"), cuts["running_var"], variance)
        return y

    def extra_repr(self) -> str:
        """Largest shapes."""
        return ", ".join(f"{name}={tuple(p.shape)}" for name, p in self.named_parameters())


@torch.no_grad()
def initialize_elastic(layer: Elastic, kind: type[Operation], generator: torch.Generator) -> None:
    """Draw the weights by the rules of `model.initialize`, for the largest form."""
    weights = dict(layer.named_parameters())
    for bias in ("bias",):
        if bias in weights:
            weights[bias].zero_()
    weight = weights.get("weight")
    if weight is None:
        return
    if kind is ops.Conv:
        fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
        if weight.shape[1] == 1:
            fan_out = weight.shape[2] * weight.shape[3]
        weight.normal_(0.0, sqrt(2.0 / fan_out), generator=generator)
    elif kind is ops.Linear:
        bound = 1.0 / sqrt(weight.shape[1])
        weight.uniform_(-bound, bound, generator=generator)
    else:
        weight.fill_(0.25 if kind is ops.Activation else 1.0)
