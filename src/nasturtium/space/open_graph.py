"""The graph of an open block: every architecture's graph in one, with what they share standing once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

from nasturtium.errors import InvalidArchitectureError, TraceError
from nasturtium.graph.operations import Operation, Shape
from nasturtium.graph.tensor import Context
from nasturtium.space.diagram import Diagram
from nasturtium.space.stated import Record, Statement, statements
from nasturtium.space.structure import Decision


class Decided(Protocol):
    """What closes an open graph: an `Architecture`, or whatever has its decisions."""

    @property
    def decisions(self) -> Mapping[str, int]:
        """Index of each active decision, by name."""
        ...


@dataclass(frozen=True)
class Failed(Operation):
    """Stands where the closed architecture cannot be traced; `message` says why."""

    message: str = ""
    error: type[TraceError] = TraceError


class Form(NamedTuple):
    """What an open node is in some architectures."""

    operation: Operation
    inputs: tuple[Shape, ...]
    shape: Shape
    path: str
    """Its path in the graph of the closed architecture."""


@dataclass(eq=False)
class OpenNode:
    """One operation with all its forms.

    Attributes:
        number: Its place in `OpenGraph.nodes`; inputs come before.
        path: Its path in the supernet: that of the closed architecture, with the option's number after each field
            that is a choice between blocks.
        kind: Type of its operation.
        inputs: What it reads: for each input a function from decisions to node numbers.
        forms: Function from decisions to its `Form`; of meaning only where the node is reached.
        shapes: The same for its output shape.
    """

    number: int
    path: str
    kind: type[Operation]
    inputs: tuple[Diagram, ...]
    forms: Diagram
    shapes: Diagram

    @property
    def variants(self) -> list[Form]:
        """All forms."""
        return [form for form in self.forms.leaves() if isinstance(form, Form)]


class Step(NamedTuple):
    """One operation of a resolved open graph."""

    node: OpenNode
    form: Form
    inputs: tuple[int, ...]
    """Numbers of the steps whose outputs it reads."""


@dataclass(frozen=True, eq=False)
class Resolved:
    """The graph of one architecture as a part of the open graph: the active path."""

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    """Numbers of the steps that are outputs, in the order of `OpenGraph.outputs`."""


@dataclass(frozen=True, eq=False)
class OpenGraph:
    """The graph of an open block; see `nasturtium.space.lowering.lower`."""

    nodes: tuple[OpenNode, ...]
    inputs: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    outputs: tuple[tuple[str, Diagram], ...]
    structure: object
    """Nesting of the outputs: an output's number, or a tuple or dict of such."""
    decisions: tuple[Decision, ...]
    context: Context
    record: Record = field(repr=False)
    """How it was lowered: which runs state which operations."""

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """Every operation of every architecture, with how often `trace` states it.

        Unlike `resolve`, dead branches too: what a `forward` computes and does not use.

        Raises:
            TraceError: some architectures cannot be traced.
        """
        return statements(self.record)

    def indices(self, decisions: Mapping[str, int]) -> list[int]:
        """Index of each decision in definition order; 0 for those that are not active (they have no effect).

        Raises:
            InvalidArchitectureError: an unknown decision, or an index out of range.
        """
        known = {d.name: d for d in self.decisions}
        for name, index in decisions.items():
            if name not in known or not 0 <= index < known[name].count:
                raise InvalidArchitectureError(
                    f"The supernet's decisions are {', '.join(known) or 'none'}, each with an index below its number "
                    f"of options; got {name!r} = {index!r}. Use an architecture of the supernet's own space."
                )
        return [decisions.get(d.name, 0) for d in self.decisions]

    def resolve(self, architecture: Decided | Mapping[str, int]) -> Resolved:
        """The operations that one architecture consists of, in an order of execution.

        Args:
            architecture: An architecture of the space, or the index of each active decision by name.

        Raises:
            InvalidArchitectureError: the decisions are not those of this graph.
            TraceError: this architecture cannot be traced.
        """
        decisions = architecture if isinstance(architecture, Mapping) else architecture.decisions
        indices = self.indices(decisions)
        places: dict[int, int] = {}
        steps: list[Step] = []
        roots = [self._node(value, indices) for _, value in self.outputs]
        stack = [(node, False) for node in reversed([*range(len(self.inputs)), *roots])]
        while stack:
            number, ready = stack.pop()
            if number in places:
                continue
            node = self.nodes[number]
            reads = [self._node(value, indices) for value in node.inputs]
            if not ready:
                stack.append((number, True))
                stack.extend([(read, False) for read in reversed(reads) if read not in places])
                continue
            form = node.forms.at(indices)
            assert isinstance(form, Form), f"node {node.path} was reached outside its forms"
            if isinstance(form.operation, Failed):
                raise form.operation.error(form.operation.message)
            places[number] = len(steps)
            steps.append(Step(node, form, tuple([places[read] for read in reads])))
        return Resolved(tuple(steps), tuple([places[root] for root in roots]))

    def _node(self, value: Diagram, indices: Sequence[int]) -> int:
        number = value.at(indices)
        assert isinstance(number, int), "a value was read where it is undefined"
        return number
