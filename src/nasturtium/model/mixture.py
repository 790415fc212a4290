"""Mixtures: the program that a supernet runs where a gate mixes decisions, and its plain executor.

A program is an open graph with the decisions that are not mixed fixed: calls of layers, and mixes that add up branches
by weight. Values are numbered: the inputs first, then one for each step, in an order of execution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from nasturtium.errors import InvalidInputError
from nasturtium.model.elastic_channels import Channels, Columns
from nasturtium.model.layers import add
from nasturtium.space.diagram import Diagram
from nasturtium.space.open_graph import Failed, Form, OpenGraph, OpenNode

Weights = Tensor | Sequence[Tensor | float]
"""Of the branches of one decision, `(count,)`; a branch whose weight is the number 0 is not computed."""
Layer = Callable[..., Tensor]


class Call(NamedTuple):
    """A step that calls a layer."""

    node: OpenNode
    form: Form
    """Its operation, and the shapes of what it reads and gives, without the batch."""
    function: Layer
    """What computes it; `Supernet.layer_of(node)` has its weights."""
    reads: tuple[int, ...]
    """Numbers of the values that it reads."""


class Mix(NamedTuple):
    """A step that adds up the branches of a decision by the decision's weights."""

    position: int
    """Of the decision, in `OpenGraph.decisions`."""
    reads: tuple[int, ...]
    """Numbers of the values that are added up, one for each option; one may stand several times."""


@dataclass(frozen=True, slots=True)
class Program:
    """The steps of a mixture, in an order of execution."""

    inputs: int
    """Values 0 to `inputs - 1` are the inputs."""
    steps: tuple[Call | Mix, ...]
    """Step i gives the value `inputs + i`."""
    outputs: tuple[int, ...]
    """Numbers of the values that are outputs."""


class Executor(Protocol):
    """Runs a program. Made once for a program, run many times."""

    def __call__(self, inputs: Sequence[Tensor], weights: Mapping[int, Weights]) -> list[Tensor]:
        """Outputs, from inputs `(batch, *shape)` and the weights of each mixed decision, by position."""
        ...


def write_program(
    graph: OpenGraph,
    channels: Channels,
    mixed: Iterable[int],
    indices: Sequence[int],
    layer: Callable[[OpenNode, Form, Columns], Layer],
) -> Program:
    """The program of a mixture.

    Args:
        graph: The supernet's.
        channels: Its shared channels.
        mixed: Positions of the decisions that are mixed.
        indices: Index of every other decision, by position.
        layer: Makes what computes a form of a node, from the shared channels that its first input holds.

    Raises:
        TraceError: a branch cannot be traced.
        InvalidInputError: branches of one mix hold different shared channels.
    """
    return _Writer(graph, channels, frozenset(mixed), indices, layer).write()


