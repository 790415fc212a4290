"""Closing: from decisions to the closed block. Equal decisions below one open object give one closed object."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from operator import itemgetter
from typing import Any

from nasturtium.errors import InvalidArchitectureError, NasturtiumError
from nasturtium.space.block import Block, is_open
from nasturtium.space.choice import Choice, Prefix, Subset
from nasturtium.space.structure import Indices, Node, Structure

CACHE_LIMIT = 1 << 16
"""Closed objects remembered for one open object; beyond, they are forgotten and made anew."""


class Closer:
    """Closes the nodes of one structure, and remembers."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self._below: dict[int, frozenset[int]] = {}
        self._makers: dict[int, Callable[[Indices], Any]] = {}
        for node in reversed(structure.nodes):
            self._makers[node.id] = self._maker(node)

    def close(self, indices: Indices) -> Any:
        """The closed value of the whole structure."""
        root = self.structure.root
        return self._makers[root.id](indices)

    def _decisions(self, node: Node) -> frozenset[int]:
        found = self._below.get(node.id)
        if found is None:
            own = {node.decision} - {-1}
            found = self._below[node.id] = frozenset(own.union(*map(self._decisions, node.children)))
        return found

    def _maker(self, node: Node) -> Callable[[Indices], Any]:
        source = node.source
        if isinstance(source, Choice) and not node.children:
            return self._leaf(source, node.decision)
        build = self._builder(node)
        if node is self.structure.root:
            return build
        if isinstance(source, Choice) and not isinstance(source, Subset):
            return build
        return _remember(build, _key(sorted(self._decisions(node))))

    def _leaf(self, choice: Choice, position: int) -> Callable[[Indices], Any]:
        values: dict[int, object] = {}

        def value(indices: Indices) -> object:
            index = indices[position]
            if index not in values:
                values[index] = choice.value_at(index)
            return values[index]

        return value

    def _builder(self, node: Node) -> Callable[[Indices], Any]:
        source, makers, position, active = node.source, self._makers, node.decision, node.active
        if isinstance(source, Block):
            return self._block(source, node)
        if isinstance(source, tuple):
            children = iter(node.children)
            slots = [(None, next(children).id) if is_open(item) else (item, None) for item in source]
            return lambda indices: tuple([item if i is None else makers[i](indices) for item, i in slots])
        if isinstance(source, Prefix):
            return self._prefix(source, node)
        if isinstance(source, Subset):

            def some(indices: Indices) -> object:
                index = indices[position]
                children = iter(active(index))  # type: ignore[misc]
                chosen = source.value_at(index)
                return tuple([makers[next(children).id](indices) if is_open(v) else v for v in chosen])

            return some

        def one(indices: Indices) -> object:
            index = indices[position]
            for child in active(index):  # type: ignore[misc]
                return makers[child.id](indices)
            return source.value_at(index)  # type: ignore[attr-defined]

        return one

    def _prefix(self, source: Prefix, node: Node) -> Callable[[Indices], Any]:
        makers, lengths, position = self._makers, source.lengths, node.decision
        children = iter(node.children)
        items = source.items[: max(lengths)]
        slots = [(None, next(children).id) if is_open(item) else (item, None) for item in items]

        def first(indices: Indices) -> object:
            length = lengths[indices[position]] if position >= 0 else lengths[0]
            return tuple([item if i is None else makers[i](indices) for item, i in slots[:length]])

        return first

    def _block(self, source: Block, node: Node) -> Callable[[Indices], Any]:
        makers, cls, names = self._makers, type(source), source._field_names
        values = list(source.values)
        children = iter(node.children)
        slots = [(i, next(children).id) for i, value in enumerate(values) if is_open(value)]
        parameters = list(signature(cls).parameters.values())
        by_name = [p.name for p in parameters] != list(names) or any(
            p.kind is not p.POSITIONAL_OR_KEYWORD for p in parameters
        )

        def block(indices: Indices) -> Block:
            closed = values.copy()
            for i, child in slots:
                closed[i] = makers[child](indices)
            try:
                return cls(**dict(zip(names, closed, strict=True))) if by_name else cls(*closed)
            except NasturtiumError:
                raise
            except (TypeError, ValueError) as error:
                given = ", ".join(f"{names[i]}={closed[i]!r}" for i, _ in slots)
                raise InvalidArchitectureError(f"{cls.__name__} refuses {given}: {error}.") from error

        return block


def _key(positions: list[int]) -> Callable[[Indices], Any]:
    if not positions:
        return lambda _: None
    if positions == list(range(positions[0], positions[-1] + 1)):
        low, high = positions[0], positions[-1] + 1
        return itemgetter(low) if high == low + 1 else itemgetter(slice(low, high))
    return itemgetter(*positions)


def _remember(build: Callable[[Indices], Any], key: Callable[[Indices], Any]) -> Callable[[Indices], Any]:
    cache: dict[Any, Any] = {}

    def close(indices: Indices) -> Any:
        k = key(indices)
        found = cache.get(k)
        if found is None:
            if len(cache) >= CACHE_LIMIT:
                cache.clear()
            found = cache[k] = build(indices)
        return found

    return close
