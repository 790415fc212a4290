"""The layer of each primitive operation: what `build` puts at a node's place.

Operations with weights, a mode (training or evaluation) or a well-known PyTorch module become that module; those that
only move or combine tensors become plain functions. Every factory takes the operation and its input shapes (without
the batch) and returns something to call on tensors with a batch. Weights are left as allocated:
`nasturtium.model.initialize` fills them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasturtium.errors import InvalidInputError
from nasturtium.graph import operations as ops
from nasturtium.graph.operations import Operation, Shape
from nasturtium.model.opaque import instantiate

Layer = Callable[..., Tensor]
"""An `nn.Module` or a function: `(batch, *shape)` tensors to one tensor."""


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with padding by (top, bottom, left, right); its weights are left uninitialised.

    Args:
        operation: The convolution.
        in_channels: Channels of the input.
    """

    def __init__(self, operation: ops.Conv, in_channels: int) -> None:
        top, bottom, left, right = operation.padding
        symmetric = (top, left) == (bottom, right)
        super().__init__(
            in_channels,
            operation.channels,
            operation.kernel,
            stride=operation.stride,
            padding=(top, left) if symmetric else 0,
            dilation=operation.dilation,
            groups=operation.groups,
            bias=operation.bias,
        )
        self.uneven_padding = None if symmetric else (left, right, top, bottom)

    def reset_parameters(self) -> None:
        """Draw nothing: the global random state is not the library's to use."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(batch, in_channels, height, width)`."""
        if self.uneven_padding is not None:
            x = functional.pad(x, self.uneven_padding)
        return self._conv_forward(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The usual line of a convolution, and the padding where it is uneven."""
        usual: str = super().extra_repr()  # type: ignore[no-untyped-call]
        uneven = self.uneven_padding
        return usual if uneven is None else f"{usual}, left_right_top_bottom={uneven}"


class Linear(nn.Linear):
    """`torch.nn.Linear` whose weights are left uninitialised."""

    def reset_parameters(self) -> None:
        """Draw nothing: the global random state is not the library's to use."""


class DropPath(nn.Module):
    """Stochastic depth: in training, zero a sample's whole tensor with probability `rate`, and scale the others up.

    Reference:
        Huang, Sun, Liu, Sedra, Weinberger (2016), "Deep networks with stochastic depth", arXiv 1603.09382, section 3.
        Differs from the paper: kept samples are scaled by 1 / (1 - rate) in training, instead of all at test time.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of `(batch, …)`."""
        if not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep) if keep else x * mask

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate}"


def add(first: Tensor, *others: Tensor) -> Tensor:
    """Sum, from left to right."""
    for other in others:
        first = first + other
    return first


def concat(*xs: Tensor) -> Tensor:
    """Concatenation along channels."""
    return torch.cat(xs, 1)


def flatten(x: Tensor) -> Tensor:
    """`(batch, …)` to `(batch, features)`."""
    return torch.flatten(x, 1)


def identity(x: Tensor) -> Tensor:
    """The input itself."""
    return x


def channel_slice(x: Tensor, *, start: int, stop: int) -> Tensor:
    """Channels `start` to `stop`."""
    return x[:, start:stop]


def channel_shuffle(x: Tensor, *, groups: int) -> Tensor:
    """Interleave `groups` groups of channels; the memory layout is kept."""
    shape = x.shape
    each = shape[1] // groups
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        last = x.permute(0, 2, 3, 1).view(shape[0], shape[2], shape[3], groups, each)
        return last.transpose(-1, -2).flatten(-2).permute(0, 3, 1, 2)
    return x.reshape(shape[0], groups, each, *shape[2:]).transpose(1, 2).reshape(shape)


def zero(x: Tensor, *, stride: int, channels: int | None) -> Tensor:
    """Zeros of the input's shape, sub-sampled by `stride`; nothing flows back."""
    like = x[:, :, ::stride, ::stride] if stride > 1 else x
    if channels is None:
        return torch.zeros_like(like)
    return like.new_zeros((like.shape[0], channels, *like.shape[2:]))


def _batch_norm(operation: ops.BatchNorm, x: Shape) -> nn.Module:
    kind = nn.BatchNorm1d if len(x) == 1 else nn.BatchNorm2d
    return kind(x[0], eps=operation.eps, momentum=operation.momentum, affine=operation.affine)


