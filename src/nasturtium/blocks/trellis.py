"""Trellis: layers along a path through several strides, as dense prediction needs them; operations of its cells.

An operation is called as `operation(x, stride, drop_path)`: the cell tells whether its input is still to be
sub-sampled.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

from nasturtium.blocks.heads import bilinear
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block

EPS = 1e-3
"""Of the backbone's norms, as in Auto-DeepLab's code. Its momentum of 0.0003 suits 1.5 million steps; here it is
0.1."""


class Trellis(Block):
    """One cell at every layer of a path; from layer to layer the stride stays, doubles or halves.

    A layer at stride s gets `filters * s / start` channels to work with. Where the path goes to a finer stride, its
    input is enlarged first; where it goes to a coarser one, the cell is called with stride 2.

    Args:
        cell: A block, called as `cell(x, before, width, stride, drop_path)`: the outputs of the last layer and of the
            one before it, the channels of each part, 1 or 2, and a rate. Every layer has weights of its own.
        path: Stride of each layer, for example `walk((4, 8, 16, 32), 12, start=4)`.
        filters: Channels of each part at the stride `start`.
        start: Stride of the input.
        drop_path: Rate of stochastic depth at the last layer; earlier ones have a share that grows with the layer.
        from_input: Whether the path begins with the input, `start`, before the first layer. So a `walk` from `start`
            may take its first step already to the first layer.

    Raises:
        InvalidArchitectureError: the path's strides are not `start` times a power of two, or one is skipped.

    Reference:
        Liu et al. (2019), "Auto-DeepLab", arXiv 1901.02985, section 3.2 and figure 1; resampling as in the authors'
        code.
    """

    width_fields: ClassVar[tuple[str, ...]] = ("filters",)
    cell: Any
    path: tuple[int, ...]
    filters: int
    start: int = 4
    drop_path: float = 0.0
    from_input: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.path, (tuple, list)) and self.path:
            self._check(tuple(self.path))

    def _check(self, path: tuple[int, ...]) -> None:
        steps = pairwise([self.start, *path])
        leaps = [(a, b) for a, b in steps if b not in (a, 2 * a) and a != 2 * b]
        if leaps or min(path) < self.start or (self.from_input and path[0] != self.start):
            raise InvalidArchitectureError(
                f"`path` must hold strides from {self.start} on, each equal to, twice or half the one before (the "
                f"input has stride {self.start}), got {path!r}."
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each layer."""
        return self.path[1:] if self.from_input else self.path

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last layer's output, and the finest features.

        These are the last output before the path first leaves the stride `start`; the input where it begins
        elsewhere.

        Args:
            x: At stride `start`.
            before: What `x` was made of, at any size.
        """
        sizes = {self.start: x.shape[1:]}
        stride, fine = self.start, x
        is_fine = True
        strides = self.strides
        for number, s in enumerate(strides):
            for target in (stride, s):
                if target not in sizes:
                    height, width = sizes[target // 2]
                    sizes[target] = (-(-height // 2), -(-width // 2))
            with x.scope(f"layers.{number}"):
                given = bilinear(x, sizes[s]) if s < stride else x
                rate = self.drop_path * (number + 1) / len(strides)
                y = self.cell(given, before, self.filters * s // self.start, 2 if s > stride else 1, rate)
            before, x, stride = x, y, s
            is_fine = is_fine and s == self.start
            if is_fine:
                fine = x
        return x, fine


class Separable(Block):
    """Activation, depthwise and pointwise convolution, norm; some times, the stride at the first.

    Args:
        kernel: Odd, in pixels.
        layers: How many times.
    """

    kernel: int = 3
    layers: int = 2

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        width = x.channels
        for number in range(self.layers):
            with x.scope(f"layers.{number}"):
                x = ops.activation(x)
                x = ops.conv(x, width, self.kernel, stride=1 if number else stride, groups=width, name="depthwise")
                x = ops.batch_norm(ops.conv(x, width, 1, name="pointwise"), eps=EPS)
        return ops.drop_path(x, drop_path)


class Atrous(Block):
    """Activation, dense convolution of rate 2, norm; with stride 2, of rate 1 on the image at half its size.

    Args:
        kernel: Odd, in pixels.
    """

    kernel: int = 3

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        x = ops.activation(x)
        if stride == 2:
            x = bilinear(x, (-(-x.height // 2), -(-x.width // 2)))
        x = ops.conv(x, x.channels, self.kernel, dilation=1 if stride == 2 else 2)
        return ops.drop_path(ops.batch_norm(x, eps=EPS), drop_path)


class Pool(Block):
    """Pooling.

    Args:
        function: "avg" or "max".
        kernel: Odd, in pixels.
    """

    function: str = "max"
    kernel: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.function, str) and self.function not in ("avg", "max"):
            raise InvalidInputError(f"`function` of a pooling must be 'avg' or 'max', got {self.function!r}.")

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        pool = ops.max_pool if self.function == "max" else ops.avg_pool
        return ops.drop_path(pool(x, self.kernel, stride=stride), drop_path)


class Skip(Block):
    """The input; with stride 2, activation, 1x1 convolution and norm."""

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        if stride == 1:
            return x
        return ops.batch_norm(ops.conv(ops.activation(x), x.channels, 1, stride=stride), eps=EPS)


class NoConnection(Block):
    """Zeros."""

    def forward(self, x: Tensor, stride: int = 1, drop_path: float = 0.0) -> Tensor:
        return ops.zero(x, stride=stride)
