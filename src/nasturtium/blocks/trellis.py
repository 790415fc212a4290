"""Trellis: layers along a path through several strides, as dense prediction needs them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from nasturtium.blocks.heads import bilinear
from nasturtium.errors import InvalidArchitectureError
from nasturtium.graph.tensor import Tensor
from nasturtium.space.block import Block


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

    Raises:
        InvalidArchitectureError: the path's strides are not `start` times a power of two, or one is skipped.

    Reference:
        Liu et al. (2019), "Auto-DeepLab", arXiv 1901.02985, section 3.2 and figure 1; resampling as in the authors'
        code.
    """

    cell: Any
    path: tuple[int, ...]
    filters: int
    start: int = 4
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.path, (tuple, list)) and self.path:
            self._check(tuple(self.path))

    def _check(self, path: tuple[int, ...]) -> None:
        levels = [self.start, *path]
        steps = [(a, b) for a, b in pairwise(levels) if b not in (a, 2 * a) and a != 2 * b]
        if steps or min(path) < self.start:
            raise InvalidArchitectureError(
                f"`path` must hold strides from {self.start} on, each equal to, twice or half the one before (the "
                f"input has stride {self.start}), got {path!r}."
            )

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
        for number, s in enumerate(self.path):
            for target in (stride, s):
                if target not in sizes:
                    height, width = sizes[target // 2]
                    sizes[target] = (-(-height // 2), -(-width // 2))
            with x.scope(f"layers.{number}"):
                given = bilinear(x, sizes[s]) if s < stride else x
                rate = self.drop_path * (number + 1) / len(self.path)
                y = self.cell(given, before, self.filters * s // self.start, 2 if s > stride else 1, rate)
            before, x, stride = x, y, s
            is_fine = is_fine and s == self.start
            if is_fine:
                fine = x
        return x, fine
