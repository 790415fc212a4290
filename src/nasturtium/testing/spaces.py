"""The laws of spaces."""

from __future__ import annotations

import json
from random import Random

from nasturtium.errors import InfeasibleError, SizeUnknownError
from nasturtium.space import Architecture, Space
from nasturtium.testing.contract import require

ENUMERATED = 5_000
"""Spaces up to this size are enumerated."""


def check_space(space: Space, *, samples: int = 50, seed: int = 0, trust: bool = True) -> None:
    """Check that a space keeps the laws of spaces: what is drawn is in it, and what is written is read back.

    Args:
        space: To check.
        samples: Architectures to draw.
        seed: Of the draws.
        trust: Whether the space's own block classes may be imported when it is read back.

    Raises:
        ContractError: A law does not hold.

    Example:
        >>> import nasturtium as nas
        >>> nas.testing.check_space(nas.Space(nas.Conv(nas.one_of(8, 16))))
    """
    rng = Random(seed)
    drawn = [space.sample(rng, sampler) for _ in range(samples) for sampler in ("uniform", "hierarchical")]
    again = Random(seed)
    require(drawn[0] == space.sample(again, "uniform"), "The same generator draws another architecture.")
    previous = drawn[-1]
    for architecture in drawn:
        require(architecture in space, f"{architecture} was drawn, but is not in the space.")
        require(not architecture.block.is_open, f"The block of {architecture} is still open.")
        require(space.decode(space.encode(architecture)) == architecture, f"Decoding changes {architecture}.")
        stored = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())), trust=trust)
        require(space.adopt(stored) == architecture, f"JSON changes {architecture}.")
        require(space.cross(architecture, previous, rng) in space, "A crossover leaves the space.")
        _check_mutation(space, architecture, rng)
        previous = architecture
    around = space.neighbours(drawn[0])
    require(
        len(set(around)) == len(around) and drawn[0] not in around, "Neighbours repeat, or hold the network itself."
    )
    require(all(a in space for a in around), "A neighbour is not in the space.")
    _check_size(space)
    read = Space.from_dict(json.loads(json.dumps(space.to_dict())), trust=trust)
    require(read.fingerprint == space.fingerprint, "The space that is read back has another fingerprint.")


def _check_mutation(space: Space, architecture: Architecture, rng: Random) -> None:
    try:
        child = space.mutate(architecture, rng)
    except InfeasibleError:
        return  # the only one, or cut off by conditions
    require(child in space, f"A mutation of {architecture} leaves the space: {child}.")
    if space.is_table:
        near = space.neighbours(architecture)
        require(child != architecture and child in near, f"A mutation of {architecture} is no neighbour: {child}.")
        return
    require(
        space.distance(architecture, child) == 1, f"A mutation of {architecture} changes not one decision: {child}."
    )


def _check_size(space: Space) -> None:
    try:
        size = space.size
    except SizeUnknownError:
        return
    if size <= ENUMERATED:
        found = list(space.enumerate())
        require(len(found) == size, f"The size is {size:,}, but {len(found):,} are enumerated.")
        require(len(set(found)) == size, "An architecture is enumerated twice.")