class _Writer:
    def __init__(
        self,
        graph: OpenGraph,
        channels: Channels,
        mixed: frozenset[int],
        indices: Sequence[int],
        layer: Callable[[OpenNode, Form, Columns], Layer],
    ) -> None:
        self.graph, self.channels, self.mixed, self.indices, self.layer = graph, channels, mixed, indices, layer
        self.steps: list[Call | Mix] = []
        self.columns: list[Columns] = [None] * len(graph.inputs)
        self.places: dict[OpenNode | Diagram, int] = {graph.nodes[i]: i for i in range(len(graph.inputs))}

    def write(self) -> Program:
        """Steps in depth-first order, without recursion: networks are deep."""
        roots = [self._reduce(value) for _, value in self.graph.outputs]
        stack: list[tuple[OpenNode | Diagram, bool]] = [(root, False) for root in reversed(roots)]
        while stack:
            item, ready = stack.pop()
            if item in self.places:
                continue
            values = item.inputs if isinstance(item, OpenNode) else item.children
            reads = [self._reduce(value) for value in values]
            if not ready:
                stack.append((item, True))
                stack.extend([(read, False) for read in reversed(reads) if read not in self.places])
                continue
            self._add(item, tuple([self.places[read] for read in reads]))
        return Program(len(self.graph.inputs), tuple(self.steps), tuple([self.places[root] for root in roots]))

    def _reduce(self, diagram: Diagram) -> OpenNode | Diagram:
        """What a value is, at the fixed decisions: a node, or a mix of branches."""
        while diagram.children and diagram.variable not in self.mixed:
            diagram = diagram.children[self.indices[diagram.variable]]
        if diagram.children:
            return diagram
        assert isinstance(diagram.value, int), "a value was read where it is undefined"
        return self.graph.nodes[diagram.value]

    def _form(self, diagram: Diagram) -> Form | None:
        """A node's form at the fixed decisions; mixed ones change nothing but where it is reached."""
        while diagram.children and diagram.variable not in self.mixed:
            diagram = diagram.children[self.indices[diagram.variable]]
        if not diagram.children:
            return diagram.value if isinstance(diagram.value, Form) else None
        return next((form for child in diagram.children if (form := self._form(child)) is not None), None)

    def _add(self, item: OpenNode | Diagram, reads: tuple[int, ...]) -> None:
        held = [self.columns[i] for i in reads]
        if isinstance(item, Diagram):
            if len(set(held)) > 1:
                name = self.graph.decisions[item.variable].name
                raise InvalidInputError(
                    f"The branches of {name} hold different channels of a concatenation that depends on decisions, so "
                    "they cannot be added up: leave it out of `decisions`."
                )
            step: Call | Mix = Mix(item.variable, reads)
            columns = held[0]
        else:
            form = self._form(item.forms)
            assert form is not None, f"node {item.path} was reached outside its forms"
            if isinstance(form.operation, Failed):
                raise form.operation.error(form.operation.message)
            step = Call(item, form, self.layer(item, form, held[0] if held else None), reads)
            columns = self.channels.of(item, form, held)
        self.places[item] = len(self.columns)
        self.columns.append(columns)
        self.steps.append(step)


class PlainExecutor:
    """Computes what the weights leave, step by step; a value is let go after its last use.

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        self.program = program

    def __call__(self, inputs: Sequence[Tensor], weights: Mapping[int, Weights]) -> list[Tensor]:
        """Run the program."""
        program = self.program
        shares = {position: _listed(given) for position, given in weights.items()}
        needed = self.needed(shares)
        last = {}
        for number, reads in needed.items():
            for i in reads:
                last[i] = number
        keep = {*program.outputs}
        values: dict[int, Tensor] = dict(enumerate(inputs))
        for number, reads in needed.items():
            step = program.steps[number - program.inputs]
            if isinstance(step, Call):
                values[number] = step.function(*[values[i] for i in reads])
            else:
                values[number] = _sum(shares[step.position], step.reads, values)
            for i in reads:
                if last[i] == number and i not in keep:
                    values.pop(i, None)
        return [values[i] for i in program.outputs]

    def needed(self, weights: Mapping[int, Sequence[Tensor | float]]) -> dict[int, tuple[int, ...]]:
        """The values that reach an output by weights that are not 0, in order, with what each reads."""
        program = self.program
        wanted = {*program.outputs}
        found: list[tuple[int, tuple[int, ...]]] = []
        for number in range(program.inputs + len(program.steps) - 1, program.inputs - 1, -1):
            if number not in wanted:
                continue
            step = program.steps[number - program.inputs]
            reads = step.reads
            if isinstance(step, Mix):
                shares = zip(weights[step.position], reads, strict=True)
                reads = tuple([i for share, i in shares if isinstance(share, Tensor) or share != 0])
            wanted.update(reads)
            found.append((number, reads))
        return dict(reversed(found))


def _listed(weights: Weights) -> Sequence[Tensor | float]:
    return weights.unbind() if isinstance(weights, Tensor) else weights


def _sum(weights: Sequence[Tensor | float], reads: Sequence[int], values: Mapping[int, Tensor]) -> Tensor:
    parts = []
    for weight, i in zip(weights, reads, strict=True):
        if isinstance(weight, Tensor):
            parts.append(weight * values[i])
        elif weight != 0:
            parts.append(values[i] if weight == 1 else weight * values[i])
    return add(*parts)


def soft_executor(program: Program, *, optimize: bool) -> Executor:
    """The executor of a program whose weights are all tensors.

    Args:
        program: The program.
        optimize: Whether passes that keep outputs and gradients may rewrite it; False for the plain one.
    """
    del optimize  # no passes yet
    return PlainExecutor(program)
