"""Branches of mixtures: none, an operation on a part of the channels, and a shortcut beside an operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nasturtium.errors import InvalidInputError, ShapeError
from nasturtium.graph import tensor as ops
from nasturtium.graph.operations import Input
from nasturtium.graph.tensor import Tensor, tensors
from nasturtium.graph.trace import FlatTracer
from nasturtium.space import Block


class Absent(Block):
    """The operation "none": zeros of the shape that a block would return; the block is not computed.

    Args:
        of: A closed block that returns one image.
    """

    of: Any

    def forward(self, *xs: Any) -> Tensor:
        """Return zeros.

        Raises:
            ShapeError: the block's output has not an input's size, whole or divided by a stride.
        """
        shape = output_shape(self.of, xs)
        for x in tensors(xs):
            if len(x.shape) == len(shape) == 3:
                stride = -(-x.shape[1] // shape[1])
                if tuple([-(-side // stride) for side in x.shape[1:]]) == shape[1:]:
                    return ops.zero(x, stride=stride, channels=None if x.channels == shape[0] else shape[0])
        raise ShapeError(f"No zeros can stand for {type(self.of).__name__}: it returns {shape}, which no stride gives.")


def output_shape(block: Block, xs: tuple[Any, ...]) -> tuple[int, ...]:
    """Shape that a closed block returns, found on the side."""
    given = list(tensors(xs))
    tracer = FlatTracer(given[0].context)
    made = iter([tracer.apply(Input(x.shape), (), f"x{i}") for i, x in enumerate(given)])
    found = list(tensors(block.forward(*_replace(xs, made))))
    if len(found) != 1:
        raise ShapeError(f"An operation of a mixture returns one tensor, but {type(block).__name__} {len(found)}.")
    return tuple(found[0].shape)


def _replace(value: Any, new: Iterator[Tensor]) -> Any:
    if isinstance(value, Tensor):
        return next(new)
    if isinstance(value, dict):
        return {key: _replace(item, new) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)([_replace(item, new) for item in value])
    return value


class Partial(Block):
    """An operation on the first channels of its input, one part of K; the others pass, and a shuffle mixes both.

    Where the operation has a stride, the others pass through a maximum over windows of stride by stride.

    Args:
        operation: Takes an image first, keeps its channels; a choice between such as well.
        parts: K, at least 2; divides the channels.

    Reference:
        Xu et al. (2020), "PC-DARTS", arXiv 1907.05737, section 3.2.
    """

    operation: Any
    parts: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parts < 2:
            raise InvalidInputError(f"`parts` of Partial must be 2 or more, got {self.parts!r}.")

    def forward(self, x: Any, *rest: Any) -> Tensor:
        """Compute on a part."""
        if not isinstance(x, Tensor) or x.channels % self.parts:
            shown = x.shape if isinstance(x, Tensor) else x
            raise ShapeError(
                f"Partial channels need an operation on one image of a multiple of {self.parts} channels, got {shown}."
            )
        active = x.channels // self.parts
        y: Tensor = self.operation(ops.channel_slice(x, 0, active), *rest)
        others = ops.channel_slice(x, active, x.channels, name="rest")
        stride = -(-x.height // y.height)
        if y.channels != active or (-(-x.height // stride), -(-x.width // stride)) != (y.height, y.width):
            raise ShapeError(
                f"Partial channels need an operation that keeps the channels, got {y.shape} from "
                f"{(active, x.height, x.width)}."
            )
        if stride > 1:
            others = ops.max_pool(others, stride, stride=stride, padding=0, ceil_mode=True, name="rest_pool")
        return ops.channel_shuffle(ops.concat(y, others), self.parts)


class Shortcut(Block):
    """An image as it is, or averaged over windows of stride by stride where a block makes it smaller by a stride.

    Args:
        of: The block, closed.
    """

    of: Any

    def forward(self, x: Any, *rest: Any) -> Tensor:
        """Return the image, or averages."""
        shape = output_shape(self.of, (x, *rest))
        if not isinstance(x, Tensor) or x.channels != shape[0]:
            raise ShapeError(f"A shortcut needs an operation on one image that keeps the channels, got {x!r}.")
        stride = -(-x.height // shape[1])
        return x if stride == 1 else ops.avg_pool(x, stride, stride=stride, padding=0, ceil_mode=True)


class Beside(Block):
    """An operation with a shortcut beside it.

    Args:
        operation: Takes an image first, keeps its channels; a choice between such as well.
        shortcut: A choice between a `Shortcut` and none.

    Reference:
        Chu et al. (2021), "DARTS-", arXiv 2009.01027, section 3.2.
    """

    operation: Any
    shortcut: Any

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        """Add both up."""
        return ops.add(self.operation(x, *rest), self.shortcut(x, *rest))
