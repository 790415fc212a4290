"""The rewriting behind a relaxation: subsets become all of their items, and items can be nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

from nasturtium.errors import IncompatibleError
from nasturtium.space import Block, Choice
from nasturtium.space.block import is_open
from nasturtium.space.choice import CopyScope, OneOf, Prefix, Subset, Walk
from nasturtium.supernets.branch_blocks import Absent, Beside, Partial, Shortcut


class Rewriter:
    """Makes the relaxed block; one open object becomes one object.

    Args:
        edges: As of `relax`.
        parts: As of `relax`.
        beside: `shortcuts` of `relax`.

    Attributes:
        changed: Whether the relaxed block differs.
        choices: What each choice has become.
        groups: For each subset, and each of its items: the choice between its operations and that between it and none.
        shortcuts: The choices between a shortcut and none.
    """

    def __init__(self, edges: bool, parts: int, beside: bool) -> None:
        self.edges = edges
        self.parts = parts
        self.beside = beside
        self.shortcuts: list[Choice] = []
        self._inside = 0
        self.changed = False
        self.choices: dict[Choice, Choice] = {}
        self.groups: dict[Choice, tuple[Subset, list[tuple[Choice | None, Choice | None]]]] = {}
        self._with_none: set[Choice] = set()
        self._done: dict[int, object] = {}
        self._keep: list[object] = []
        self._scopes: dict[CopyScope, CopyScope] = {}

    def run(self, value: object) -> object:
        """The relaxed value."""
        self._mark(value, set())
        made = self.rewrite(value)
        for old, new in self._scopes.items():
            new.value = self._done.get(id(old.value), old.value)
        return made

    def _mark(self, value: object, seen: set[int]) -> None:
        """Note which choices get none: those that are the only operation of an item of a subset."""
        if not is_open(value) or id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Subset):
            for own in map(list, map(operation_choices, value.options)):
                self._with_none.update(own if len(own) == 1 else ())
        parts: tuple[object, ...] = value if isinstance(value, tuple) else ()
        if isinstance(value, Block):
            parts = value.values
        elif isinstance(value, Prefix):
            parts = (value.length, *value.items)
        elif isinstance(value, Choice):
            parts = value.choices
        for part in parts:
            self._mark(part, seen)

    def rewrite(self, value: object) -> object:
        """What stands for a value."""
        if not is_open(value):
            return value
        found = self._done.get(id(value))
        if found is None:
            found = self._done[id(value)] = self._make(value)
            self._keep.append(value)
        return found

    def _make(self, value: object) -> object:
        if isinstance(value, Block):
            return type(value)(**{name: self.rewrite(getattr(value, name)) for name in value._field_names})
        if isinstance(value, tuple):
            return tuple(map(self.rewrite, value))
        if isinstance(value, Prefix):
            return Prefix(map(self.rewrite, value.items), self.rewrite(value.length))
        if isinstance(value, Subset):
            return self._subset(value)
        if isinstance(value, OneOf):
            return self._one_of(value)
        if isinstance(value, Walk):
            raise IncompatibleError(f"{value!r} is a path, which no mixture of branches stands for.")
        assert isinstance(value, Choice)
        return self._remember(value, self._copy(value))

    def _copy(self, choice: Choice) -> Any:
        new = object.__new__(type(choice))
        new.__dict__.update({k: v for k, v in choice.__dict__.items() if k != "_index"})
        if choice.scope is not None:
            new.scope = self._scopes.setdefault(choice.scope, CopyScope())
        return new

    def _remember(self, old: Choice, new: Choice) -> Choice:
        self.choices[old] = new
        return new

    def _one_of(self, choice: OneOf) -> object:
        new = self._copy(choice)
        blocks = _between_blocks(choice)
        self._inside += blocks
        new.options = tuple(map(self.rewrite, choice.options))
        self._inside -= blocks
        if choice in self._with_none:
            new.options += (Absent(first_closed(choice.options[0])),)
            new.count = new.width = len(new.options)
        self._remember(choice, new)
        return self._wrapped(new) if blocks and not self._inside else new

    def _wrapped(self, operation: Any) -> object:
        """An operation on partial channels, with a shortcut beside it, or as it is."""
        if self.parts > 1:
            operation = Partial(operation, self.parts)
            self.changed = True
        if self.beside:
            like = first_closed(operation)
            self.shortcuts.append(OneOf((Shortcut(like), Absent(like))))
            operation = Beside(operation, self.shortcuts[-1])
            self.changed = True
        return operation

    def _subset(self, choice: Subset) -> object:
        wrong = [o for o in choice.options if not isinstance(o, Block) and not _between_blocks(o)]
        if wrong:
            raise IncompatibleError(
                f"A mixture needs blocks to add up, but a subset chooses among values such as {wrong[0]!r}: "
                "write it as a subset of blocks."
            )
        self.changed = True
        made: list[object] = []
        group: list[tuple[Choice | None, Choice | None]] = []
        for option in choice.options:
            own = list(operation_choices(option))
            operation = own[0] if len(own) == 1 else None
            item: Any = self.rewrite(option)
            if not own:
                item = self._wrapped(item)
            edge = None
            if operation is None or self.edges:
                edge = OneOf((item, Absent(first_closed(option))))
                item = edge
            made.append(item)
            group.append((None if operation is None else self.choices[operation], edge))
        self.groups[choice] = (choice, group)
        return tuple(made)


def _between_blocks(value: object) -> TypeGuard[OneOf]:
    return isinstance(value, OneOf) and all(isinstance(option, Block) for option in value.options)


def operation_choices(value: object) -> Iterator[OneOf]:
    """The choices between blocks that a value holds, those within other choices left out."""
    if isinstance(value, OneOf):
        if _between_blocks(value):
            yield value
    elif isinstance(value, Block):
        for field in value.values:
            yield from operation_choices(field)
    elif isinstance(value, tuple):
        for item in value:
            yield from operation_choices(item)


def first_closed(value: Any) -> Any:
    """A value with the first option of everything that it leaves open."""
    if not is_open(value):
        return value
    if isinstance(value, Block):
        return type(value)(**{name: first_closed(getattr(value, name)) for name in value._field_names})
    if isinstance(value, tuple):
        return tuple(map(first_closed, value))
    if isinstance(value, Prefix):
        return tuple(map(first_closed, value.items[: value.lengths[0]]))
    assert isinstance(value, Choice)
    return first_closed(value.value_at(0))
