"""Cells: small directed acyclic graphs of candidate operations, and the bricks that stand on their edges."""

from __future__ import annotations

from math import isqrt
from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block


class Zero(Block):
    """Zeros of the input's shape: the missing edge ("none") of a cell.

    Args:
        stride: The output is sub-sampled by this.
        width: Output channels; None keeps the input's.
    """

    stride: int = 1
    width: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        return ops.zero(x, stride=self.stride, channels=self.width)


class PreActConv(Block):
    """Activation, convolution, batch normalisation, in this order.

    Args:
        width: Output channels; None keeps the input's.
        kernel: Odd, in pixels.
        stride: In pixels.
        act: Activation before the convolution, or "identity".
        dilation: Distance between taps.
        affine: Whether the norm has weights.
        eps: Of the norm.
        momentum: Of the norm, weight of the new batch.
    """

    width: int | None = None
    kernel: int = 3
    stride: int = 1
    act: str = "relu"
    dilation: int = 1
    affine: bool = True
    eps: float = 1e-5
    momentum: float = 0.1

    def forward(self, x: Tensor) -> Tensor:
        width = x.channels if self.width is None else self.width
        x = ops.activation(x, self.act)
        x = ops.conv(x, width, self.kernel, stride=self.stride, dilation=self.dilation)
        return ops.batch_norm(x, eps=self.eps, momentum=self.momentum, affine=self.affine)


class SumCell(Block):
    """A cell in which every node is the sum of an operation on each earlier node; the last node is the output.

    Args:
        edges: One block for each pair of nodes, target by target: 0→1; 0→2, 1→2; 0→3, 1→3, 2→3; … A cell of n nodes
            has n (n - 1) / 2 edges.

    Raises:
        InvalidInputError: the number of edges is not of this form.
    """

    edges: tuple[Any, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        nodes = (1 + isqrt(1 + 8 * len(self.edges))) // 2
        if nodes < 2 or nodes * (nodes - 1) // 2 != len(self.edges):
            raise InvalidInputError(
                f"`edges` must hold n (n - 1) / 2 blocks for n nodes (1, 3, 6, 10, …), got {len(self.edges)}."
            )

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        edges = iter(self.edges)
        while len(nodes) * (len(nodes) - 1) // 2 < len(self.edges):
            incoming = [next(edges)(node) for node in nodes]
            nodes.append(ops.add(*incoming, name=f"node_{len(nodes)}"))
        return nodes[-1]
