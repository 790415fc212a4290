"""Branching: a space in which blocks of different numbers are branches with weights of their own, and the way back.

Where a block leaves numbers open (`MBConv(24, kernel=one_of(3, 5, 7), expand=one_of(3, 6))`), a supernet shares one
weight among all values, which no gate can mix. `branch` makes of it a choice between the closed blocks, as ProxylessNAS
has it: six candidates, or seven where the block may be left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, cast

from nasturtium.errors import IncompatibleError
from nasturtium.space import Architecture, Block, Choice, Space
from nasturtium.space.block import is_open
from nasturtium.space.choice import IntRange, OneOf, Prefix, Subset

LIMIT = 64
"""Most branches that one block's open numbers may become."""

Decided = Mapping[str, int]
"""Indices of decisions of the original space, by name."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Branching:
    """A space of branches, for another one; see `branch`."""

    original: Space
    space: Space
    """The one of branches; the original where nothing had to become a branch."""
    meaning: Mapping[str, tuple[Decided, ...]]
    """For each option of each decision of `space`, what it decides in the original."""

    def decode(self, architecture: Architecture) -> Architecture:
        """The architecture of the original space whose closed block is that of one of `space`.

        Raises:
            InvalidArchitectureError: it is not of `space`.
        """
        own = self.space.adopt(architecture)
        if self.space is self.original:
            return own
        decided: dict[str, int] = {}
        for name, index in own.decisions.items():
            decided |= self.meaning[name][index]
        found = self.original.settle(decided)
        assert found is not None, "a space with conditions was branched"
        return found


def branch(space: Space) -> Branching:
    """The space in which every block that leaves numbers open is a choice between closed blocks.

    A block whose open fields hold numbers (or other plain values, also in tuples) becomes a choice between its closed
    forms, in the order of definition, the last field fastest. Where it is an option of a choice itself, its forms
    become options of that choice, in its place. Numbers of a block that holds further open blocks, such as the length
    of a stage, stay as they are. Paths of blocks stay too, and so does what each network computes.

    Args:
        space: Any without conditions.

    Raises:
        IncompatibleError: the space has conditions or is a table; one number is decided at several blocks at once; or
            a block has over `LIMIT` forms.

    Example:
        >>> import nasturtium as nas
        >>> from nasturtium.supernets.branching import branch
        >>> block = nas.MBConv(24, kernel=nas.one_of(3, 5, 7), expand=nas.one_of(3, 6))
        >>> branched = branch(nas.Space(nas.Sequential(block, nas.Classifier())))
        >>> [decision.count for decision in branched.space.decisions]
        [6]
    """
    if space.conditions or space.is_table:
        raise IncompatibleError(
            "Branches cannot keep to conditions (`where`) or to the rows of a table: search the space without them, "
            "with a penalty on the expected cost."
        )
    brancher = _Brancher(space)
    block = brancher.rewrite(space.block)
    if not brancher.changed or not isinstance(block, (Block, Choice)):
        return Branching(original=space, space=space, meaning={})
    branched = Space(block)
    meaning = {branched.decision(choice).name: means for choice, means in brancher.meaning.items()}
    return Branching(original=space, space=branched, meaning=meaning)


class _Brancher:
    """Rewrites an open value; one open object becomes one object."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.changed = False
        self.meaning: dict[Choice, tuple[Decided, ...]] = {}
        self._done: dict[int, object] = {}
        self._keep: list[object] = []
        self._taken: dict[str, Block] = {}

    def rewrite(self, value: object) -> object:
        """What stands for a value."""
        if not is_open(value):
            return value
        if id(value) not in self._done:
            self._done[id(value)] = self._make(value)
            self._keep.append(value)
        return self._done[id(value)]

    def _make(self, value: object) -> object:
        if isinstance(value, Block):
            forms = self._forms(value)
            if forms is not None:
                return self._choice(forms)
            return type(value)(**{name: self.rewrite(getattr(value, name)) for name in value._field_names})
        if isinstance(value, tuple):
            return tuple(map(self.rewrite, value))
        if isinstance(value, Prefix):
            return Prefix(map(self.rewrite, value.items), self.rewrite(value.length))
        if isinstance(value, OneOf):
            return self._one_of(value)
        assert isinstance(value, Choice)
        return self._copy(value)

    def _one_of(self, choice: OneOf) -> Choice:
        name = self._name(choice)
        options: list[tuple[object, Decided]] = []
        for index, option in enumerate(choice.options):
            forms = self._forms(option) if isinstance(option, Block) else None
            if forms is None:
                options.append((self.rewrite(option), {name: index}))
            else:
                options += [(block, {name: index, **decided}) for block, decided in forms]
        return self._choice(options)

    def _choice(self, options: list[tuple[object, Decided]]) -> Choice:
        """A choice between different options; of equal ones the first counts."""
        different: dict[tuple[type, object], Decided] = {}
        for option, decided in options:
            different.setdefault((type(option), option), decided)
        new = OneOf([key[1] for key in different])
        self.meaning[new] = tuple(different.values())
        return new

    def _copy(self, choice: Choice) -> Choice:
        new: Any = object.__new__(type(choice))
        new.__dict__.update({k: v for k, v in choice.__dict__.items() if k != "_index"})
        new.name, new.scope = None, None  # its path names it, as every decision here
        if isinstance(choice, Subset):
            new.options = tuple(map(self.rewrite, choice.options))
        name = self._name(choice)
        self.meaning[new] = tuple([{name: index} for index in range(choice.count)])
        return cast("Choice", new)

    def _name(self, choice: Choice) -> str:
        return self.space.decision(choice).name

    def _forms(self, block: Block) -> list[tuple[object, Decided]] | None:
        """The closed forms of a block with what they decide; None where it is closed or holds other than numbers."""
        if not block.is_open:
            return None
        choices = list(_numbers(block.values))
        if None in choices:
            return None
        named = {self._name(choice): choice for choice in choices if choice is not None}
        for name in named:
            if self._taken.setdefault(name, block) is not block:
                raise IncompatibleError(
                    f"The decision {name!r} stands for several blocks at once, which cannot be branches that are "
                    "chosen one by one: give each block a choice of its own, or use a method that trains single paths."
                )
        if prod(choice.count for choice in named.values()) > LIMIT:
            raise IncompatibleError(
                f"{type(block).__name__} has {prod(c.count for c in named.values())} forms (of "
                f"{', '.join(named)}), each of which would be a branch with weights of its own; at most {LIMIT} are "
                "possible. Leave fewer numbers open, or use a method that trains single paths."
            )
        self.changed = True
        found: list[tuple[object, Decided]] = []
        for indices in product(*[range(choice.count) for choice in named.values()]):
            decided = dict(zip(named, indices, strict=True))
            fields = {name: self._closed(getattr(block, name), decided) for name in block._field_names}
            found.append((type(block)(**fields), decided))
        return found

    def _closed(self, value: object, decided: Decided) -> object:
        if isinstance(value, Choice):
            return value.value_at(decided[self._name(value)])
        if isinstance(value, tuple):
            return tuple([self._closed(item, decided) for item in value])
        return value


def _numbers(value: object) -> Iterator[Choice | None]:
    """The choices between plain values that a value holds; None for anything else that is open."""
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, IntRange) or (isinstance(value, OneOf) and not any(map(_holds_blocks, value.options))):
        yield value
    elif is_open(value):
        yield None


def _holds_blocks(value: object) -> bool:
    return isinstance(value, Block) or is_open(value) or (isinstance(value, tuple) and any(map(_holds_blocks, value)))
