"""The resolution of the images as a choice like any other: a first block that resizes them."""

from __future__ import annotations

from collections.abc import Sequence

from nasturtium.blocks import Sequential
from nasturtium.errors import InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block, one_of


class Resolution(Block):
    """Resize images, bilinearly: the shorter side to `size`, keeping their proportions.

    Args:
        size: In pixels.
    """

    size: int

    def forward(self, x: Tensor) -> Tensor:
        """Resize; images of this size already are left as they are."""
        shorter = min(x.height, x.width)
        sides = (round(x.height * self.size / shorter), round(x.width * self.size / shorter))
        return ops.resize(x, sides, "bilinear")


def at_resolutions(network: Sequential, resolutions: Sequence[int] | None) -> Sequential:
    """A network that chooses the resolution of its images.

    Args:
        network: The network.
        resolutions: To choose from, in pixels, as the decision "resolution"; a single one is fixed; None or none: the
            images' own.

    Raises:
        InvalidInputError: one of them is not a positive integer.
    """
    if not resolutions:
        return network
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in resolutions):
        raise InvalidInputError(f"`resolutions` must be positive integers, in pixels, got {resolutions!r}.")
    size = resolutions[0] if len(resolutions) == 1 else one_of(*resolutions, name="resolution")
    return Sequential(Resolution(size), network)
