"""Calls of elastic layers with little overhead: what does not change from step to step is worked out once.

They compute what `Elastic.forward` computes for one form. On small images, where a layer takes tens of microseconds,
the way to it would otherwise count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from nasturtium.graph import operations as ops
from nasturtium.model.elastic import Cut, Elastic, put, take

Layer = Callable[..., Tensor]


def quick(function: Layer) -> Layer:
    """A quicker call that does the same, where there is one; weights are read when it is called."""
    if not isinstance(function, partial) or not isinstance(function.func, Elastic):
        return function
    operation, cuts = function.keywords["operation"], function.keywords["cuts"]
    if isinstance(operation, ops.Conv) and not function.func.steps(operation):
        return QuickConv(function.func, operation, cuts)
    if isinstance(operation, ops.BatchNorm):
        return QuickNorm(function.func, operation, cuts)
    return function


def _is_hooked(layer: Elastic) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


class QuickConv:
    """One form of a convolution.

    Args:
        layer: Its weights.
        operation: The form.
        cuts: The parts of the weights, as `Elastic.cuts` gives them; empty ones for whole weights.
    """

    __slots__ = ("bias", "dilation", "groups", "layer", "operation", "padding", "stride", "uneven", "weight")

    def __init__(self, layer: Elastic, operation: ops.Conv, cuts: dict[str, Cut]) -> None:
        top, bottom, left, right = operation.padding
        even = (top, left) == (bottom, right)
        self.layer, self.operation = layer, operation
        self.weight, self.bias = cuts["weight"], cuts.get("bias")
        self.stride, self.dilation, self.groups = operation.stride, operation.dilation, operation.groups
        self.padding = (top, left) if even else (0, 0)
        self.uneven = None if even else [left, right, top, bottom]

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve `(batch, channels, height, width)`."""
        if _is_hooked(self.layer):
            cuts = {"weight": self.weight} if self.bias is None else {"weight": self.weight, "bias": self.bias}
            y: Tensor = self.layer(x, operation=self.operation, cuts=cuts)
            return y
        held = self.layer._parameters
        weight, bias = held["weight"], None
        assert weight is not None
        kernel: Tensor = take(weight, self.weight).contiguous() if self.weight else weight
        if self.bias is not None:
            whole = held["bias"]
            assert whole is not None
            bias = take(whole, self.bias)
        if self.uneven is not None:
            x = functional.pad(x, self.uneven)
        return torch.conv2d(x, kernel, bias, self.stride, self.padding, self.dilation, self.groups)


class QuickNorm:
    """One form of a batch normalisation.

    Args:
        layer: Its weights and running statistics.
        operation: The form.
        cuts: As of `QuickConv`.
    """

    __slots__ = ("cuts", "eps", "layer", "momentum", "operation")

    def __init__(self, layer: Elastic, operation: ops.BatchNorm, cuts: dict[str, Cut]) -> None:
        self.layer, self.operation, self.cuts = layer, operation, cuts
        self.eps, self.momentum = operation.eps, operation.momentum

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise `(batch, channels, …)`."""
        layer, cuts = self.layer, self.cuts
        if _is_hooked(layer):
            y: Tensor = layer(x, operation=self.operation, cuts=cuts)
            return y
        training, buffers = layer.training, layer._buffers
        mean, variance = self._part(buffers, "running_mean"), self._part(buffers, "running_var")
        weight = bias = None
        if "weight" in cuts:
            weight, bias = self._part(layer._parameters, "weight"), self._part(layer._parameters, "bias")
        if training:
            count = buffers["num_batches_tracked"]
            assert count is not None
            count.add_(1)
        y = functional.batch_norm(x, mean, variance, weight, bias, training, self.momentum, self.eps)
        if training and cuts["running_mean"]:
            for name, part in (("running_mean", mean), ("running_var", variance)):
                whole = buffers[name]
                assert whole is not None
                put(whole, cuts[name], part)
        return y

    def _part(self, held: Mapping[str, Tensor | None], name: str) -> Tensor:
        whole = held[name]
        assert whole is not None
        cut = self.cuts[name]
        return take(whole, cut) if cut else whole
