"""In which order to run a network's steps so that the least memory is alive at the worst moment.

What is alive after some steps depends only on *which* steps ran, not on their order. So the best order is a path
through the sets of steps that are closed under "what I read ran before" (downsets), whose largest moment is smallest.
The network is cut wherever a step comes before or after every other one: the parts are independent. What all orders
must pass in one part is a lower bound for the search in the others (`nasturtium.graph.downsets`).

Reference:
    Ahn, Lee, Lin, Cheng, Hou, Esmaeilzadeh (2020), "Ordering Chaos: Memory-Aware Scheduling of Irregularly Wired
    Neural Networks for Edge Devices", arXiv 2003.02369, section 3: dynamic programming over downsets, and cuts.
    Differs from the paper: sets are visited by the largest moment that leads to them, in place of a search for a soft
    budget; the search leaves out orders that are no better than others; results written over inputs and in-place
    depthwise convolutions are taken into account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from nasturtium.graph.downsets import Network, Span, Step

STATES = 20_000
"""Sets of steps that are looked at, at most, unless the caller says otherwise: some seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order of steps, what it needs, and what any order needs."""

    steps: tuple[int, ...]
    peak: int
    """Bytes alive at its worst moment."""
    lower_bound: int
    """Bytes that every order needs, proven."""
    states: int
    """Sets of steps that were looked at."""

    @property
    def is_optimal(self) -> bool:
        """Whether no order needs less."""
        return self.peak == self.lower_bound


def best_order(steps: Sequence[Step], *, states: int = STATES) -> Order:
    """The order of least peak, or, where that takes too long, a good one and a proven lower bound.

    Inputs are there from the start, and stay in the given order.

    Args:
        steps: In some valid order.
        states: Sets of steps to look at, at most.
    """
    network = Network(steps)
    order = [i for i, step in enumerate(steps) if step.first]
    ends = _cuts(steps)
    spans = [Span(network, start, end) for start, end in pairwise(ends)]
    floor = max([network.peak(order), *[span.floor() for span in spans]])
    bounds = [floor]
    visited = 0
    for span in spans:
        found, bound, looked = span.solve(floor, states - visited)
        order.extend(found)
        bounds.append(bound)
        visited += looked
    peak = network.peak(order)
    return Order(steps=tuple(order), peak=peak, lower_bound=min(peak, max(bounds)), states=visited)


def _cuts(steps: Sequence[Step]) -> list[int]:
    """The sets that every order passes through, from the inputs to all steps.

    Between lie those of what comes before a step that is comparable with every other, together with it.
    """
    before, after = _relatives(steps)
    inputs = sum(1 << i for i, step in enumerate(steps) if step.first)
    total = len(steps) - inputs.bit_count()
    found = {inputs, (1 << len(steps)) - 1}
    for i, step in enumerate(steps):
        if not step.first and (before[i] & ~inputs).bit_count() + after[i].bit_count() == total - 1:
            found.add(before[i] | inputs | 1 << i)
    return sorted(found, key=int.bit_count)


def _relatives(steps: Sequence[Step]) -> tuple[list[int], list[int]]:
    """For each step, the set of those that it depends on, and of those that depend on it."""
    before = [0] * len(steps)
    after = [0] * len(steps)
    for i, step in enumerate(steps):
        for j in step.reads:
            before[i] |= before[j] | 1 << j
    for i in reversed(range(len(steps))):
        for j in steps[i].reads:
            after[j] |= after[i] | 1 << i
    return before, after
