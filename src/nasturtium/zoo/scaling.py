"""Width and depth multipliers of hand-designed networks."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TypeVar

from nasturtium.blocks import make_divisible
from nasturtium.design.multipliers import check_multipliers

Row = TypeVar("Row")


def scaled_width(channels: int, width: float, divisor: int = 8) -> int:
    """Channels times a multiplier, rounded to a multiple of `divisor`; as they are at 1.

    Raises:
        InvalidInputError: the multiplier is not a positive number, or is too large.
    """
    check_multipliers(width=width)
    return channels if width == 1 else make_divisible(channels * width, divisor)


def scaled_depth(count: int, depth: float) -> int:
    """A number of layers times a multiplier, rounded up, as in EfficientNet.

    Raises:
        InvalidInputError: the multiplier is not a positive number, or is too large.
    """
    check_multipliers(depth=depth)
    return ceil(count * depth)


def scaled_rows(rows: Sequence[Row], depth: float) -> tuple[Row, ...]:
    """The rows of a stage, as many as the multiplier says: the last ones go, or the last one is repeated.

    Raises:
        InvalidInputError: the multiplier is not a positive number, or is too large.
    """
    count = scaled_depth(len(rows), depth)
    return tuple(rows[min(i, len(rows) - 1)] for i in range(count))
