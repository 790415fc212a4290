"""What an open block states, and when: every operation with the condition on decisions at which `trace` has it.

A lowering runs each `forward` under constraints that hold what this block depends on, not where it is called. What is
stated is the meeting of both: a run's constraint, where a run that calls it is stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nasturtium.errors import TraceError
from nasturtium.graph.operations import TrainingOnly
from nasturtium.space.diagram import Diagram, Diagrams

if TYPE_CHECKING:
    from nasturtium.space.open_graph import Form, OpenNode


class Ran(NamedTuple):
    """One run of one `forward`."""

    constraint: Diagram
    stated: tuple[tuple[OpenNode, Form], ...]
    """Its own operations."""
    called: tuple[list[Ran], ...]
    """The runs of the blocks that it calls, one list a call."""
    error: TraceError | None = None
    """Why it fails."""


class Record(NamedTuple):
    """How an open block was lowered."""

    diagrams: Diagrams
    outermost: list[Ran]


class Statement(NamedTuple):
    """An operation, and how often `trace` states it."""

    node: OpenNode
    form: Form
    times: Diagram
    """Function from decisions to a number: 0 where it is not stated; above 1 where a block is called again."""


def statements(record: Record, fixed: Mapping[int, int] | None = None) -> tuple[Statement, ...]:
    """Every operation of every architecture, in an order of execution of the open graph.

    An operation that several runs state in one form stands once for each.

    Args:
        record: Of the lowering.
        fixed: Index of decisions, by position, that are decided already; only their architectures are meant.

    Raises:
        TraceError: some of these architectures cannot be traced; the message is that of one of them.
    """
    diagrams = record.diagrams
    never = diagrams.leaf(0)
    start = diagrams.leaf(1)
    for position, index in sorted((fixed or {}).items()):
        start = diagrams.where(diagrams.equals(diagrams.selector(position), index), start, never)
    times: dict[int, Diagram] = {id(record.outermost): start}
    found: list[Statement] = []
    for ran in _callers_first(record.outermost):
        calls = times.get(id(ran), never)
        for run in ran:
            here = diagrams.where(run.constraint, calls, never)
            if here is never:
                continue
            if run.error is not None:
                raise run.error
            found.extend([Statement(node, form, here) for node, form in run.stated])
            for called in run.called:
                before = times.get(id(called), never)
                times[id(called)] = here if before is never else diagrams.combine(_sum, before, here)
    return tuple(sorted(found, key=lambda statement: statement.node.number))


def costed(record: Record, stated: Sequence[Statement], outputs: Sequence[Diagram]) -> list[Statement]:
    """What counts in the costs: without what serves training-only outputs alone, as in `Graph.costed`.

    Args:
        record: Of the lowering.
        stated: Of `statements`.
        outputs: The graph's outputs: functions from decisions to node numbers.
    """
    roots = {s.node.number for s in stated if s.node.kind is TrainingOnly}
    if not roots:
        return list(stated)
    return _Serving(record.diagrams, stated, outputs).costed(roots)


class _Serving:
    """Which operations serve what, and when."""

    def __init__(self, diagrams: Diagrams, stated: Sequence[Statement], outputs: Sequence[Diagram]) -> None:
        self.diagrams = diagrams
        self.outputs = outputs
        self.stated = stated
        self.nodes: dict[int, OpenNode] = {}
        self.where: dict[int, Diagram] = {}
        """When each node is stated."""
        self.readers: dict[int, list[tuple[int, Diagram]]] = {}
        """Nodes that read a node, and when."""
        for node, _, times in stated:
            self.nodes[node.number] = node
            there = diagrams.combine(bool, times)
            self.where[node.number] = self._either(self.where.get(node.number, diagrams.false), there)
        for number, node in self.nodes.items():
            for value in node.inputs:
                for read in value.leaves():
                    if isinstance(read, int):
                        when = diagrams.both(self.where[number], diagrams.equals(value, read))
                        self.readers.setdefault(read, []).append((number, when))

    def costed(self, roots: set[int]) -> list[Statement]:
        """See the function of this name."""
        serving: dict[int, Diagram] = {}
        counted: dict[int, Diagram] = {}
        false = self.diagrams.false
        for number in sorted(self.nodes, reverse=True):
            output = self.diagrams.both(self.where[number], self._is_output(number))
            training = number in roots
            serving[number] = self._reaching(number, serving, output if training else false)
            others = self.diagrams.where(serving[number], false, self.where[number])
            if serving[number] is not false:
                others = self._either(others, false if training else output)
                others = self._reaching(number, counted, others)
            counted[number] = others
        never = self.diagrams.leaf(0)
        kept = [
            Statement(node, form, self.diagrams.where(counted[node.number], times, never))
            for node, form, times in self.stated
        ]
        return [statement for statement in kept if statement.times is not never]

    def _is_output(self, number: int) -> Diagram:
        found = self.diagrams.false
        for value in self.outputs:
            found = self._either(found, self.diagrams.equals(value, number))
        return found

    def _reaching(self, number: int, of: Mapping[int, Diagram], start: Diagram) -> Diagram:
        """When a node, or one that reads it, is of a kind."""
        for reader, when in self.readers.get(number, ()):
            start = self._either(start, self.diagrams.both(of[reader], when))
            if start is self.where[number]:
                break
        return start

    def _either(self, a: Diagram, b: Diagram) -> Diagram:
        return self.diagrams.where(a, self.diagrams.true, b)


def _sum(a: int, b: int) -> int:
    return a + b


def _callers_first(outermost: list[Ran]) -> list[list[Ran]]:
    """Every list of runs, each after all those that call it."""
    order: list[list[Ran]] = []
    seen: set[int] = set()
    stack: list[tuple[list[Ran], bool]] = [(outermost, False)]
    while stack:
        ran, ready = stack.pop()
        if ready:
            order.append(ran)
        elif id(ran) not in seen:
            seen.add(id(ran))
            stack.append((ran, True))
            stack.extend([(called, False) for run in ran for called in run.called if id(called) not in seen])
    return order[::-1]
