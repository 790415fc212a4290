"""Smaller depthwise kernels out of larger ones, by matrices: the elastic kernel of Once-for-All.

The centre of the larger kernel, flattened row by row, times a matrix that all channels of a layer share. The smallest
kernel goes through all those between: with 7, 5 and 3, a kernel of 3 is made of that of 5.

Reference:
    Cai et al. (2020), "Once-for-All", arXiv 1908.09791, section 3.3, "Elastic Kernel Size", and the authors' code
    (`DynamicSeparableConv2d`): matrices start as the identity, and are convolution weights to the weight decay.
    Nothing known differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from torch import Tensor
from torch.nn import functional

from nasturtium.graph import operations as ops
from nasturtium.model.elastic_channels import is_depthwise
from nasturtium.space.open_graph import OpenNode

Steps = tuple[tuple[str, int], ...]
"""Names of the matrices that a kernel is put through, in order, with the side in pixels that each makes."""


def matrix_name(larger: int, smaller: int) -> str:
    """Name of the matrix that makes a kernel of the side `smaller` out of one of `larger`."""
    return f"transform_{larger}to{smaller}"


def steps_to(kernels: tuple[int, ...], side: int) -> Steps:
    """The matrices between the largest kernel and that of the given side; `kernels` decrease."""
    return tuple([(matrix_name(a, b), b) for a, b in pairwise(kernels) if b >= side])


def shrink(weight: Tensor, matrix: Tensor, side: int) -> Tensor:
    """One step.

    Args:
        weight: `(channels, 1, larger, larger)`.
        matrix: `(side^2, side^2)`; row i weighs the taps that make tap i.
        side: Of the smaller kernel, in pixels.

    Returns:
        `(channels, 1, side, side)`.
    """
    start = (weight.shape[2] - side) // 2
    centre = weight[:, :, start : start + side, start : start + side]
    flat = centre.reshape(weight.shape[0] * weight.shape[1], side * side)
    return functional.linear(flat, matrix).view(weight.shape[0], weight.shape[1], side, side)


def elastic_kernels(nodes: Iterable[OpenNode]) -> tuple[int, ...]:
    """Sides of the kernels of the operations at one path, where matrices make one out of another; else none.

    Those of depthwise convolutions that are depthwise and square in all their forms, and have several sides.
    """
    forms = [form for node in nodes for form in node.variants]
    sides: set[int] = set()
    for form in forms:
        operation = form.operation
        if not isinstance(operation, ops.Conv) or not is_depthwise(operation, form.inputs):
            return ()
        height, width = operation.kernel
        if height != width:
            return ()
        sides.add(height)
    return tuple(sorted(sides, reverse=True)) if len(sides) > 1 else ()
