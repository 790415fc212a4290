"""The cell of DARTS: candidate operations, edges, nodes and the cell, for DARTS-like spaces and their networks.

Candidate operations keep the channels and take `(x, stride, drop_path)`: where an operation stands decides its stride,
so that one object serves normal and reduction cells. An edge reads one earlier state; a node adds up its edges.

Reference:
    Liu, Simonyan, Yang (2019), "DARTS: Differentiable Architecture Search", arXiv 1806.09055, section 2.1 and
    appendix A; details as in the authors' code (`operations.py`, `model.py`, `model_search.py`).
"""

from __future__ import annotations

from typing import Any

from nasturtium.errors import InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block

INPUTS = 2
"""Inputs of a cell: the outputs of the cell before the previous one (state 0) and of the previous one (state 1)."""


def relu_conv_norm(x: Tensor, width: int, *, affine: bool = True, name: str = "relu_conv_norm") -> Tensor:
    """ReLU, 1x1 convolution, batch normalisation.

    Args:
        x: `(channels, height, width)`.
        width: Output channels.
        affine: Whether the norm has weights.
        name: Name of the scope.
    """
    with x.scope(name):
        return ops.batch_norm(ops.conv(ops.activation(x), width, 1), affine=affine)


def factorized_reduction(
    x: Tensor, width: int, *, act: str = "relu", affine: bool = True, name: str = "factorized_reduction"
) -> Tensor:
    """Halve the size without losing pixels: two strided 1x1 convolutions, the second one pixel further.

    For odd sizes the second convolution reads a zero beyond the last pixel, as in TensorFlow implementations of
    NASNet's; the authors of DARTS take even sizes only. For an odd width the second has the extra channel.

    Args:
        x: `(channels, height, width)`.
        width: Output channels, at least 2.
        act: Activation before the convolutions, or "identity".
        affine: Whether the norm has weights.
        name: Name of the scope.

    Returns:
        `(width, ceil(height / 2), ceil(width / 2))`.

    Reference:
        Zoph et al. (2018), "Learning Transferable Architectures", arXiv 1707.07012, as in the authors' code.
    """
    with x.scope(name):
        x = ops.activation(x, act)
        shifted = ops.pad(x, (-1, x.height % 2, -1, x.width % 2), name="shift")
        first = ops.conv(x, width // 2, 1, stride=2, name="first")
        second = ops.conv(shifted, width - width // 2, 1, stride=2, name="second")
        return ops.batch_norm(ops.concat(first, second), affine=affine)


class Nothing(Block):
    """The operation "none": zeros."""

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        """Return zeros, sub-sampled by the stride."""
        del drop_path
        return ops.zero(x, stride=stride)


class Skip(Block):
    """The identity; with a stride a factorised reduction.

    Args:
        affine: Whether the norm of the reduction has weights.
    """

    affine: bool = True

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        """Return the input, or reduce it."""
        if stride == 1:
            return x
        return ops.drop_path(factorized_reduction(x, x.channels, affine=self.affine), drop_path)


class Pool(Block):
    """Mean or maximum over windows of 3x3 pixels; padding does not count in a mean.

    Args:
        function: "avg" or "max".
        norm: Whether a batch normalisation without weights follows, as in the networks of a search.
    """

    function: str
    norm: bool = False

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        """Pool."""
        if self.function not in ("avg", "max"):
            raise InvalidInputError(f"`function` of Pool must be 'avg' or 'max', got {self.function!r}.")
        pool = ops.max_pool if self.function == "max" else ops.avg_pool
        x = pool(x, 3, stride=stride)
        x = ops.batch_norm(x, affine=False) if self.norm else x
        return ops.drop_path(x, drop_path)


class SepConv(Block):
    """Twice: ReLU, depthwise convolution, 1x1 convolution, batch normalisation. The first has the stride.

    Args:
        kernel: Of the depthwise convolutions; odd, in pixels.
        affine: Whether the norms have weights.
    """

    kernel: int = 3
    affine: bool = True

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        """Convolve twice."""
        for name, step in (("first", stride), ("second", 1)):
            with x.scope(name):
                x = _separable(x, self.kernel, step, affine=self.affine)
        return ops.drop_path(x, drop_path)


class DilConv(Block):
    """ReLU, depthwise convolution with holes, 1x1 convolution, batch normalisation.

    Args:
        kernel: Of the depthwise convolution; odd, in taps.
        dilation: Distance between taps.
        affine: Whether the norm has weights.
    """

    kernel: int = 3
    dilation: int = 2
    affine: bool = True

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        """Convolve."""
        x = _separable(x, self.kernel, stride, dilation=self.dilation, affine=self.affine)
        return ops.drop_path(x, drop_path)


def _separable(x: Tensor, kernel: int, stride: int, *, dilation: int = 1, affine: bool = True) -> Tensor:
    x = ops.activation(x)
    x = ops.conv(x, x.channels, kernel, stride=stride, dilation=dilation, groups=x.channels, name="depthwise")
    return ops.batch_norm(ops.conv(x, x.channels, 1, name="pointwise"), affine=affine)


class CrossConv(Block):
    """ReLU, 1xk and kx1 convolution without anything between, batch normalisation.

    Args:
        kernel: k; odd, in pixels.
        affine: Whether the norm has weights.
    """

    kernel: int = 7
    affine: bool = True

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        """Convolve along the rows, then along the columns."""
        x = ops.activation(x)
        x = ops.conv(x, x.channels, (1, self.kernel), stride=(1, stride), name="rows")
        x = ops.conv(x, x.channels, (self.kernel, 1), stride=(stride, 1), name="columns")
        return ops.drop_path(ops.batch_norm(x, affine=self.affine), drop_path)


class Mixed(Block):
    """All candidate operations side by side, added up: an edge of the network that DARTS searches with, at its cost.

    Args:
        operations: The candidates.
        partial: K: only the first channels, one part of K, are computed on; the others pass (halved by maximum where
            there is a stride), and a channel shuffle of K groups mixes both. 1 computes on all.

    Reference:
        Xu et al. (2020), "PC-DARTS", arXiv 1907.05737, section 3.2.
    """

    operations: tuple[Any, ...]
    partial: int = 1

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        """Add up what the operations make of the input."""
        if self.partial < 1 or x.channels % self.partial:
            raise InvalidInputError(
                f"`partial` of Mixed must divide the channels of the cell, got {self.partial} for {x.channels} "
                "channels: choose the width as a multiple of it."
            )
        active = x.channels // self.partial
        y = ops.channel_slice(x, 0, active)
        y = ops.add(*[operation(y, stride, drop_path) for operation in self.operations])
        if self.partial == 1:
            return y
        rest = ops.channel_slice(x, active, x.channels, name="rest")
        if stride > 1:
            rest = ops.max_pool(rest, stride, stride=stride, padding=0, ceil_mode=True, name="rest_pool")
        return ops.channel_shuffle(ops.concat(y, rest), self.partial)


class Edge(Block):
    """An operation on one earlier state of the cell.

    Args:
        source: Number of the state: 0 and 1 are the inputs of the cell, then follow the nodes.
        operation: What is computed on it.
    """

    source: int
    operation: Any

    def forward(self, states: tuple[Tensor, ...], stride: int = 1, drop_path: float = 0.0) -> Tensor:
        """Compute on the state; only edges from the cell's inputs have the stride."""
        return self.operation(states[self.source], stride if self.source < INPUTS else 1, drop_path)


class Node(Block):
    """The sum of its edges.

    Args:
        edges: An edge may stand twice.
    """

    edges: Any

    def forward(self, states: tuple[Tensor, ...], stride: int = 1, drop_path: float = 0.0) -> Tensor:
        """Add up the edges."""
        return ops.add(*[edge(states, stride, drop_path) for edge in self.edges])


class Cell(Block):
    """A cell: two inputs brought to one size and width, nodes, and the concatenation of some states.

    Args:
        nodes: In order; a node may read the inputs and the nodes before it.
        concat: Numbers of the states whose concatenation is the output; 2 is the first node. None: all nodes.
        reduction: Whether the cell halves the size.
        affine: Whether the norms of the inputs have weights.

    Raises:
        InvalidInputError: a number in `concat` is no state, or is an input of a reduction cell (which is too large).
    """

    nodes: tuple[Any, ...]
    concat: tuple[int, ...] | None = None
    reduction: bool = False
    affine: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        first, last = (INPUTS if self.reduction else 0), len(self.nodes) + INPUTS - 1
        if self.concat is not None and not (self.concat and all(first <= i <= last for i in self.concat)):
            kind = "reduction" if self.reduction else "normal"
            raise InvalidInputError(
                f"`concat` of a {kind} cell of {len(self.nodes)} nodes must hold numbers from {first} to {last}, at "
                f"least one, got {self.concat!r}."
            )

    def forward(
        self, before: Tensor, previous: Tensor, width: int, reduced: bool = False, drop_path: float = 0.0
    ) -> Tensor:
        """Compute the cell.

        Args:
            before: Output of the cell before the previous one.
            previous: Output of the previous cell.
            width: Channels of every state.
            reduced: Whether the previous cell halved the size, so that `before` is twice as large.
            drop_path: Rate at which an operation other than the identity is dropped in training.
        """
        if reduced:
            states = [factorized_reduction(before, width, affine=self.affine, name="preprocess_0")]
        else:
            states = [relu_conv_norm(before, width, affine=self.affine, name="preprocess_0")]
        states.append(relu_conv_norm(previous, width, affine=self.affine, name="preprocess_1"))
        for node in self.nodes:
            states.append(node(tuple(states), 2 if self.reduction else 1, drop_path))
        return ops.concat(*(states[INPUTS:] if self.concat is None else [states[i] for i in self.concat]))
