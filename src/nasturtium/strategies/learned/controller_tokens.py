"""What a controller emits: an architecture as a sequence of tokens, each one of a few values.

A decision of at most `WIDE` values is one token. A larger one is several: a subset is the numbers of its options in
increasing order, a walk its levels, and any other index its digits, the most significant first. What a token may be
depends on those before it only by a range, so that each architecture is exactly one sequence.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nasturtium.space import Architecture, Space
from nasturtium.space.choice import Choice, Subset, Walk

WIDE = 256
"""Most values of one token."""
BASE = 32
"""Most values of a digit."""


class Coder(Protocol):
    """Writes a decision's index as a few small numbers."""

    widths: tuple[int, ...]
    """How many values each number can have."""

    def numbers(self, index: int) -> Sequence[int]:
        """The numbers of an index."""
        ...

    def index(self, numbers: Sequence[int]) -> int:
        """The index of numbers."""
        ...

    def allowed(self, before: Sequence[int]) -> tuple[int, int]:
        """The range [low, high) of the number that follows."""
        ...


class Digits:
    """An index in a base, most significant digit first; a single digit where there are few values."""

    def __init__(self, count: int) -> None:
        length = 1
        while count > WIDE and BASE**length < count:
            length += 1
        base = 1
        while base**length < count:  # the smallest that suffices, so that the digits are of about equal weight
            base += 1
        self.count, self.base = count, base
        self.widths = ((count - 1) // base ** (length - 1) + 1, *[base] * (length - 1))

    def numbers(self, index: int) -> Sequence[int]:
        """The digits of an index."""
        found = []
        for _ in self.widths:
            index, digit = divmod(index, self.base)
            found.append(digit)
        return found[::-1]

    def index(self, numbers: Sequence[int]) -> int:
        """The index of digits."""
        total = 0
        for digit in numbers:
            total = total * self.base + digit
        return total

    def allowed(self, before: Sequence[int]) -> tuple[int, int]:
        """All digits, but none that would lead beyond the last index."""
        if len(self.widths) == 1:
            return 0, self.count
        unit = self.base ** (len(self.widths) - 1 - len(before))
        start = self.index(before) * self.base * unit
        return 0, min(self.base, (self.count - 1 - start) // unit + 1)


class Members:
    """A subset by the numbers of its options, increasing."""

    def __init__(self, choice: Subset) -> None:
        self.choice = choice
        self.widths = (len(choice.options),) * choice.k

    def numbers(self, index: int) -> Sequence[int]:
        """The numbers of the chosen options."""
        return self.choice.positions(index)

    def index(self, numbers: Sequence[int]) -> int:
        """The index of the chosen options."""
        return self.choice.rank(numbers)

    def allowed(self, before: Sequence[int]) -> tuple[int, int]:
        """Those after the last, which leave enough for the rest."""
        left = self.choice.k - len(before) - 1
        return (before[-1] + 1 if before else 0), len(self.choice.options) - left


class Levels:
    """A walk by the numbers of its levels."""

    def __init__(self, choice: Walk) -> None:
        self.choice = choice
        self.widths = (len(choice.levels),) * choice.length

    def numbers(self, index: int) -> Sequence[int]:
        """The numbers of the levels on the path."""
        return self.choice.positions(index)

    def index(self, numbers: Sequence[int]) -> int:
        """The index of a path."""
        return self.choice.rank(numbers)

    def allowed(self, before: Sequence[int]) -> tuple[int, int]:
        """Those within one step."""
        choice, count = self.choice, len(self.choice.levels)
        if before:
            return max(0, before[-1] - choice.step), min(count, before[-1] + choice.step + 1)
        if choice.start is None:
            return 0, count
        first = choice.levels.index(choice.start)
        return first, first + 1


def coder(choice: Choice) -> Coder:
    """The way to write a choice's indices."""
    if choice.count > WIDE and isinstance(choice, Subset) and len(choice.options) <= WIDE:
        return Members(choice)
    if choice.count > WIDE and isinstance(choice, Walk) and len(choice.levels) <= WIDE:
        return Levels(choice)
    return Digits(choice.count)


@dataclass(frozen=True, slots=True)
class Sentence:
    """The tokens of one architecture.

    Attributes:
        slots: Which token each is.
        values: Its value.
        low: First value that it may have.
        high: Value after the last that it may have.
    """

    slots: list[int]
    values: list[int]
    low: list[int]
    high: list[int]


class Tokens:
    """The tokens of a space: a slot for each number of each decision.

    Args:
        space: The space.

    Attributes:
        widths: Values of each slot.
        starts: First row of each slot in a table of all values; slots of one width stand side by side.
        rows: Length of that table.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.names = [d.name for d in space.decisions]
        self.coders = [coder(d.choice) for d in space.decisions]
        self.widths: list[int] = []
        self.first_slot: list[int] = []
        for each in self.coders:
            self.first_slot.append(len(self.widths))
            self.widths += each.widths
        self.starts = [0] * len(self.widths)
        self.rows = 0
        for slot in sorted(range(len(self.widths)), key=lambda s: (self.widths[s], s)):
            self.starts[slot] = self.rows
            self.rows += self.widths[slot]
        self.always: list[int] = []
        self.follow: list[list[tuple[int, frozenset[int]]]] = [[] for _ in self.names]
        for position, name in enumerate(self.names):
            ways = space.activation(name)
            if not ways:
                self.always.append(position)
            for way in ways:
                self.follow[way.decision.position].append((position, frozenset(way.indices)))

    def write(self, architecture: Architecture) -> Sentence:
        """The tokens of an architecture."""
        indices = architecture.decisions
        emission, found = Emission(self), Sentence([], [], [], [])
        while (slot := emission.slot) is not None:
            low, high = emission.allowed()
            value = self.coders[emission.position].numbers(indices[self.names[emission.position]])[len(emission.before)]
            for column, item in zip(
                (found.slots, found.values, found.low, found.high), (slot, value, low, high), strict=True
            ):
                column.append(item)
            emission.take(value)
        return found

    def read(self, indices: Mapping[int, int]) -> Architecture | None:
        """The architecture of decided indices by position; None where a condition of the space refuses it.

        In a space that is a table, the row nearest to them.
        """
        return self.space.nearest({self.names[position]: index for position, index in indices.items()})


class Emission:
    """One architecture while it is emitted.

    Decisions come in the order in which they are met: in definition order, one that another activates after it.

    Attributes:
        slot: The token that comes next; None at the end.
        position: Its decision.
        before: Numbers of this decision that were emitted.
        indices: Indices that are decided, by position.
    """

    __slots__ = ("_ready", "_seen", "before", "indices", "position", "slot", "tokens")

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self._ready = list(tokens.always)  # increasing, hence a heap
        self._seen = set(tokens.always)
        self.indices: dict[int, int] = {}
        self.before: list[int] = []
        self.position = -1
        self.slot: int | None = None
        self._next()

    def _next(self) -> None:
        self.before = []
        if not self._ready:
            self.slot = None
            return
        self.position = heapq.heappop(self._ready)
        self.slot = self.tokens.first_slot[self.position]

    def allowed(self) -> tuple[int, int]:
        """The range [low, high) of the next token."""
        return self.tokens.coders[self.position].allowed(self.before)

    def take(self, value: int) -> None:
        """Emit a value of the next token."""
        coder = self.tokens.coders[self.position]
        self.before.append(value)
        if len(self.before) < len(coder.widths):
            self.slot = self.tokens.first_slot[self.position] + len(self.before)
            return
        index = self.indices[self.position] = coder.index(self.before)
        for other, values in self.tokens.follow[self.position]:
            if index in values and other not in self._seen:
                self._seen.add(other)
                heapq.heappush(self._ready, other)
        self._next()