def _group_norm(operation: ops.GroupNorm, x: Shape) -> nn.Module:
    return nn.GroupNorm(operation.groups, x[0], eps=operation.eps)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "mish": nn.Mish,
}
"""Layers of the activations without weights; "prelu" has one for each channel."""


def _activation(operation: ops.Activation, x: Shape) -> nn.Module:
    return nn.PReLU(x[0]) if operation.function == "prelu" else ACTIVATIONS[operation.function]()


def _max_pool(operation: ops.MaxPool, _x: Shape) -> nn.Module:
    return nn.MaxPool2d(operation.kernel, operation.stride, operation.padding, ceil_mode=operation.ceil_mode)


def _avg_pool(operation: ops.AvgPool, _x: Shape) -> nn.Module:
    return nn.AvgPool2d(
        operation.kernel,
        operation.stride,
        operation.padding,
        ceil_mode=operation.ceil_mode,
        count_include_pad=operation.count_include_pad,
    )


def _global_pool(operation: ops.GlobalPool, _x: Shape) -> nn.Module:
    return nn.AdaptiveAvgPool2d(1) if operation.function == "avg" else nn.AdaptiveMaxPool2d(1)


def _pad(operation: ops.Pad, _x: Shape) -> Layer:
    top, bottom, left, right = operation.padding
    return partial(functional.pad, pad=(left, right, top, bottom))


def _resize(operation: ops.Resize, _x: Shape) -> nn.Module:
    aligned = operation.align_corners if operation.mode != "nearest" else None
    return nn.Upsample(operation.size, mode=operation.mode, align_corners=aligned)


LAYERS: dict[type[Operation], Callable[..., Layer]] = {
    ops.Input: lambda _operation: identity,
    ops.Conv: lambda operation, x: Conv2d(operation, x[0]),
    ops.Linear: lambda operation, x: Linear(x[0], operation.features, bias=operation.bias),
    ops.BatchNorm: _batch_norm,
    ops.GroupNorm: _group_norm,
    ops.Activation: _activation,
    ops.MaxPool: _max_pool,
    ops.AvgPool: _avg_pool,
    ops.GlobalPool: _global_pool,
    ops.AdaptiveAvgPool: lambda operation, _x: nn.AdaptiveAvgPool2d(operation.size),
    ops.Flatten: lambda _operation, _x: flatten,
    ops.Add: lambda _operation, *_xs: add,
    ops.Multiply: lambda _operation, _x, _y: operator.mul,
    ops.Concat: lambda _operation, *_xs: concat,
    ops.Slice: lambda operation, _x: partial(channel_slice, start=operation.start, stop=operation.stop),
    ops.Shuffle: lambda operation, _x: partial(channel_shuffle, groups=operation.groups),
    ops.Pad: _pad,
    ops.Resize: _resize,
    ops.Dropout: lambda operation, _x: nn.Dropout(operation.rate),
    ops.DropPath: lambda operation, _x: DropPath(operation.rate),
    ops.Zero: lambda operation, _x: partial(zero, stride=operation.stride, channels=operation.channels),
    ops.TrainingOnly: lambda _operation, _x: identity,
    ops.Opaque: lambda operation, *_xs: instantiate(operation.target, operation.arguments),
}
"""Factory of the layer of each operation: `(operation, *input_shapes) -> Layer`."""


def layer(operation: Operation, *inputs: Shape) -> Layer:
    """Make the layer of an operation, with weights allocated but not drawn.

    Args:
        operation: What to compute.
        *inputs: Input shapes, without the batch.

    Returns:
        An `nn.Module`, or a function where the operation has neither weights nor a mode.

    Raises:
        InvalidInputError: the operation has no layer.
    """
    factory: Callable[..., Any] | None = LAYERS.get(type(operation))
    if factory is None:
        known = ", ".join(sorted(kind.__name__ for kind in LAYERS))
        raise InvalidInputError(
            f"The operation {operation!r} has no layer in `nasturtium.model.layers.LAYERS`. Known: {known}."
        )
    made: Layer = factory(operation, *inputs)
    return made
