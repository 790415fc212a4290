"""Functions of decisions as reduced decision diagrams: canonical, shared, small where a function is simple.

A diagram maps every assignment of the decisions to a value. It tests the decisions in definition order; a test whose
outcomes are all the same is left out, and equal diagrams are one object. So "does it depend on this decision", "are
the two equal" and "which values are possible where this holds" are cheap and exact.

Reference:
    Bryant (1986), "Graph-based algorithms for Boolean function manipulation", IEEE Trans. Computers C-35(8), with
    several outcomes a test and any values at the leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

LAST = 1 << 60
"""Stands for the variable of a leaf: after all others."""


class Undefined:
    """The value where a function says nothing."""

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED = Undefined()


class Diagram:
    """A function of decisions; made by `Diagrams` only, so equal functions are one object.

    Attributes:
        variable: Position of the decision tested, `LAST` for a leaf.
        children: The function for each outcome.
        value: The value, for a leaf.
        number: Unique among the diagrams of one `Diagrams`.
    """

    __slots__ = ("children", "number", "support", "value", "variable")

    def __init__(self, variable: int, children: tuple[Diagram, ...], value: object, number: int) -> None:
        self.variable = variable
        self.children = children
        self.value = value
        self.number = number
        self.support: frozenset[int] = frozenset()
        """Positions of the decisions that it depends on."""
        if children:
            self.support = frozenset({variable}).union(*[c.support for c in children])

    @property
    def is_leaf(self) -> bool:
        """Whether it is constant."""
        return not self.children

    def at(self, indices: Sequence[int]) -> object:
        """Value for an index of each decision."""
        diagram = self
        while diagram.children:
            diagram = diagram.children[indices[diagram.variable]]
        return diagram.value

    def leaves(self) -> list[object]:
        """The values that it takes, in the order of a walk through it."""
        found: dict[int, object] = {}
        seen: set[int] = set()
        stack = [self]
        while stack:
            diagram = stack.pop()
            if diagram.number in seen:
                continue
            seen.add(diagram.number)
            if diagram.children:
                stack.extend(reversed(diagram.children))
            else:
                found[diagram.number] = diagram.value
        return list(found.values())


class Diagrams:
    """Makes diagrams over decisions.

    Args:
        counts: Number of options of each decision, in definition order.
    """

    def __init__(self, counts: Iterable[int]) -> None:
        self.counts = tuple(counts)
        self._leaves: dict[tuple[type, Hashable], Diagram] = {}
        self._forks: dict[tuple[int, ...], Diagram] = {}
        self._made = 0
        self._both: dict[tuple[int, int], Diagram] = {}
        self._simple: dict[int, Diagram] = {}
        self.true = self.leaf(True)
        self.false = self.leaf(False)
        self.undefined = self.leaf(UNDEFINED)

    def leaf(self, value: Hashable) -> Diagram:
        """The constant function."""
        key = (type(value), value)
        found = self._leaves.get(key)
        if found is None:
            found = self._leaves[key] = Diagram(LAST, (), value, self._number())
        return found

    def fork(self, variable: int, children: Sequence[Diagram]) -> Diagram:
        """The function that takes the child of the decision's index; children test later decisions only."""
        first = children[0]
        if all(child is first for child in children):
            return first
        key = (variable, *[child.number for child in children])
        found = self._forks.get(key)
        if found is None:
            found = self._forks[key] = Diagram(variable, tuple(children), None, self._number())
        return found

    def _number(self) -> int:
        self._made += 1
        return self._made

    def selector(self, variable: int) -> Diagram:
        """The index of a decision, as a function."""
        return self.fork(variable, [self.leaf(i) for i in range(self.counts[variable])])

    def combine(self, function: Callable[..., Hashable], *diagrams: Diagram) -> Diagram:
        """The function whose values are `function` of the given ones' values."""
        memo: dict[tuple[int, ...], Diagram] = {}

        def run(items: tuple[Diagram, ...]) -> Diagram:
            variable = min([d.variable for d in items])
            if variable == LAST:
                return self.leaf(function(*[d.value for d in items]))
            key = tuple([d.number for d in items])
            found = memo.get(key)
            if found is None:
                children = [
                    run(tuple([d.children[i] if d.variable == variable else d for d in items]))
                    for i in range(self.counts[variable])
                ]
                found = memo[key] = self.fork(variable, children)
            return found

        return run(diagrams)

    def switch(self, variable: int, children: Sequence[Diagram]) -> Diagram:
        """The function that takes the child of the decision's index; children may test any decisions."""
        return self.combine(lambda index, *values: values[index], self.selector(variable), *children)

    def both(self, a: Diagram, b: Diagram) -> Diagram:
        """Conjunction of two conditions."""
        if a is b or b is self.true or a is self.false:
            return a
        if a is self.true or b is self.false:
            return b
        key = (a.number, b.number) if a.number < b.number else (b.number, a.number)
        found = self._both.get(key)
        if found is None:
            found = self._both[key] = self.combine(lambda x, y: x and y, a, b)
        return found

    def where(self, condition: Diagram, yes: Diagram, no: Diagram) -> Diagram:
        """`yes` where the condition holds, else `no`."""
        if condition is self.true or yes is no:
            return yes
        if condition is self.false:
            return no
        return self.combine(lambda c, x, y: x if c else y, condition, yes, no)

    def equals(self, diagram: Diagram, value: object) -> Diagram:
        """The condition that a function has a value."""
        kind = type(value)
        return self.combine(lambda x: type(x) is kind and x == value, diagram)

    def possible(self, diagram: Diagram, condition: Diagram) -> list[object]:
        """The values that a function takes where a condition holds, in a fixed order."""
        if diagram.is_leaf:
            return [diagram.value]
        return [v for v in self.where(condition, diagram, self.undefined).leaves() if v is not UNDEFINED]

    def simplify(self, diagram: Diagram) -> Diagram:
        """A simpler function that is equal where the given one is defined."""
        if not diagram.children:
            return diagram
        found = self._simple.get(diagram.number)
        if found is None:
            children = [self.simplify(child) for child in diagram.children]
            defined = [child for child in children if child is not self.undefined]
            if all(child is defined[0] for child in defined[1:]):
                found = defined[0] if defined else self.undefined
            else:
                found = self.fork(diagram.variable, children)
            self._simple[diagram.number] = found
        return found

    def project(self, condition: Diagram, keep: frozenset[int]) -> Diagram:
        """The condition on the kept decisions that some assignment of the others makes the given one hold."""
        memo: dict[int, Diagram] = {}

        def run(part: Diagram) -> Diagram:
            if part.support <= keep:
                return part
            found = memo.get(part.number)
            if found is None:
                children = [run(child) for child in part.children]
                if part.variable in keep:
                    found = self.fork(part.variable, children)
                else:
                    found = self.combine(lambda *xs: any(xs), *dict.fromkeys(children))
                memo[part.number] = found
            return found

        return run(condition)
