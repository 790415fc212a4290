"""Which parts of a graph become modules of their own in readable code, and what each computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from nasturtium.errors import ExportError
from nasturtium.export.constructors import Constructor, Expression, written
from nasturtium.graph.graph import Graph


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a `forward`: a call of a child at `access`, or an operation."""

    access: str
    """Text of what is called, for example "self.layers[2]"; empty for an expression."""
    nodes: tuple[int, ...]
    """One node, or all nodes of a child."""
    reads: tuple[int, ...]
    writes: tuple[int, ...]


class Parts:
    """The tree of names of a graph, and how its parts are written.

    A part is a module with a `forward` where all its operations run one after the other, and every call of it (tied
    weights) is alike. Any other part only holds its children, and its parent calls them.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        roots = {o.node for i, o in enumerate(graph.outputs) if o.node not in graph.training_only}
        self.outputs = roots
        needed = graph.ancestors(roots)
        self.nodes = [i for i in range(len(graph.inputs), len(graph.nodes)) if i in needed]
        self.texts = {i: written(graph.nodes[i].operation, *graph.input_shapes(graph.nodes[i])) for i in self.nodes}
        self.names = self._names()
        self.readers: dict[int, list[int]] = {}
        for i in self.nodes:
            for read in graph.nodes[i].inputs:
                self.readers.setdefault(read, []).append(i)
        self.occurrences: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
        self._collect(tuple(self.nodes), 0)

    def _names(self) -> dict[int, tuple[str, ...]]:
        """Path of each node; what has no weights and differs from its namesake gets another name."""
        taken: dict[str, object] = {}
        names: dict[int, tuple[str, ...]] = {}
        for i in self.nodes:
            path = self.graph.nodes[i].path
            while taken.setdefault(path, self.graph.nodes[i].operation) != self.graph.nodes[i].operation:
                path += "_"
            names[i] = tuple(path.split("."))
        leaves = set(names.values())
        for name in leaves:
            for depth in range(1, len(name)):
                if name[:depth] in leaves:
                    raise ExportError(
                        f"{'.'.join(name[:depth])!r} names an operation and a part of the network at once: give the "
                        "operation another name in the block's `forward`."
                    )
        return names

    def groups(self, nodes: tuple[int, ...], depth: int) -> Iterator[tuple[int, ...]]:
        """Runs of nodes that one child at `depth` owns; a name that comes again begins a new call."""
        run: list[int] = []
        for i in nodes:
            name = self.names[i]
            alone = len(name) == depth + 1
            again = any(self.names[j] == name for j in run)
            if run and (alone or self.names[run[0]][: depth + 1] != name[: depth + 1] or again):
                yield tuple(run)
                run = []
            run.append(i)
            if alone:
                yield tuple(run)
                run = []
        if run:
            yield tuple(run)

    def _collect(self, nodes: tuple[int, ...], depth: int) -> None:
        for group in self.groups(nodes, depth):
            name = self.names[group[0]]
            if len(name) > depth + 1:
                self.occurrences.setdefault(name[: depth + 1], []).append(group)
                self._collect(group, depth + 1)

    def reads(self, nodes: tuple[int, ...]) -> tuple[int, ...]:
        """Values from outside, in the order of their first use."""
        inside = set(nodes)
        return tuple(dict.fromkeys(r for i in nodes for r in self.graph.nodes[i].inputs if r not in inside))

    def writes(self, nodes: tuple[int, ...]) -> tuple[int, ...]:
        """Values that are used outside."""
        inside = set(nodes)
        return tuple(
            i for i in nodes if i in self.outputs or any(reader not in inside for reader in self.readers.get(i, ()))
        )

    def _signature(self, nodes: tuple[int, ...]) -> object:
        place = {i: ("node", k) for k, i in enumerate(nodes)}
        place |= {i: ("read", k) for k, i in enumerate(self.reads(nodes))}
        lines = tuple(
            (self.names[i], self.graph.nodes[i].operation, tuple(place[r] for r in self.graph.nodes[i].inputs))
            for i in nodes
        )
        return lines, tuple(place[i] for i in self.writes(nodes))

    @cached_property
    def alike(self) -> frozenset[tuple[str, ...]]:
        """Parts whose every call is alike."""
        return frozenset(
            path for path, calls in self.occurrences.items() if len({self._signature(c) for c in calls}) == 1
        )

    @cached_property
    def numbered(self) -> frozenset[tuple[str, ...]]:
        """Parts whose children are all numbers."""
        children: dict[tuple[str, ...], set[str]] = {}
        for name in self.names.values():
            for depth in range(1, len(name)):
                children.setdefault(name[:depth], set()).add(name[depth])
        return frozenset(path for path, names in children.items() if all(n.isdecimal() for n in names))

    @cached_property
    def sequential(self) -> frozenset[tuple[str, ...]]:
        """Numbered parts whose children run as one chain, in order."""
        found: set[tuple[str, ...]] = set()
        for path in sorted(self.numbered & self.alike, key=len, reverse=True):  # children first
            if self._is_chain(path, found):
                found.add(path)
        return frozenset(found)

    def _is_chain(self, path: tuple[str, ...], chains: set[tuple[str, ...]]) -> bool:
        nodes = self.occurrences[path][0]
        groups = list(self.groups(nodes, len(path)))
        numbers = [int(self.names[g[0]][len(path)]) for g in groups]
        if numbers != sorted(set(numbers)) or len(self.reads(nodes)) != 1 or len(self.writes(nodes)) != 1:
            return False
        value = self.reads(nodes)[0]
        for group in groups:
            name = self.names[group[0]]
            leaf = len(name) == len(path) + 1
            if leaf and not self._plain_layer(group[0]):
                return False
            child = name[: len(path) + 1]
            if not leaf and (child not in self.alike or (child in self.numbered and child not in chains)):
                return False
            if self.reads(group) != (value,) or len(self.writes(group)) != 1:
                return False
            value = self.writes(group)[0]
        return value == self.writes(nodes)[0]

    def _plain_layer(self, node: int) -> bool:
        text = self.texts[node]
        return isinstance(text, Constructor) and text.padded is None

    def is_module(self, path: tuple[str, ...]) -> bool:
        """Whether the part has a `forward` of its own."""
        return path in self.alike and (path not in self.numbered or path in self.sequential)

    def children(self, path: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
        """Nodes of each child that holds layers or is called, by name, in order of their first run."""
        inside = [i for i in self.nodes if self.names[i][: len(path)] == path]
        if path in self.alike and path:
            inside = list(self.occurrences[path][0])
        found: dict[str, list[int]] = {}
        for i in inside:
            name = self.names[i]
            if len(name) == len(path) + 1 and isinstance(self.texts[i], Expression):
                continue
            found.setdefault(name[len(path)], []).append(i)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def flow(self, path: tuple[str, ...], nodes: tuple[int, ...], access: str = "self") -> Iterator[Step]:
        """What a part computes, line by line, with the children of parts that only hold children called here."""
        for group in self.groups(nodes, len(path)):
            name = self.names[group[0]]
            child = name[: len(path) + 1]
            step = access + self._access(path, child[-1])
            leaf = len(name) == len(child)
            if leaf and isinstance(self.texts[group[0]], Expression):
                yield Step("", group, self.graph.nodes[group[0]].inputs, group)
            elif leaf or self.is_module(child):
                reads = self.graph.nodes[group[0]].inputs if leaf else self.reads(group)
                yield Step(step, group, reads, group if leaf else self.writes(group))
            else:
                yield from self.flow(child, group, step)

    def _access(self, path: tuple[str, ...], name: str) -> str:
        if path in self.numbered and not self.is_module(path):
            return f"[{name}]"
        if path and not self.is_module(path):
            return f'["{name}"]'
        return f".{name}"
