"""Choices: the values that a block's field may be left open with.

A choice compares by identity: the same object is the same decision wherever it stands. A decision's value is stored
as an index: the number of the option, or the rank of a subset or walk in lexicographic order.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from math import comb
from typing import Any, cast

from nasturtium.errors import InvalidInputError, InvalidSpaceError
from nasturtium.space.block import Block, Open, is_open


class CopyScope:
    """Marks the choices of one `fresh_copy`; `value` is the copied value, whose path prefixes their names."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: object = None


class Choice(Open):
    """An open value: one of `count` values. Immutable; equal to itself only.

    Attributes:
        name: Explicit name of the decision, or None (then its path names it).
        count: Number of values.
        width: Length of the encoding.
        scope: The copy that it belongs to, or None.
        origin: The choice that it is a copy of, or None.
    """

    kind = "choice"
    name: str | None
    count: int
    width: int
    scope: CopyScope | None = None
    origin: Choice | None = None

    def value_at(self, index: int) -> object:
        """Value of an index in [0, count)."""
        raise NotImplementedError

    def index_of(self, value: object) -> int:
        """Index of a value.

        Raises:
            InvalidInputError: the value is not among the choice's values.
        """
        raise NotImplementedError

    def sample(self, rng: Any) -> int:
        """A uniform index, by a `random.Random`."""
        return int(rng.randrange(self.count))

    def neighbours(self, index: int) -> list[int]:
        """The nearest other indices: those that one smallest step reaches."""
        return [i for i in range(self.count) if i != index]

    def encode(self, index: int) -> list[float]:
        """Encoding of an index: `width` numbers, each 0 or 1; by default one-hot."""
        vector = [0.0] * self.width
        vector[index] = 1.0
        return vector

    def decode(self, vector: list[float]) -> int:
        """Index whose encoding is closest to a vector of `width` numbers."""
        return max(range(self.width), key=lambda i: (vector[i], -i))

    @property
    def choices(self) -> tuple[object, ...]:
        """The options as given, which may be open themselves."""
        return ()

    def __deepcopy__(self, memo: dict[int, object]) -> Choice:
        return self

    def __copy__(self) -> Choice:
        return self


def _name(name: str | None) -> str | None:
    if name is not None and (not isinstance(name, str) or not name):
        raise InvalidSpaceError(f"A choice's `name` must be a string that is not empty, got {name!r}.")
    return name


def _options(what: str, options: Iterable[object]) -> tuple[object, ...]:
    values = tuple([tuple(o) if isinstance(o, list) else o for o in options])
    if not values:
        raise InvalidSpaceError(f"`{what}` needs at least one option, got none.")
    for i, value in enumerate(values):
        for other in values[:i]:
            if other is value or (type(other) is type(value) and other == value):
                raise InvalidSpaceError(f"`{what}` got the option {value!r} twice; options must differ.")
    return values


