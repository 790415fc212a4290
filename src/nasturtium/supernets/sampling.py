"""Different random architectures of a space."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from random import Random

from nasturtium.graph.trace import trace
from nasturtium.space import Architecture, Space
from nasturtium.space.space import Sampler
from nasturtium.tasks import Task

DRAWS = 50
"""Draws for each architecture wanted, before a space counts as too small for so many different ones."""


def distinct(
    space: Space,
    count: int,
    rng: Random,
    *,
    how: Sampler = "uniform",
    key: Callable[[Architecture], Hashable] = lambda architecture: architecture.key,
) -> list[Architecture]:
    """Different random architectures, in the order in which they were drawn; fewer where hardly more are found.

    Args:
        space: Where they are drawn from.
        count: How many are wanted, at least 0.
        rng: Drawn from.
        how: As of `Space.sample`: "uniform" over architectures, or "hierarchical".
        key: Architectures of equal keys are the same; by default those of equal decisions. See also `network_key`.
    """
    found: dict[Hashable, Architecture] = {}
    for _ in range(DRAWS * count):
        architecture = space.sample(rng, how)
        found.setdefault(key(architecture), architecture)
        if len(found) == count:
            break
    return list(found.values())


def network_key(task: Task) -> Callable[[Architecture], str]:
    """A `key` of `distinct`: architectures that are one network for a task, by other decisions, are the same.

    Args:
        task: Whose images the networks read.
    """
    return lambda architecture: trace(architecture, task.input_shape, **task.context).canonical_hash
