"""Mutations by kind: of depth, of an operator, of a number such as a width or a kernel, or of what a pattern names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise
from random import Random

from nasturtium.errors import InvalidInputError, UnknownNameError
from nasturtium.space import Architecture, Decision, Prefix, Space

KINDS = ("depth", "operator", "number")
"""`depth`: how many copies of a `repeat` there are. `number`: any other decision among numbers (width, kernel,
expansion, resolution). `operator`: every other decision (between blocks, texts, inputs)."""

MANY = 1_000
"""Decisions with more values are not a list of numbers that anyone wrote."""
TRIES = 16
"""Changes that conditions refuse before another kind is drawn."""


def numbers_of(decision: Decision) -> tuple[float, ...] | None:
    """Its values where all are different numbers, else None."""
    if decision.count > MANY:
        return None
    values = decision.options
    numbers = tuple([float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)])
    return numbers if len(numbers) == len(values) == len(set(numbers)) else None


def is_increasing(decision: Decision) -> bool:
    """Whether its values are numbers in increasing order."""
    numbers = numbers_of(decision)
    return numbers is not None and all(a < b for a, b in pairwise(numbers))


def kind_of(decision: Decision) -> str:
    """One of `KINDS`."""
    if any(isinstance(node.source, Prefix) for node in decision.nodes):
        return "depth"
    return "operator" if numbers_of(decision) is None else "number"


def moves(decision: Decision, index: int, *, near: bool) -> Sequence[int]:
    """The indices to which a mutation may move: of numbers the next smaller and larger, else all others.

    Args:
        decision: With at least two values.
        index: The present one.
        near: Whether values that are no numbers move to the choice's nearest too (one element of a subset).
    """
    numbers = numbers_of(decision)
    if numbers is not None:
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        place = order.index(index)
        return [order[p] for p in (place - 1, place + 1) if 0 <= p < len(order)]
    if near or decision.count > MANY:
        return decision.choice.neighbours(index)
    return [i for i in range(decision.count) if i != index]


def moved(space: Space, architecture: Architecture, decision: Decision, index: int, rng: Random) -> Architecture | None:
    """One decision changed; values that this activates are drawn, each uniform; None where a condition refuses it."""
    wanted = dict(architecture.decisions)
    for other in space.decisions:
        if other.name not in wanted:
            wanted[other.name] = rng.randrange(other.count)
    wanted[decision.name] = index
    return space.settle(wanted)


class Mutation:
    """Draws a kind by its weight, then one of its active decisions, then a value that it may move to.

    Args:
        space: Whose architectures are mutated.
        weights: By kind (see `KINDS`) or by a pattern of names such as "*.kernel"; only their ratios count.
        near: See `moves`.

    Raises:
        UnknownNameError: a pattern admits no decision.
        InvalidInputError: a weight is not positive, or the space has no decision of any of the kinds.
    """

    def __init__(self, space: Space, weights: Mapping[str, float], *, near: bool = False) -> None:
        self._space = space
        self._weights = dict(weights)
        check_weights(weights)
        self._members: dict[str, set[str]] = {}
        for name in weights:
            found = [d for d in space.decisions if _admits(name, d)]
            if not found and name not in KINDS:
                raise UnknownNameError("kind or decision", name, [*KINDS, *[d.name for d in space.decisions]])
            self._members[name] = {d.name for d in found}
        if not any(self._members.values()):
            raise InvalidInputError(f"The space has no decision of the kinds {', '.join(weights)}.")
        self._moves = cache(lambda position, index: moves(space.decisions[position], index, near=near))

    def __call__(self, architecture: Architecture, rng: Random) -> Architecture | None:
        """A mutated architecture; None where no change was found that the conditions allow."""
        active = self._space.active(architecture)
        members = {
            name: [d for d in active if d.count > 1 and d.name in found] for name, found in self._members.items()
        }
        left = {name: self._weights[name] for name, found in members.items() if found}
        while left:
            [name] = rng.choices(list(left), list(left.values()))
            for _ in range(TRIES if self._space.conditions else 1):
                decision = rng.choice(members[name])
                index = rng.choice(self._moves(decision.position, architecture.decisions[decision.name]))
                child = moved(self._space, architecture, decision, index, rng)
                if child is not None:
                    return child
            del left[name]
        return None


def check_weights(weights: object) -> None:
    """Raise `InvalidInputError` unless these are positive weights by kind or pattern."""
    good = isinstance(weights, Mapping) and weights
    if not good or not all(
        isinstance(n, str) and isinstance(w, (int, float)) and not isinstance(w, bool) and 0 < w < float("inf")
        for n, w in weights.items()  # type: ignore[attr-defined]
    ):
        raise InvalidInputError(
            f"`mutation` must give positive weights to kinds ({', '.join(KINDS)}) or to patterns of decisions "
            f'("*.kernel"), got {weights!r}.'
        )


def _admits(name: str, decision: Decision) -> bool:
    return kind_of(decision) == name if name in KINDS else fnmatchcase(decision.name, name)
