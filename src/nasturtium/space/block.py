"""Blocks: frozen descriptions of a piece of network, whose fields may be left open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, fields
from functools import wraps
from inspect import get_annotations
from typing import Any, ClassVar, dataclass_transform

from nasturtium.errors import InvalidSpaceError, TraceError
from nasturtium.graph.tensor import tensors

_RESERVED = frozenset({"child_paths", "foreign_modules", "forward", "is_open", "values"})
"""Names that a field must not take."""

_PLAIN = frozenset({int, float, str, bool, type(None)})


class Open:
    """Base of whatever leaves a field open: the choices, and a prefix of open length."""

    __slots__ = ()


@dataclass_transform(frozen_default=True)
class Block:
    """A piece of network as a value. Subclass it, state the fields, write `forward` on symbolic tensors.

    A subclass is a frozen dataclass without a decorator. Lists given for a field become tuples; a block given twice
    is copied, so that each place has weights of its own (call one field twice to tie weights).
    A block is pure: its graph depends only on its fields, its inputs' shapes and the context
    (`x.context.classes`, …). Two blocks are equal when their type and fields are.

    Example:
        >>> import nasturtium as nas
        >>> class Twice(nas.Block):
        ...     width: int
        ...     def forward(self, x):
        ...         x = nas.ops.conv(x, self.width, name="first")
        ...         return nas.ops.conv(x, self.width, name="second")
        >>> nas.trace(Twice(8), (3, 4, 4)).params
        792
    """

    width_fields: ClassVar[tuple[str, ...]] = ("width", "mid", "features")
    """Fields that hold widths, for `nas.design.scale`: a number of channels, a float that multiplies widths, or a tuple
    of such. Names that the block lacks do not matter."""
    depth_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that hold stages, for `nas.design.scale`: a stage's blocks as a tuple, a number of blocks or a tuple of
    such, or a float that multiplies it."""
    _field_names: ClassVar[tuple[str, ...]] = ()
    _known: ClassVar[dict[str, type[Block]]] = {}
    """Every subclass by "module:name", for reading stored blocks."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        hidden = sorted(_RESERVED.intersection(get_annotations(cls)))
        if hidden:
            raise InvalidSpaceError(
                f"{cls.__name__} has the field{'s' if len(hidden) > 1 else ''} {', '.join(hidden)}, which every block "
                "has in another meaning: choose another name."
            )
        dataclass(frozen=True, eq=False)(cls)
        cls.__init__ = _finishing(cls.__init__, cls)  # type: ignore[method-assign]
        cls._field_names = tuple(f.name for f in fields(cls))  # type: ignore[arg-type]
        Block._known[f"{cls.__module__}:{cls.__qualname__}"] = cls

    def __post_init__(self) -> None:
        """Check the fields; a subclass that has its own calls this one first."""

    def forward(self, *xs: Any) -> Any:
        """Compute on symbolic tensors; returns tensors or nested tuples and dicts of them."""
        raise NotImplementedError(f"{type(self).__name__} has no `forward`.")

    def __call__(self, *xs: Any) -> Any:
        """Use this block inside another block's `forward`."""
        for x in tensors(xs):
            return x.tracer.call(self, xs)
        raise TraceError(
            f"{type(self).__name__} was called on {xs!r}, but a block is a description: inside `forward` call it on "
            "symbolic tensors; to run it on data, use `nas.build(nas.trace(block, input_shape))`."
        )

    @property
    def values(self) -> tuple[object, ...]:
        """Field values in order."""
        return tuple([self.__dict__[name] for name in self._field_names])

    @property
    def is_open(self) -> bool:
        """Whether any field, however deep, holds a choice."""
        cached = self.__dict__.get("_is_open")
        if cached is None:
            cached = any(type(value) not in _PLAIN and is_open(value) for value in self.values)
            self.__dict__["_is_open"] = cached
        return bool(cached)

    @property
    def foreign_modules(self) -> tuple[str, ...]:
        """Python modules that `forward` imports because a field names them; from a file, they must be trusted."""
        return ()

    def child_paths(self) -> dict[int, tuple[str, ...]]:
        """Places of the direct child blocks in the fields, by `id`: {id(child): ("layers.0", …)}."""
        cached = self.__dict__.get("_child_paths")
        if cached is None:
            found: dict[int, list[str]] = {}
            for name in self._field_names:
                for path, child in _children(name, self.__dict__[name]):
                    found.setdefault(id(child), []).append(path)
            cached = {key: tuple(paths) for key, paths in found.items()}
            self.__dict__["_child_paths"] = cached
        return cached

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return type(self) is type(other) and hash(self) == hash(other) and self.values == other.values

    def __hash__(self) -> int:
        cached = self.__dict__.get("_hash")
        if cached is None:
            cached = hash((type(self), self.values))
            self.__dict__["_hash"] = cached
        return int(cached)

    def __getstate__(self) -> dict[str, object]:
        return {name: self.__dict__[name] for name in self._field_names}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)


def is_open(value: object) -> bool:
    """Whether a field value is, or holds, a choice."""
    if isinstance(value, Open):
        return True
    if isinstance(value, Block):
        return value.is_open
    return isinstance(value, tuple) and any(map(is_open, value))


def _finishing(initialize: Callable[..., None], cls: type[Block]) -> Callable[..., None]:
    """The class's own `__init__`, after which lists become tuples and every place holds a block of its own."""

    @wraps(initialize)
    def finished(self: Block, *args: Any, **kwargs: Any) -> None:
        initialize(self, *args, **kwargs)
        if type(self) is cls:
            seen: set[int] = set()
            values = self.__dict__
            for name in cls._field_names:
                value = values[name]
                if isinstance(value, (list, tuple, Block)):
                    values[name] = _own(value, seen)

    return finished


def _own(value: Any, seen: set[int]) -> Any:
    """Tuples for lists, and a copy of each block that stood before: its place tells it from its equals."""
    if isinstance(value, (list, tuple)):
        items = [_own(item, seen) for item in value]
        same = isinstance(value, tuple) and all(a is b for a, b in zip(items, value, strict=True))
        return value if same else tuple(items)
    if isinstance(value, Block):
        if id(value) in seen:
            value = copy(value)
        seen.add(id(value))
    return value


def _children(path: str, value: object) -> Iterator[tuple[str, Block]]:
    if isinstance(value, Block):
        yield path, value
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _children(f"{path}.{i}", item)
