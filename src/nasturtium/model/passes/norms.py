"""Batch normalisation in training, with what stands around it.

Running statistics are changed exactly as each norm alone would change them; `num_batches_tracked` is counted by the
executor, for all norms at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from nasturtium.graph import operations as ops
from nasturtium.model.elastic import Elastic
from nasturtium.model.passes import kernels
from nasturtium.model.passes.layers import Function, elastic_of, weight_of


def _layer(function: Function) -> Elastic:
    layer = elastic_of(function)
    assert layer is not None
    return layer


class Norm:
    """A norm by the batch's statistics.

    Attributes:
        layers: The norms that it stands for.
        coefficient: Number of the coefficient that scales the result; -1 for none.
        relu: Whether ReLU follows.
        reads: What it reads, where that is not what the norm reads.
    """

    def __init__(self, functions: Sequence[Function], operation: ops.BatchNorm) -> None:
        self.layers = [_layer(function) for function in functions]
        self.operation = operation
        self.coefficient = -1
        self.relu = False
        self.reads: tuple[int, ...] = ()

    def __call__(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Normalise `(batch, channels, height, width)`, and scale by a number."""
        raise NotImplementedError

    def _affine(self, scale: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Scale and shift: the norm's own, times the coefficient."""
        if not self.operation.affine:
            return scale, None
        weight, bias = weight_of(self.layers[0], "weight"), weight_of(self.layers[0], "bias")
        return (weight, bias) if scale is None else (weight * scale, bias * scale)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        return self.layers[0].get_buffer("running_mean"), self.layers[0].get_buffer("running_var")


class PlainNorm(Norm):
    """A norm alone."""

    def __init__(self, function: Function, operation: ops.BatchNorm) -> None:
        super().__init__([function], operation)

    def __call__(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Normalise and scale."""
        factor, shift = self._affine(scale)
        if factor is not None:  # an expanded weight gives wrong gradients
            factor = factor.expand(x.shape[1]).contiguous()
        mean, variance = self._statistics()
        return functional.batch_norm(
            x, mean, variance, factor, shift, True, self.operation.momentum, self.operation.eps
        )


class PointwiseNorm(Norm):
    """A 1x1 convolution and the norm behind it."""

    def __init__(self, function: Function, operation: ops.BatchNorm, convolution: Function) -> None:
        super().__init__([function], operation)
        self.convolution = _layer(convolution)

    def __call__(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Convolve, normalise, scale, and apply ReLU where it follows."""
        return kernels.pointwise_norm(
            x,
            weight_of(self.convolution, "weight"),
            *self._affine(scale),
            statistics=self._statistics(),
            momentum=self.operation.momentum,
            eps=self.operation.eps,
            relu=self.relu,
        )


class MergedNorm(Norm):
    """Norms without weights on one input: computed once; the running statistics of each are kept."""

    def __call__(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Normalise."""
        assert scale is None
        mean = torch.zeros_like(self.layers[0].get_buffer("running_mean"))
        variance = torch.zeros_like(mean)
        y = functional.batch_norm(x, mean, variance, None, None, True, 1.0, self.operation.eps)
        for layer in self.layers:
            layer.get_buffer("running_mean").lerp_(mean, self.operation.momentum)
            layer.get_buffer("running_var").lerp_(variance, self.operation.momentum)
        return y