def _integer(what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidSpaceError(f"{what} must be an integer, got {value!r}.")
    return value


class OneOf(Choice):
    """One of several options, which may be open themselves; see `one_of`."""

    kind = "one_of"

    def __init__(self, options: Iterable[object], name: str | None = None) -> None:
        self.options = _options("one_of", options)
        self.name = _name(name)
        self.count = self.width = len(self.options)

    @property
    def choices(self) -> tuple[object, ...]:
        return self.options

    @cached_property
    def _index(self) -> dict[object, int]:
        return {(type(o), o): i for i, o in enumerate(self.options)}

    def value_at(self, index: int) -> object:
        return self.options[index]

    def index_of(self, value: object) -> int:
        found = self._index.get((type(value), value))
        if found is None:
            for i, option in enumerate(self.options):
                if not isinstance(option, Open) and not isinstance(value, (Open, bool)) and option == value:
                    return i
            raise InvalidInputError(f"{value!r} is not among the options {self.options!r}.")
        return found

    def __repr__(self) -> str:
        return f"one_of({', '.join(map(repr, self.options))}{_suffix(self.name)})"


class IntRange(Choice):
    """An integer from a range; see `int_range`."""

    kind = "int_range"

    def __init__(self, low: int, high: int, step: int = 1, name: str | None = None) -> None:
        self.low = _integer("The low end of `int_range`", low)
        self.high = _integer("The high end of `int_range`", high)
        self.step = _integer("The step of `int_range`", step)
        if step < 1 or low > high:
            raise InvalidSpaceError(f"`int_range` needs low <= high and step >= 1, got {low}, {high}, step {step}.")
        self.name = _name(name)
        self.count = self.width = (high - low) // step + 1

    def value_at(self, index: int) -> int:
        return self.low + index * self.step

    def index_of(self, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            index, rest = divmod(value - self.low, self.step)
            if rest == 0 and 0 <= index < self.count:
                return index
        raise InvalidInputError(f"{value!r} is not among {self!r}.")

    def neighbours(self, index: int) -> list[int]:
        return [i for i in (index - 1, index + 1) if 0 <= i < self.count]

    def __repr__(self) -> str:
        step = f", step={self.step}" if self.step != 1 else ""
        return f"int_range({self.low}, {self.high}{step}{_suffix(self.name)})"


class Subset(Choice):
    """`k` of several options, in their order; see `subset`."""

    kind = "subset"

    def __init__(self, options: Iterable[object], k: int, name: str | None = None) -> None:
        self.options = _options("subset", options)
        self.k = _integer("`k` of `subset`", k)
        if not 1 <= k <= len(self.options):
            raise InvalidSpaceError(f"`subset` of {len(self.options)} options needs 1 <= k <= that, got k={k}.")
        self.name = _name(name)
        self.count = comb(len(self.options), k)
        self.width = len(self.options)

    @property
    def choices(self) -> tuple[object, ...]:
        return self.options

    def positions(self, index: int) -> tuple[int, ...]:
        """Numbers of the chosen options, increasing."""
        chosen: list[int] = []
        start, n = 0, len(self.options)
        for left in range(self.k, 0, -1):
            while index >= (block := comb(n - start - 1, left - 1)):
                index -= block
                start += 1
            chosen.append(start)
            start += 1
        return tuple(chosen)

    def rank(self, positions: Iterable[int]) -> int:
        """Index of increasing option numbers."""
        rank, start, n = 0, 0, len(self.options)
        for taken, position in enumerate(positions):
            rank += sum(comb(n - p - 1, self.k - taken - 1) for p in range(start, position))
            start = position + 1
        return rank

    def value_at(self, index: int) -> tuple[object, ...]:
        return tuple([self.options[p] for p in self.positions(index)])

    def index_of(self, value: object) -> int:
        items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        found = [p for item in items for p, option in enumerate(self.options) if item is option or item == option]
        if len(found) != self.k or len(items) != self.k or found != sorted(set(found)):
            raise InvalidInputError(f"{value!r} is not {self.k} of {self.options!r} in their order.")
        return self.rank(found)

    def neighbours(self, index: int) -> list[int]:
        chosen = self.positions(index)
        others = [p for p in range(len(self.options)) if p not in chosen]
        return sorted({self.rank(sorted({*chosen} - {old} | {new})) for old in chosen for new in others})

    def encode(self, index: int) -> list[float]:
        vector = [0.0] * self.width
        for position in self.positions(index):
            vector[position] = 1.0
        return vector

    def decode(self, vector: list[float]) -> int:
        best = sorted(range(self.width), key=lambda i: (-vector[i], i))[: self.k]
        return self.rank(sorted(best))

    def __repr__(self) -> str:
        return f"subset({self.options!r}, {self.k}{_suffix(self.name)})"


class Walk(Choice):
    """A path through ordered levels in bounded steps; see `walk`."""

    kind = "walk"

    def __init__(
        self, levels: Iterable[object], length: int, start: object = None, step: int = 1, name: str | None = None
    ) -> None:
        self.levels = _options("walk", levels)
        self.length = _integer("The length of `walk`", length)
        self.step = _integer("The step of `walk`", step)
        if length < 1 or step < 0:
            raise InvalidSpaceError(f"`walk` needs length >= 1 and step >= 0, got length {length}, step {step}.")
        if any(map(is_open, self.levels)):
            raise InvalidSpaceError("The levels of `walk` must be plain values, but one of them holds a choice.")
        if start is not None and start not in self.levels:
            raise InvalidSpaceError(f"`walk` must start at one of its levels {self.levels!r}, got start={start!r}.")
        self.start = start
        self.name = _name(name)
        self.width = len(self.levels) * length
        n = len(self.levels)
        ways = [1] * n
        self._ways = [ways]  # _ways[m][p]: paths of m further steps from position p
        for _ in range(length - 1):
            ways = [sum(ways[q] for q in self._reach(p)) for p in range(n)]
            self._ways.append(ways)
        self.count = sum(self._ways[-1][p] for p in self._first())

    def _first(self) -> range:
        if self.start is None:
            return range(len(self.levels))
        position = self.levels.index(self.start)
        return range(position, position + 1)

    def _reach(self, position: int) -> range:
        return range(max(0, position - self.step), min(len(self.levels), position + self.step + 1))

    def positions(self, index: int) -> tuple[int, ...]:
        """Numbers of the levels on the path."""
        path: list[int] = []
        candidates = self._first()
        for left in range(self.length - 1, -1, -1):
            for position in candidates:
                if index < self._ways[left][position]:
                    break
                index -= self._ways[left][position]
            path.append(position)
            candidates = self._reach(position)
        return tuple(path)

    def rank(self, positions: Iterable[int]) -> int:
        """Index of a path given by level numbers."""
        rank, candidates = 0, self._first()
        for taken, position in enumerate(positions):
            rank += sum(self._ways[self.length - 1 - taken][p] for p in candidates if p < position)
            candidates = self._reach(position)
        return rank

    def _admits(self, positions: tuple[int, ...]) -> bool:
        steps = pairwise(positions)
        return positions[0] in self._first() and all(abs(p - q) <= self.step for p, q in steps)

    def value_at(self, index: int) -> tuple[object, ...]:
        return tuple([self.levels[p] for p in self.positions(index)])

    def index_of(self, value: object) -> int:
        items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        if len(items) == self.length and all(item in self.levels for item in items):
            positions = tuple([self.levels.index(item) for item in items])
            if self._admits(positions):
                return self.rank(positions)
        raise InvalidInputError(f"{value!r} is not a path of {self!r}.")

    def neighbours(self, index: int) -> list[int]:
        path = self.positions(index)
        moved = ((*path[:i], p, *path[i + 1 :]) for i in range(self.length) for p in range(len(self.levels)))
        return sorted({self.rank(m) for m in moved if m != path and self._admits(m)})

    def encode(self, index: int) -> list[float]:
        vector = [0.0] * self.width
        for i, position in enumerate(self.positions(index)):
            vector[i * len(self.levels) + position] = 1.0
        return vector

    def decode(self, vector: list[float]) -> int:
        n = len(self.levels)
        best = [vector[(self.length - 1) * n + p] for p in range(n)]
        choice: list[list[int]] = []
        for i in range(self.length - 2, -1, -1):
            follow = [max(self._reach(p), key=lambda q: (best[q], -q)) for p in range(n)]
            best = [vector[i * n + p] + best[follow[p]] for p in range(n)]
            choice.append(follow)
        path = [max(self._first(), key=lambda p: (best[p], -p))]
        for follow in reversed(choice):
            path.append(follow[path[-1]])
        return self.rank(path)

    def __repr__(self) -> str:
        start = f", start={self.start!r}" if self.start is not None else ""
        step = f", step={self.step}" if self.step != 1 else ""
        return f"walk({self.levels!r}, {self.length}{start}{step}{_suffix(self.name)})"


class Prefix(Open):
    """The first `length` of `items`; closes to a tuple. Decisions of the items beyond are inactive.

    Args:
        items: Values, open or closed.
        length: Number of items in [0, len(items)]: an integer, or a choice of integers.

    Raises:
        InvalidSpaceError: a length is negative or beyond the items, or is not an integer.
    """

    def __init__(self, items: Iterable[object], length: object) -> None:
        self.items = tuple(items)
        self.length = length
        for value in self.lengths:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= len(self.items):
                raise InvalidSpaceError(
                    f"The length of a prefix of {len(self.items)} items must be an integer in [0, {len(self.items)}], "
                    f"or a choice of such, got {value!r}."
                )

    @property
    def lengths(self) -> tuple[Any, ...]:
        """The possible lengths, in the order of the choice."""
        if isinstance(self.length, (OneOf, IntRange)):
            return tuple([self.length.value_at(i) for i in range(self.length.count)])
        return (self.length,)

    def __repr__(self) -> str:
        return f"Prefix({self.items!r}, length={self.length!r})"


def _suffix(name: str | None) -> str:
    return f", name={name!r}" if name is not None else ""


def one_of(*options: Any, name: str | None = None) -> Any:
    """Leave a field open between options.

    Args:
        *options: Any values, also blocks, tuples of blocks, or further choices.
        name: Name of the decision. The same name with the same options in one scope is the same decision.

    Returns:
        A choice that stands for one of the options (typed as any value, so that it fits any field).

    Raises:
        InvalidSpaceError: no options, or one of them twice.

    Example:
        >>> import nasturtium as nas
        >>> nas.one_of(3, 5, 7).count
        3
    """
    return OneOf(options, name)


def int_range(low: int, high: int, step: int = 1, *, name: str | None = None) -> Any:
    """Leave a field open between the integers `low`, `low + step`, … up to and including `high`.

    Raises:
        InvalidSpaceError: `low > high` or `step < 1`.
    """
    return IntRange(low, high, step, name)


def subset(options: Iterable[object], k: int, *, name: str | None = None) -> Any:
    """Leave a field open between the tuples of `k` different options, in the options' order.

    Raises:
        InvalidSpaceError: no options, one of them twice, or `k` outside [1, number of options].
    """
    return Subset(options, k, name)


def walk(levels: Iterable[object], length: int, *, start: object = None, step: int = 1, name: str | None = None) -> Any:
    """Leave a field open between paths of `length` levels whose consecutive positions differ by at most `step`.

    Args:
        levels: Plain values, in order.
        length: Levels on the path, at least 1.
        start: The first level, or None for any.
        step: Largest move between consecutive levels, in positions.
        name: Name of the decision.

    Raises:
        InvalidSpaceError: no levels, one of them twice, or `start` is not among them.

    Reference:
        Liu et al. (2019), "Auto-DeepLab", arXiv 1901.02985, section 3.2: 12 layers on four strides.
    """
    return Walk(levels, length, start, step, name)


def fresh_copy(value: Any) -> Any:
    """Clone an open value so that its decisions are new ones.

    Within the copy, what was one choice (or one block object) stays one. Values without choices are returned as they
    are. Named choices get the path of the copy as prefix of their name: apply field overrides before copying, so that
    the copied value is what stands in the block.
    """
    if not is_open(value):
        return value
    scope = CopyScope()
    return _Copier(scope).run(value)


class _Copier:
    def __init__(self, scope: CopyScope) -> None:
        self.scope = scope
        self.done: dict[int, object] = {}
        self.keep: list[object] = []
        self.scopes: dict[CopyScope, CopyScope] = {}

    def run(self, value: object) -> object:
        self.scope.value = copied = self.copy(value)
        for old, new in self.scopes.items():
            new.value = self.done.get(id(old.value))
        return copied

    def copy(self, value: object) -> object:
        if not is_open(value):
            return value
        found = self.done.get(id(value))
        if found is None:
            found = self._make(value)
            self.done[id(value)] = found
            self.keep.append(value)
        return found

    def _make(self, value: object) -> object:
        if isinstance(value, Block):
            return type(value)(**{name: self.copy(getattr(value, name)) for name in value._field_names})
        if isinstance(value, tuple):
            return tuple(map(self.copy, value))
        if isinstance(value, Prefix):
            return Prefix(map(self.copy, value.items), self.copy(value.length))
        choice = cast("Choice", value)
        new = object.__new__(type(choice))
        new.__dict__.update({k: v for k, v in choice.__dict__.items() if k != "_index"})
        if isinstance(choice, (OneOf, Subset)):
            new.options = tuple(map(self.copy, choice.options))  # type: ignore[attr-defined]
        new.origin = choice.origin or choice
        new.scope = self._scope(choice.scope)
        return new

    def _scope(self, old: CopyScope | None) -> CopyScope:
        if old is None:
            return self.scope
        if old not in self.scopes:
            self.scopes[old] = CopyScope()
        return self.scopes[old]
