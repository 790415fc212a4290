"""Paths through an open graph as plans: stretches of calls, made quickly and remembered.

A path is cut where one value is all that the rest depends on: between the blocks of a chain. What such a stretch is
depends on few decisions, and it is remembered for each assignment of those, its prepared layers included. So a path
that was never taken costs some look-ups a stretch, and one that was taken a single one. Where a stretch depends on too
much to come again (a cell of many edges), it is made step by step, with all before it.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
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
COMMON = 1024
"""Assignments of the decisions that a stretch may depend on; of more it would hardly come again."""
FEW = 64
"""Assignments of the decisions that a node may depend on to be looked up by them, not by what they make of it."""
PATIENCE = 8
"""How many more stretches to one end must be too rare than are common, until none is looked for there any more."""
STEPS = 1 << 17
"""Steps remembered in stretches; beyond, all stretches are forgotten and made anew."""


class Step(NamedTuple):
    """A call, which gives the value after those of the steps before."""

    call: Layer
    reads: tuple[int, ...]
    """Numbers of the values that it reads: what enters the stretch first, then one for each step."""
    dead: tuple[int, ...]
    """Numbers of the values that nobody reads later."""


class Stretch(NamedTuple):
    """Part of a path, from few values to few."""

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    """Numbers of the values that it gives, as of `Step.reads`."""
    columns: tuple[Columns, ...]
    """Shared channels that each of these holds."""


class Plan(NamedTuple):
    """One path."""

    inputs: tuple[int, ...]
    """The graph's inputs that it reads."""
    stretches: tuple[Stretch, ...]
    """Each reads what the one before gives."""

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Outputs, from inputs `(batch, *shape)`; a value is let go after its last use."""
        values: list[Any] = [inputs[i] for i in self.inputs]
        for steps, outputs, _ in self.stretches:
            for call, reads, dead in steps:
                values.append(call(values[reads[0]]) if len(reads) == 1 else call(*[values[i] for i in reads]))
                for i in dead:
                    values[i] = None
            values = [values[i] for i in outputs]
        return values


class _Meaning:
    """What a node is under some assignments."""

    __slots__ = ("calls", "form", "reads")

    def __init__(self, form: Form, reads: tuple[int, ...]) -> None:
        self.form = form
        self.reads = reads
        self.calls: dict[Columns, Layer] = {}


class _Sketch:
    """A stretch, whatever channels the values hold that enter it."""

    __slots__ = ("ends", "entries", "made", "nodes", "remembered")

    def __init__(self, ends: tuple[int, ...], entries: tuple[int, ...], nodes: list[tuple[int, _Meaning]]) -> None:
        self.ends, self.entries, self.nodes = ends, entries, nodes
        self.made: dict[tuple[Columns, ...], Stretch] = {}
        self.remembered = False


class _Question(NamedTuple):
    """Which decisions say more of what ends somewhere."""

    read: Callable[[tuple[int, ...]], Any]
    answers: dict[Any, _Question | _Sketch]


class Paths:
    """The plans of a graph.

    Args:
        graph: The open graph.
        channels: Its shared channels.
        layer: Makes what computes a form of a node, from the shared channels that its first input holds.
    """

    def __init__(self, graph: OpenGraph, channels: Channels, layer: Callable[[OpenNode, Form, Columns], Layer]) -> None:
        self.graph, self.channels, self.layer = graph, channels, layer
        self._inputs = len(graph.inputs)
        self._plans: dict[tuple[int, ...], Plan] = {}
        self._support = [_support(node.forms, *node.inputs) for node in graph.nodes]
        few = [math.prod([graph.decisions[p].count for p in support]) <= FEW for support in self._support]
        self._read = [_reader(support) if one else None for support, one in zip(self._support, few, strict=True)]
        self._meanings: list[dict[Any, _Meaning]] = [{} for _ in graph.nodes]
        self._questions: dict[tuple[int, ...], _Question | _Sketch] = {}
        self._all = tuple(range(self._inputs))
        self._rare: Counter[tuple[int, ...]] = Counter()
        self._gated = channels.gated
        self._steps = 0

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
        ends = tuple([_number(value, indices) for _, value in self.graph.outputs])
        sketches: list[_Sketch] = []
        while max(ends, default=-1) >= self._inputs:
            found = self._questions.get(ends)
            while isinstance(found, _Question):
                found = found.answers.get(found.read(indices))
            sketch = self._sketch(ends, indices) if found is None else found
            sketches.append(sketch)
            ends = sketch.entries
        inputs = ends
        held: tuple[Columns, ...] = (None,) * len(ends)
        stretches = []
        for sketch in reversed(sketches):
            stretch = sketch.made.get(held)
            if stretch is None:
                stretch = self._stretch(sketch, held)
            held = stretch.columns
            stretches.append(stretch)
        return Plan(inputs, tuple(stretches))

    def _sketch(self, ends: tuple[int, ...], indices: tuple[int, ...]) -> _Sketch:
        """Go back from what is wanted until one value, or the inputs, is all that is needed."""
        whole = _Sketch(ends, self._all, [])
        if self._rare[ends] >= PATIENCE:
            whole.nodes = self._ordered(ends, self._all, indices)
            return whole
        waiting = [-number for number in set(ends)]
        heapq.heapify(waiting)
        seen = set(ends)
        asked: list[tuple[int, ...]] = []
        while waiting and -waiting[0] >= self._inputs and (len(waiting) > 1 or -waiting[0] in ends):
            largest = -heapq.heappop(waiting)  # nothing that is still to come reads it
            asked.append(self._support[largest])
            for number in self._meaning(largest, indices).reads:
                if number not in seen:
                    seen.add(number)
                    heapq.heappush(waiting, -number)
        known = {position for positions in asked for position in positions}
        if math.prod([self.graph.decisions[position].count for position in known]) > COMMON:
            self._rare[ends] += 1
            whole.nodes = self._ordered(ends, self._all, indices)
            return whole
        self._rare[ends] -= 1
        entries = tuple(sorted([-number for number in waiting]))
        made = _Sketch(ends, entries, self._ordered(ends, entries, indices))
        self._remember(made, asked, indices)
        return made

    def _ordered(
        self, ends: tuple[int, ...], entries: tuple[int, ...], indices: tuple[int, ...]
    ) -> list[tuple[int, _Meaning]]:
        """The nodes from some values to others, in the order of `OpenGraph.resolve`: that of the closed network."""
        done = set(entries)
        found: list[tuple[int, _Meaning]] = []
        stack = [*ends[::-1]]
        while stack:
            number = stack[-1]
            if number in done:
                stack.pop()
                continue
            meaning = self._meaning(number, indices)
            reads = meaning.reads
            if len(reads) == 1:
                if reads[0] not in done:
                    stack.append(reads[0])
                    continue
            elif missing := [i for i in reads if i not in done]:
                stack += missing[::-1]
                continue
            stack.pop()
            done.add(number)
            found.append((number, meaning))
        return found

    def _remember(self, made: _Sketch, asked: Sequence[tuple[int, ...]], indices: tuple[int, ...]) -> None:
        """Put a sketch where the decisions lead on which its nodes depend, in the order in which they were asked.

        Which node comes next follows from the answers so far, so equal answers lead to equal questions.
        """
        known: set[int] = set()
        place: dict[Any, _Question | _Sketch] = self._questions
        key: Any = made.ends
        for positions in asked:
            new = tuple([position for position in positions if position not in known])
            if not new:
                continue
            known.update(new)
            question = place.setdefault(key, _Question(_reader(new), {}))
            assert isinstance(question, _Question), "equal answers led to different stretches"
            place, key = question.answers, question.read(indices)
        place[key] = made
        made.remembered = True

    def _meaning(self, number: int, indices: tuple[int, ...]) -> _Meaning:
        read = self._read[number]
        node = self.graph.nodes[number]
        key: Any
        if read is not None:
            key = read(indices)
            found = self._meanings[number].get(key)
            if found is not None:
                return found
        form = node.forms.at(indices)
        reads = tuple([_number(value, indices) for value in node.inputs])
        if read is None:
            key = id(form), reads  # forms live as long as the graph
            found = self._meanings[number].get(key)
            if found is not None:
                return found
        assert isinstance(form, Form), f"node {node.path} was reached outside its forms"
        if isinstance(form.operation, Failed):
            raise form.operation.error(form.operation.message)
        found = self._meanings[number][key] = _Meaning(form, reads)
        return found

    def _stretch(self, sketch: _Sketch, held: tuple[Columns, ...]) -> Stretch:
        """A stretch whose entering values hold some shared channels."""
        places = {number: i for i, number in enumerate(sketch.entries)}
        gated = self._gated
        columns = [*held]
        steps: list[tuple[Layer, tuple[int, ...]]] = []
        last: dict[int, int] = {}
        for number, meaning in sketch.nodes:
            before = meaning.reads
            reads = (places[before[0]],) if len(before) == 1 else tuple([places[i] for i in before])
            for i in reads:
                last[i] = len(steps)
            own = columns[reads[0]] if gated and reads else None
            call = meaning.calls.get(own)
            if call is None:
                call = meaning.calls[own] = quick(self.layer(self.graph.nodes[number], meaning.form, own))
            if gated:
                columns.append(self.channels.of(self.graph.nodes[number], meaning.form, [columns[i] for i in reads]))
            places[number] = len(places)
            steps.append((call, reads))
        outputs = tuple([places[number] for number in sketch.ends])
        dead: list[tuple[int, ...]] = [()] * len(steps)
        for i, step in last.items():
            if i not in outputs:
                dead[step] = (*dead[step], i)
        made = Stretch(
            tuple([Step(call, reads, gone) for (call, reads), gone in zip(steps, dead, strict=True)]),
            outputs,
            tuple([columns[i] for i in outputs]) if gated else (None,) * len(outputs),
        )
        if sketch.remembered:
            self._steps += len(steps)
            if self._steps > STEPS:
                self._questions.clear()
                self._steps = 0
            sketch.made[held] = made
        return made


def _support(*diagrams: Diagram) -> tuple[int, ...]:
    return tuple(sorted(frozenset().union(*[diagram.support for diagram in diagrams])))


def _reader(positions: tuple[int, ...]) -> Callable[[tuple[int, ...]], Any]:
    """Takes the indices at some positions out of all."""
    return itemgetter(*positions) if positions else len


def _number(value: Diagram, indices: Sequence[int]) -> int:
    number = value.at(indices)
    assert isinstance(number, int), "a value was read where it is undefined"
    return number
