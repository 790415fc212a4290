"""Paths through an open graph as plans: flat lists of calls, made quickly and remembered.

What a node is under an assignment of the decisions depends on few of them. Each node remembers what it was for each
assignment of those, the prepared layer included; so a path that was never taken costs some look-ups a step, and one
that was taken a single one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from torch import Tensor

from nasturtium.model.elastic_channels import Channels, Columns
from nasturtium.model.quick import quick
from nasturtium.space.diagram import Diagram
from nasturtium.space.open_graph import Failed, Form, OpenGraph, OpenNode

Layer = Callable[..., Tensor]
PLANS = 4096
"""Plans remembered; beyond, they are forgotten and made anew."""


class Step(NamedTuple):
    """A call, which gives the value after those of the steps before."""

    call: Layer
    reads: tuple[int, ...]
    """Numbers of the values that it reads: the inputs first, then one for each step."""
    dead: tuple[int, ...]
    """Numbers of the values that nobody reads later."""


class Plan(NamedTuple):
    """One path."""

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Outputs, from inputs `(batch, *shape)`; a value is let go after its last use."""
        values: list[Any] = [*inputs]
        for call, reads, dead in self.steps:
            values.append(call(values[reads[0]]) if len(reads) == 1 else call(*[values[i] for i in reads]))
            for i in dead:
                values[i] = None
        return [values[i] for i in self.outputs]


class _Meaning:
    """What a node is under some assignments."""

    __slots__ = ("calls", "form", "reads")

    def __init__(self, form: Form, reads: tuple[int, ...]) -> None:
        self.form = form
        self.reads = reads
        self.calls: dict[Columns, Layer] = {}


class Paths:
    """The plans of a graph.

    Args:
        graph: The open graph.
        channels: Its shared channels.
        layer: Makes what computes a form of a node, from the shared channels that its first input holds.
    """

    def __init__(self, graph: OpenGraph, channels: Channels, layer: Callable[[OpenNode, Form, Columns], Layer]) -> None:
        self.graph, self.channels, self.layer = graph, channels, layer
        self._plans: dict[tuple[int, ...], Plan] = {}
        self._gated = channels.gated
        self._read = [_reader(_support(node.forms, *node.inputs)) for node in graph.nodes]
        self._meanings: list[dict[Any, _Meaning]] = [{} for _ in graph.nodes]

    def plan(self, indices: tuple[int, ...]) -> Plan:
        """The plan of the path with an index for each decision, by position.

        Raises:
            TraceError: this architecture cannot be traced.
        """
        found = self._plans.get(indices)
        if found is None:
            if len(self._plans) >= PLANS:
                self._plans.clear()
            found = self._plans[indices] = self._make(indices)
        return found

    def _make(self, indices: tuple[int, ...]) -> Plan:
        inputs = len(self.graph.inputs)
        roots = [_number(value, indices) for _, value in self.graph.outputs]
        places = {number: number for number in range(inputs)}
        found: list[tuple[int, _Meaning]] = []
        stack = roots[::-1]
        read, meanings = self._read, self._meanings
        while stack:  # the order of `OpenGraph.resolve`, which is that of the closed network
            number = stack[-1]
            if number in places:
                stack.pop()
                continue
            meaning = meanings[number].get(read[number](indices))
            if meaning is None:
                meaning = self._meaning(number, indices)
            reads = meaning.reads
            if len(reads) == 1:
                if reads[0] not in places:
                    stack.append(reads[0])
                    continue
            elif missing := [i for i in reads if i not in places]:
                stack += missing[::-1]
                continue
            stack.pop()
            places[number] = len(places)
            found.append((number, meaning))
        return self._plan(found, places, tuple([places[root] for root in roots]))

    def _meaning(self, number: int, indices: tuple[int, ...]) -> _Meaning:
        node = self.graph.nodes[number]
        form = node.forms.at(indices)
        assert isinstance(form, Form), f"node {node.path} was reached outside its forms"
        if isinstance(form.operation, Failed):
            raise form.operation.error(form.operation.message)
        made = _Meaning(form, tuple([_number(value, indices) for value in node.inputs]))
        self._meanings[number][self._read[number](indices)] = made
        return made

    def _plan(self, found: list[tuple[int, _Meaning]], places: dict[int, int], outputs: tuple[int, ...]) -> Plan:
        gated = self._gated
        columns: list[Columns] = [None] * len(self.graph.inputs)
        steps: list[tuple[Layer, tuple[int, ...]]] = []
        last: dict[int, int] = {}
        for number, meaning in found:
            own = meaning.reads
            reads = (places[own[0]],) if len(own) == 1 else tuple([places[i] for i in own])
            for i in reads:
                last[i] = len(steps)
            held = columns[reads[0]] if gated and reads else None
            call = meaning.calls.get(held)
            if call is None:
                call = meaning.calls[held] = quick(self.layer(self.graph.nodes[number], meaning.form, held))
            if gated:
                columns.append(self.channels.of(self.graph.nodes[number], meaning.form, [columns[i] for i in reads]))
            steps.append((call, reads))
        dead: list[tuple[int, ...]] = [()] * len(steps)
        for i, step in last.items():
            if i not in outputs:
                dead[step] = (*dead[step], i)
        return Plan(tuple([Step(call, reads, gone) for (call, reads), gone in zip(steps, dead, strict=True)]), outputs)


def _support(*diagrams: Diagram) -> tuple[int, ...]:
    return tuple(sorted(frozenset().union(*[diagram.support for diagram in diagrams])))


def _reader(positions: tuple[int, ...]) -> Callable[[tuple[int, ...]], Any]:
    """Takes the indices at some positions out of all."""
    return itemgetter(*positions) if positions else len


def _number(value: Diagram, indices: Sequence[int]) -> int:
    number = value.at(indices)
    assert isinstance(number, int), "a value was read where it is undefined"
    return number
