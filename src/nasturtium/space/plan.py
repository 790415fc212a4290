"""A compiled open block: its structure, and the walks through it that close, count and draw."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence, Set
from random import Random

from nasturtium.errors import InvalidArchitectureError
from nasturtium.space.closing import Closer
from nasturtium.space.counting import Counter, Proposer
from nasturtium.space.structure import Indices, Node, Structure

Draw = Callable[[int, int], int]
"""Chooses an index for a decision: (its position, its number of values) -> index."""

ALL: Set[int] = frozenset((-1,))
"""Visit every node."""


class Plan:
    """All that spaces over one open block share."""

    def __init__(self, value: object) -> None:
        self.structure = Structure(value)
        self.decisions = self.structure.decisions
        self.leaf = [d.leaf for d in self.decisions]
        self.counts = [d.count for d in self.decisions]
        self.closer = Closer(self.structure)
        self.counter = Counter(self.structure)
        self.proposer = Proposer(self.structure, self.counter)

    def walk(self, indices: list[int], draw: Draw, root: Node | None = None, relevant: Set[int] = ALL) -> list[int]:
        """Decide what is active and undecided (-1) in `indices`; return the active positions in the order met.

        Args:
            indices: Changed in place.
            draw: Chooses the missing indices.
            root: Where to start; the whole block by default.
            relevant: Ids of the nodes to visit.
        """
        trail: list[int] = []
        seen = [False] * len(indices)
        stack: list[Node] = [root or self.structure.root]
        while stack:
            node = stack.pop()
            position = node.decision
            if relevant is not ALL and node.id not in relevant:
                continue
            if position < 0:
                stack.extend(node.everything[::-1])
                continue
            index = indices[position]
            if index < 0:
                index = indices[position] = draw(position, node.count)
            if not seen[position]:
                seen[position] = True
                trail.append(position)
            if node.active is not None:
                stack.extend(node.active(index)[::-1])
        return trail

    def order(self, indices: Indices) -> list[int]:
        """Active positions in the order in which they are met."""
        if self.structure.tree:
            return [p for p, index in enumerate(indices) if index >= 0]
        return self.walk(list(indices), _never)

    def settle(self, wanted: list[int], draw: Draw) -> Indices:
        """Complete wanted indices: keep those that are active, draw what is active and -1, drop the rest."""
        indices = list(wanted)
        trail = self.walk(indices, draw)
        kept = [-1] * len(indices)
        for position in trail:
            kept[position] = indices[position]
        return tuple(kept)

    def check(self, indices: Indices) -> None:
        """Refuse indices that are none of this plan's: out of range, missing where active, given where inactive.

        Raises:
            InvalidArchitectureError: they are not.
        """
        if len(indices) != len(self.decisions):
            raise InvalidArchitectureError(
                f"This space has {len(self.decisions)} decisions, so it needs as many indices, got {len(indices)}."
            )
        for decision, index in zip(self.decisions, indices, strict=True):
            if not -1 <= index < decision.count:
                raise InvalidArchitectureError(
                    f"The index of {decision.name!r} must be in [0, {decision.count}), or -1 where it is inactive, "
                    f"got {index}."
                )
        settled = self.settle(list(indices), first_value)
        for decision, given, needed in zip(self.decisions, indices, settled, strict=True):
            if given != needed:
                state = "active, so it needs an index" if given < 0 else "inactive, so its index is -1"
                raise InvalidArchitectureError(f"The decision {decision.name!r} is {state}, got {given}.")

    def hierarchical(self, rng: Random) -> list[int]:
        """Each active decision uniform, from the root down."""
        indices = [-1] * len(self.decisions)
        stack: list[Node] = [self.structure.root]
        random = rng.random
        while stack:
            node = stack.pop()
            position = node.decision
            if position < 0:
                stack.extend(node.everything[::-1])
                continue
            index = indices[position]
            if index < 0:
                index = indices[position] = int(random() * node.count)
            if node.active is not None:
                stack.extend(node.active(index)[::-1])
        return indices

    def enumerate(
        self, fixed: Sequence[int] = (), root: Node | None = None, relevant: Set[int] = ALL
    ) -> Generator[tuple[list[int], list[int]], int | None, None]:
        """All (indices, trail), by a depth-first walk in definition order.

        `send(n)` skips all further ones that share the first n decisions of the trail.

        Args:
            fixed: Indices that are settled (-1: not).
            root: Where to start; the whole block by default.
            relevant: Ids of the nodes to visit.
        """
        counts = self.counts
        start = list(fixed) or [-1] * len(self.decisions)
        indices = start.copy()
        while True:
            trail = self.walk(indices, first_value, root, relevant)
            keep = yield indices, trail
            last = len(trail) if keep is None else keep
            while last and (start[trail[last - 1]] >= 0 or indices[trail[last - 1]] + 1 >= counts[trail[last - 1]]):
                last -= 1
            if not last:
                return
            following = start.copy()
            for position in trail[:last]:
                following[position] = indices[position]
            following[trail[last - 1]] += 1
            indices = following


def first_value(_position: int, _count: int) -> int:
    """The first value of any decision."""
    return 0


def _never(_position: int, _count: int) -> int:
    raise AssertionError("an active decision has no value")
