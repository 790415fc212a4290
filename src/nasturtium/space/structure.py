"""The structure of an open block: a directed graph of decisions, from which all else is computed.

A node activates some of its children. A node without a decision (a block, a tuple) activates all; the node of a
choice activates what the chosen value holds. Only open children are kept. One open object is one node, however often
it occurs; so a shared choice or block is a node with several parents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeGuard

from nasturtium.errors import InvalidSpaceError
from nasturtium.space.block import Block, Open, is_open
from nasturtium.space.choice import Choice, CopyScope, OneOf, Prefix, Subset

Indices = tuple[int, ...]
"""A value for each decision of a space, in definition order; -1 where inactive."""


class Decision:
    """One decision of a space.

    Attributes:
        name: Its name, unique in the space.
        choice: What may be chosen.
        position: Its number in definition order.
        labels: A short text for each value (for at most `LABELS` values; beyond, texts are made on request).
    """

    def __init__(self, name: str, choice: Choice, position: int) -> None:
        self.name = name
        self.choice = choice
        self.position = position
        self.count = choice.count
        self.nodes: list[Node] = []
        self.leaf = True

    @cached_property
    def _texts(self) -> tuple[str, ...] | None:
        if isinstance(self.choice, OneOf):
            return option_labels(self.choice.options)
        return None

    def label(self, index: int) -> str:
        """Text of a value."""
        return self._texts[index] if self._texts is not None else str(self.choice.value_at(index))

    @property
    def labels(self) -> tuple[str, ...]:
        """Texts of all values."""
        return tuple(map(self.label, range(self.count)))

    @property
    def options(self) -> tuple[object, ...]:
        """All values."""
        return tuple(map(self.choice.value_at, range(self.count)))

    def value(self, index: int) -> object:
        """A value that JSON can express: the value itself, or its label where it holds blocks."""
        value = self.choice.value_at(index)
        return value if _is_plain(value) else self.label(index)

    def __repr__(self) -> str:
        return f"Decision({self.name!r}, {self.choice!r})"


class Node:
    """A node of the structure.

    Attributes:
        decision: Position of its decision, or -1.
        children: Open children, in definition order.
        active: For a decision's index the children that it activates; None where there are no children.
        close: Makes the closed value from the index (or -1) and a function that closes a child object.
    """

    __slots__ = ("active", "cache", "children", "count", "decision", "everything", "groups", "id", "key", "source")

    def __init__(self, source: object, number: int) -> None:
        self.source = source
        self.id = number
        self.decision = -1
        self.count = 1
        self.children: tuple[Node, ...] = ()
        self.active: Callable[[int], tuple[Node, ...]] | None = None
        self.everything: tuple[Node, ...] = ()
        self.groups: tuple[tuple[tuple[Node, ...], tuple[int, ...] | None, int], ...] = ()
        self.key: Any = None
        self.cache: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"Node({self.id}, {type(self.source).__name__}, decision={self.decision})"


class Structure:
    """All nodes and decisions of an open value.

    Raises:
        InvalidSpaceError: two decisions would have one name, or one name stands for different options.
    """

    def __init__(self, value: object) -> None:
        self.value = value
        self.nodes: list[Node] = []
        self.decisions: list[Decision] = []
        self._by_object: dict[int, Node] = {}
        self._by_choice: dict[int, Decision] = {}
        self._named: dict[tuple[CopyScope | None, str], Choice] = {}
        self._paths: dict[int, str] = {}
        self.root = self._node(value, "")
        self.by_name = {d.name: d for d in self.decisions}
        self.by_choice: dict[Choice, Decision] = {}
        for decision in self.decisions:
            self.by_choice[decision.choice] = decision
        for choice, first in self._aliases:
            self.by_choice[choice] = self.by_choice[first]
        for node in self.nodes:
            if node.decision >= 0:
                decision = self.decisions[node.decision]
                decision.nodes.append(node)
                decision.leaf &= not node.children
        self.tree = self._is_tree()

    @cached_property
    def _aliases(self) -> list[tuple[Choice, Choice]]:
        return []

    def _is_tree(self) -> bool:
        """Whether every decision occurs at one place only."""
        parents = [0] * len(self.nodes)
        for node in self.nodes:
            for child in node.children:
                parents[child.id] += 1
        return all(n <= 1 for n in parents) and all(len(d.nodes) == 1 for d in self.decisions)

    def _node(self, value: object, path: str) -> Node:
        if isinstance(value, Choice):
            value = self._canonical(value)
        found = self._by_object.get(id(value))
        if found is not None:
            return found
        self._paths[id(value)] = path
        node = Node(value, len(self.nodes))
        self.nodes.append(node)
        self._by_object[id(value)] = node
        if isinstance(value, Block):
            node.children = self._children([(_join(path, n), getattr(value, n)) for n in value._field_names])
        elif isinstance(value, tuple):
            node.children = self._children(_named_items(path, value))
        elif isinstance(value, Prefix):
            self._prefix(node, value, path)
        elif isinstance(value, Choice):
            self._decide(node, value, path)
        if node.decision < 0:
            node.everything = node.children
            node.groups = ((node.children, None, 1),)
        return node

    def _children(self, items: Sequence[tuple[str, object]]) -> tuple[Node, ...]:
        return tuple([self._node(item, path) for path, item in items if is_open(item)])

    def _decide(self, node: Node, choice: Choice, path: str) -> None:
        decision = self._decision(choice, path)
        node.decision, node.count = decision.position, decision.count
        options = [(_join(path, str(i)), option) for i, option in enumerate(choice.choices)]
        slots = {i: self._node(option, p) for i, (p, option) in enumerate(options) if is_open(option)}
        node.children = tuple(slots.values())
        if isinstance(choice, Subset):
            _activate(node, lambda index: [slots[i] for i in choice.positions(index) if i in slots])
        else:
            _activate(node, lambda index: [slots[index]] if index in slots else [])

    def _prefix(self, node: Node, prefix: Prefix, path: str) -> None:
        lengths = prefix.lengths
        if isinstance(prefix.length, Choice):
            decision = self._decision(prefix.length, _join(path, "length"))
            node.decision, node.count = decision.position, decision.count
        items = [(_join(path, str(i)), item) for i, item in enumerate(prefix.items[: max(lengths)])]
        slots = [(i, self._node(item, p)) for i, (p, item) in enumerate(items) if is_open(item)]
        node.children = tuple([child for _, child in slots])
        if node.decision >= 0:
            _activate(node, lambda index: [child for i, child in slots if i < lengths[index]])

    def _canonical(self, choice: Choice) -> Choice:
        """The first choice of the same name in the same scope."""
        if choice.name is None:
            return choice
        first = self._named.setdefault((choice.scope, choice.name), choice)
        if first is choice:
            return choice
        if not same_options(first, choice):
            raise InvalidSpaceError(
                f"The name {choice.name!r} stands for {first!r} and for {choice!r}: "
                "the same name in one scope must have the same options."
            )
        self._aliases.append((choice, first))
        return first

    def _decision(self, choice: Choice, path: str) -> Decision:
        choice = self._canonical(choice)
        found = self._by_choice.get(id(choice))
        if found is not None:
            return found
        name = self._name(choice, path)
        for other in self.decisions:
            if other.name == name:
                raise InvalidSpaceError(f"Two different choices would be called {name!r}; give one another `name`.")
        found = self._by_choice[id(choice)] = Decision(name, choice, len(self.decisions))
        self.decisions.append(found)
        return found

    def _name(self, choice: Choice, path: str) -> str:
        if choice.name is None:
            return path or "choice"
        if choice.scope is None:
            return choice.name
        return _join(self._paths.get(id(choice.scope.value), path.rpartition(".")[0]), choice.name)


def _activate(node: Node, active: Callable[[int], list[Node]]) -> None:
    """Set which children each index activates, and group the indices that activate the same ones."""
    if not node.children:
        node.groups = (((), None, node.count),)
        return
    table = [tuple(active(index)) for index in range(node.count)]
    groups: dict[tuple[Node, ...], list[int]] = {}
    for index, children in enumerate(table):
        groups.setdefault(children, []).append(index)
    node.groups = tuple([(children, tuple(indices), len(indices)) for children, indices in groups.items()])
    node.active = table.__getitem__


def same_options(a: Choice, b: Choice) -> bool:
    """Whether two choices offer the same (open options: the very same objects)."""
    if type(a) is not type(b) or a.count != b.count:
        return False
    if a.choices or b.choices:
        pairs = zip(a.choices, b.choices, strict=True) if len(a.choices) == len(b.choices) else ()
        same = all(x is y or (type(x) is type(y) and x == y) for x, y in pairs)
        return len(a.choices) == len(b.choices) and same
    return repr(_unnamed(a)) == repr(_unnamed(b))


def _unnamed(choice: Choice) -> dict[str, object]:
    names = ("low", "high", "step", "levels", "length", "start")
    return {k: v for k, v in choice.__dict__.items() if k in names}


def option_labels(options: Sequence[object]) -> tuple[str, ...]:
    """Short texts for options; blocks by their type, with fields where types repeat."""
    types = [type(o) for o in options]
    return tuple([_label(o, types.count(type(o)) > 1) for o in options])


def _label(option: object, full: bool) -> str:
    if isinstance(option, Block):
        return repr(option) if full else type(option).__name__
    if isinstance(option, Open):
        return repr(option)
    if isinstance(option, tuple) and not _is_plain(option):
        return f"({', '.join(_label(item, full) for item in option)})"
    return str(option)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _named_items(path: str, items: tuple[object, ...]) -> list[tuple[str, object]]:
    """Items of a tuple by number; a pair such as `("channels", choice)` is named by its text."""
    if _is_pair(items):
        return [(path, item) for item in items]
    return [(_join(path, item[0] if _is_pair(item) else str(i)), item) for i, item in enumerate(items)]


def _is_pair(value: object) -> TypeGuard[tuple[str, object]]:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
