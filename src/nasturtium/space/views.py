"""What an open block's `forward` sees: its fields, where reading an open one decides it.

A field that is a choice between blocks is not decided by reading it: what is read is a stand-in that lowers to all
branches when it is called, and is decided only when `forward` asks for more (its type, or a field of it).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Protocol, SupportsIndex

from nasturtium.space.block import Block, Open, is_open
from nasturtium.space.choice import Choice, IntRange, OneOf, Prefix, Subset, Walk

Mover = tuple[Subset, frozenset[int]]
"""A subset that decides which of several closed paths one shared path has, and its indices that give this one."""


class Place:
    """Where a field's value stands: its path in the closed architecture and in the supernet."""

    __slots__ = ("closed", "movers", "shared")

    def __init__(self, closed: str, shared: str, movers: tuple[Mover, ...] = ()) -> None:
        self.closed = closed
        self.shared = shared
        self.movers = movers

    def item(self, number: int) -> Place:
        """The place of an item."""
        return Place(f"{self.closed}.{number}", f"{self.shared}.{number}", self.movers)

    def chosen(self, subset: Subset, number: int, option: int) -> Place:
        """The place of an option of a subset that is the chosen one of a number."""
        indices = frozenset(i for i in range(subset.count) if subset.positions(i)[number] == option)
        return Place(f"{self.closed}.{number}", f"{self.shared}.{option}", (*self.movers, (subset, indices)))

    def option(self, index: int) -> Place:
        """The place of an option, which the closed path does not tell from the others."""
        return Place(self.closed, f"{self.shared}.{index}", self.movers)


class Reader(Protocol):
    """Who is asked when an open field is read."""

    def decide(self, choice: Choice) -> int:
        """Index of a choice in the present run."""
        ...

    def field(self, block: Block, name: str) -> Any:
        """Value of a block's field in the present run."""
        ...

    def place(self, value: object, place: Place) -> None:
        """Take note of where a child stands."""
        ...


class Branches(Block):
    """A choice between blocks, as `forward` sees it before it is decided."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("forward", "is_open") or name.startswith("_raw_"):
            return object.__getattribute__(self, name)
        choice, reader = object.__getattribute__(self, "_raw_choice"), object.__getattribute__(self, "_raw_reader")
        return getattr(resolve(choice.options[reader.decide(choice)], reader, None), name)


class View(Block):
    """Marks the classes of tracked open blocks."""


def is_branches(value: object) -> bool:
    """Whether a value is a choice all of whose options are blocks, or choices of blocks."""
    return isinstance(value, OneOf) and all(isinstance(o, Block) or is_branches(o) for o in value.options)


def branches(choice: OneOf, reader: Reader) -> Branches:
    """The stand-in of a choice between blocks."""
    made = object.__new__(Branches)
    object.__setattr__(made, "_raw_choice", choice)
    object.__setattr__(made, "_raw_reader", reader)
    return made


def view(block: Block, reader: Reader) -> Block:
    """An open block whose field reads go through a reader."""
    made = object.__new__(_view_class(type(block)))  # type: ignore[arg-type]
    object.__setattr__(made, "_raw_block", block)
    object.__setattr__(made, "_raw_reader", reader)
    return made


def raw(value: object) -> object:
    """The block or choice behind a view or stand-in; anything else is returned as it is."""
    kind = type(value)
    if kind is Branches:
        return object.__getattribute__(value, "_raw_choice")
    if issubclass(kind, Block) and kind.__dict__.get("_is_view", False):
        return object.__getattribute__(value, "_raw_block")
    return value


@cache
def _view_class(kind: type[Block]) -> type[Block]:
    def read(self: Block, name: str) -> Any:
        if name.startswith("_raw_"):
            return object.__getattribute__(self, name)
        block, reader = object.__getattribute__(self, "_raw_block"), object.__getattribute__(self, "_raw_reader")
        if name in block._field_names:
            return reader.field(block, name)
        if name == "__dict__":
            return {field: reader.field(block, field) for field in block._field_names}
        if name == "is_open":
            return block.is_open
        if name == "__class__":
            return kind
        return object.__getattribute__(self, name)

    name = f"{kind.__qualname__}.<view>"
    made = type(kind.__name__, (kind,), {"__module__": kind.__module__, "__qualname__": name, "_is_view": True})
    made.__getattribute__ = read  # type: ignore[method-assign, assignment]
    Block._known.pop(f"{kind.__module__}:{name}", None)  # a view is no block that is stored
    return made


class LazyTuple(tuple[Any, ...]):  # noqa: SLOT001 (holds its reader)
    """A tuple of open values, each decided when it is read."""

    _reader: Reader
    _places: tuple[Place | None, ...]

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        if isinstance(key, slice):
            return tuple([self[i] for i in range(*key.indices(len(self)))])
        position = range(len(self))[key]
        return resolve(tuple.__getitem__(self, position), self._reader, self._places[position])

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __reversed__(self) -> Iterator[Any]:
        return (self[i] for i in reversed(range(len(self))))

    def __contains__(self, value: object) -> bool:
        return value in tuple(iter(self))

    def __eq__(self, other: object) -> bool:
        return tuple(iter(self)) == other

    def __hash__(self) -> int:
        return hash(tuple(iter(self)))

    def __add__(self, other: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(iter(self)) + tuple(other)

    def __radd__(self, other: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(other) + tuple(iter(self))

    def __repr__(self) -> str:
        return repr(tuple(iter(self)))


def resolve(value: object, reader: Reader, place: Place | None) -> Any:
    """A field's value as `forward` sees it.

    Args:
        value: As the open block holds it.
        reader: Decides the choices.
        place: Where it stands, or None where the block is not the one whose `forward` runs.
    """
    if isinstance(value, Block):
        if place is not None:
            reader.place(value, place)
        return view(value, reader) if value.is_open else value
    if isinstance(value, tuple):
        places = [None if place is None else place.item(i) for i in range(len(value))]
        if any(isinstance(item, (Open, tuple)) and is_open(item) and not is_branches(item) for item in value):
            lazy = LazyTuple(value)
            lazy._reader, lazy._places = reader, tuple(places)
            return lazy
        return tuple([resolve(item, reader, p) for item, p in zip(value, places, strict=True)])
    if not isinstance(value, Open):
        return value
    if isinstance(value, OneOf):
        if is_branches(value):
            if place is not None:
                reader.place(value, place)
            return branches(value, reader)
        index = reader.decide(value)
        return resolve(value.options[index], reader, None if place is None else place.option(index))
    if isinstance(value, (IntRange, Walk)):
        return value.value_at(reader.decide(value))
    if isinstance(value, Subset):
        chosen = list(enumerate(value.positions(reader.decide(value))))
        held = place is not None and any(isinstance(option, (Block, Open, tuple)) for option in value.options)
        slots = [(p, place.chosen(value, i, p) if held and place else None) for i, p in chosen]
        return tuple([resolve(value.options[p], reader, slot) for p, slot in slots])
    if isinstance(value, Prefix):
        length = value.lengths[reader.decide(value.length) if isinstance(value.length, Choice) else 0]
        slots = [(i, None if place is None else place.item(i)) for i in range(length)]
        return tuple([resolve(value.items[i], reader, slot) for i, slot in slots])
    raise TypeError(f"An open value of unknown kind: {value!r}.")
