"""How often a network halves an image: what lets one space fit images of any size."""

from __future__ import annotations

from math import log2

from nasturtium.errors import InvalidInputError


def halvings(input_shape: tuple[int, ...]) -> int:
    """How often to halve an image, at most five times, so that 4 to 7 positions remain on its shorter side.

    Raises:
        InvalidInputError: the shape is not (channels, height, width) of positive integers.
    """
    if len(input_shape) != 3 or any(not isinstance(n, int) or n < 1 for n in input_shape):
        raise InvalidInputError(f"`input_shape` must be (channels, height, width), got {input_shape!r}.")
    return min(5, max(0, int(log2(max(min(input_shape[1:]) / 3.5, 1)))))


def strides(count: int, stages: int) -> tuple[int, ...]:
    """Strides of the stem and of each stage: `count` halvings, early ones first, as hand-designed networks have them.

    One halving goes to the first stage, so that the stem sees every pixel; two or more begin with the stem, then the
    second stage, the third and so on, and last the first stage; what is left over goes to the stem, whose stride is at
    most 4.
    """
    order = [1] if count == 1 else [0, *range(2, stages + 1), 1][:count]
    stem = 1 if 0 not in order else 2 ** min(2, 1 + max(0, count - stages - 1))
    return (stem, *(2 if i in order else 1 for i in range(1, stages + 1)))
