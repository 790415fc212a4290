"""The smallest and the largest network of a space, for the sandwich rule."""

from __future__ import annotations

from random import Random
from typing import Literal

from nasturtium.errors import TraceError
from nasturtium.graph import cost
from nasturtium.graph.trace import Inputs
from nasturtium.space import Architecture, Space


def extreme(
    space: Space, which: Literal["smallest", "largest"], inputs: Inputs, rng: Random, **context: object
) -> Architecture:
    """An architecture that no change of one decision makes smaller (or larger) in MACs.

    The best of 32 random ones, improved by the best neighbour until there is none: exact where each decision changes
    the MACs in one direction whatever the others are, as widths, kernels and depths do.

    Args:
        space: The space.
        which: "smallest" or "largest".
        inputs: Shape of the input, as for `trace`.
        rng: Of the random start.
        **context: What the task tells the network.
    """
    sign = 1 if which == "largest" else -1

    def size(architecture: Architecture) -> float:
        try:
            return sign * cost(architecture, inputs, **context).macs
        except TraceError:
            return float("-inf")

    best = max((space.sample(rng) for _ in range(32)), key=size)
    score = size(best)
    while True:
        better = max(space.neighbours(best), key=size, default=best)
        if size(better) <= score:
            return best
        best, score = better, size(better)
