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
from nasturtium.model.gate import Hard, Shares
from nasturtium.model.layers import add
from nasturtium.model.probe import Branch, Branches
from nasturtium.space.diagram import Diagram
from nasturtium.space.open_graph import Failed, Form, OpenGraph, OpenNode

Weights = Shares | Hard
"""Of the branches of one decision, as a gate gives them."""
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


PLAIN = -1
"""Stands for an option of which the weight is the number 1."""


class Mix(NamedTuple):
    """A step that adds up the branches of a decision by the decision's weights."""

    position: int
    """Of the decision, in `OpenGraph.decisions`."""
    reads: tuple[int, ...]
    """Numbers of the values that are added up; one may stand several times."""
    options: tuple[int, ...]
    """The option whose weight each has; `PLAIN` for one that is added as it is. In the program of a mixture they are
    all options in order; see `reduced` for others."""


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


def mixable(graph: OpenGraph, channels: Channels) -> dict[str, int]:
    """Decisions that can be mixed, with their number of options; see `Supernet.mixed`."""
    selected: frozenset[int] = frozenset()
    elastic = _column_decisions(graph, channels)
    for node in graph.nodes:
        selected = selected.union(*[value.support for value in node.inputs])
        if len({form[:3] for form in node.variants}) > 1:
            elastic |= node.forms.support
    for _, value in graph.outputs:
        selected |= value.support
        shapes = [graph.nodes[n].shapes for n in value.leaves() if isinstance(n, int)]
        if len({s for shape in shapes for s in shape.leaves()}) > 1:
            elastic |= value.support.union(*[shape.support for shape in shapes])
    return {graph.decisions[p].name: graph.decisions[p].count for p in sorted(selected - elastic)}


def _column_decisions(graph: OpenGraph, channels: Channels) -> frozenset[int]:
    """Positions of the decisions that may change which shared channels a tensor holds.

    Those are the decisions that say what stands in a concatenation that depends on decisions, and those that select
    among tensors behind one, until a layer reads them that does not keep the channels apart.
    """
    found: frozenset[int] = frozenset()
    for value in [*[v for node in graph.nodes for v in node.inputs], *[v for _, v in graph.outputs]]:
        if channels.is_gated(value):
            found |= value.support
            kept = [graph.nodes[number] for number in value.leaves() if isinstance(number, int)]
            found = found.union(*[node.forms.support for node in kept if channels.is_gated_node(node)])
    return found


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
            step: Call | Mix = Mix(item.variable, reads, tuple(range(len(reads))))
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


def reduced(program: Program, pattern: Mapping[int, Sequence[int | None]]) -> Program:
    """A program without the branches that are not computed.

    Args:
        program: Of a mixture.
        pattern: For each mixed decision, by position, of every option: its number, `PLAIN` where its weight is 1, None
            where it is left out. Not all are.
    """
    first = program.inputs
    steps: dict[int, Call | Mix] = {}
    wanted = {*program.outputs}
    for number in range(first + len(program.steps) - 1, first - 1, -1):
        if number in wanted:
            step = program.steps[number - first]
            if isinstance(step, Mix):
                marks = [pattern[step.position][option] for option in step.options]
                kept = [(read, mark) for read, mark in zip(step.reads, marks, strict=True) if mark is not None]
                step = Mix(step.position, tuple([r for r, _ in kept]), tuple([m for _, m in kept]))
            steps[number] = step
            wanted.update(step.reads)
    order = sorted(steps)
    places = {n: n for n in range(first)} | {number: first + i for i, number in enumerate(order)}
    moved = [steps[n]._replace(reads=tuple([places[i] for i in steps[n].reads])) for n in order]
    return Program(first, tuple(moved), tuple([places[n] for n in program.outputs]))


class PlainExecutor:
    """Computes what the weights leave, step by step; a value is let go after its last use.

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.counts = {step.position: len(step.reads) for step in program.steps if isinstance(step, Mix)}

    def __call__(self, inputs: Sequence[Tensor], weights: Mapping[int, Weights]) -> list[Tensor]:
        """Run the program. Gates of `Hard` weights are probed where their gradients are wanted."""
        program = self.program
        shares = {position: listed(weights[position], count) for position, count in self.counts.items()}
        needed = self._needed(shares)
        probed = self._probed(weights, shares, needed)
        reads = {n: (*own, *probed[n].frontier) if n in probed else own for n, own in needed.items()}
        dead = _dead(reads, program.outputs)
        values: dict[int, Tensor] = dict(enumerate(inputs))
        for number in needed:
            values[number] = self._compute(number, shares, values)
            branches = probed.get(number)
            if branches is not None:
                step = program.steps[number - program.inputs]
                assert isinstance(step, Mix)
                hard = weights[step.position]
                assert isinstance(hard, Hard)
                assert hard.gates is not None
                values[number] = branches.attach(values[number], hard.gates, [values[i] for i in branches.frontier])
            for i in dead[number]:
                del values[i]
        return [values[i] for i in program.outputs]

    def _compute(
        self, number: int, shares: Mapping[int, Sequence[Tensor | float]], values: dict[int, Tensor]
    ) -> Tensor:
        step = self.program.steps[number - self.program.inputs]
        if isinstance(step, Call):
            return step.function(*[values[i] for i in step.reads])
        parts = []
        for share, i in zip(shares[step.position], step.reads, strict=True):
            if isinstance(share, Tensor):
                parts.append(share * values[i])
            elif share != 0:
                parts.append(values[i] if share == 1 else share * values[i])
        return add(*parts)

    def _reads(self, number: int, shares: Mapping[int, Sequence[Tensor | float]]) -> tuple[int, ...]:
        """The values that a step reads by weights that are not 0."""
        step = self.program.steps[number - self.program.inputs]
        if isinstance(step, Call):
            return step.reads
        pairs = zip(shares[step.position], step.reads, strict=True)
        return tuple([i for share, i in pairs if isinstance(share, Tensor) or share != 0])

    def _needed(self, shares: Mapping[int, Sequence[Tensor | float]]) -> dict[int, tuple[int, ...]]:
        """The steps that reach an output by weights that are not 0, in order, with what each reads."""
        program = self.program
        wanted = {*program.outputs}
        found: list[tuple[int, tuple[int, ...]]] = []
        for number in range(program.inputs + len(program.steps) - 1, program.inputs - 1, -1):
            if number in wanted:
                reads = self._reads(number, shares)
                wanted.update(reads)
                found.append((number, reads))
        return dict(reversed(found))

    def _probed(
        self,
        weights: Mapping[int, Weights],
        shares: Mapping[int, Sequence[Tensor | float]],
        needed: Mapping[int, tuple[int, ...]],
    ) -> dict[int, Branches]:
        """The branches to probe at each step that is a mix by gates with gradients."""
        found: dict[int, Branches] = {}
        for number in needed:
            step = self.program.steps[number - self.program.inputs]
            hard = weights[step.position] if isinstance(step, Mix) else None
            if isinstance(hard, Hard) and hard.wanted:
                branches = [self._branch(i, step.reads[i], shares, needed) for i in hard.probed if i != hard.index]
                found[number] = Branches(hard.index, hard.index in hard.probed, branches)
        return found

    def _branch(
        self,
        option: int,
        root: int,
        shares: Mapping[int, Sequence[Tensor | float]],
        needed: Mapping[int, tuple[int, ...]],
    ) -> Branch:
        """What computes one branch from values that the active path has."""
        steps: dict[int, tuple[int, ...]] = {}
        frontier: set[int] = set()
        stack = [root]
        while stack:
            number = stack.pop()
            if number in needed or number < self.program.inputs:
                frontier.add(number)
            elif number not in steps:
                steps[number] = self._reads(number, shares)
                stack.extend(steps[number])
        order = {number: steps[number] for number in sorted(steps)}
        dead = _dead(order, (root, *frontier))

        def compute(values: dict[int, Tensor]) -> Tensor:
            for number in order:
                values[number] = self._compute(number, shares, values)
                for i in dead[number]:
                    del values[i]
            return values[root]

        calls = [step for number in order if isinstance(step := self.program.steps[number - self.program.inputs], Call)]
        return Branch(option, tuple(sorted(frontier)), compute, tuple(calls))


def _dead(reads: Mapping[int, tuple[int, ...]], keep: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """For each step in order, the values that nobody reads later."""
    seen = {*keep}
    found: dict[int, tuple[int, ...]] = {}
    for number in reversed([*reads]):
        found[number] = tuple({i: None for i in reads[number] if i not in seen})
        seen.update(reads[number])
    return found


def listed(weights: Shares | Hard, count: int) -> Sequence[Tensor | float]:
    """The weights of the branches of one decision, one by one.

    Raises:
        InvalidInputError: they are not as many as branches, or all the number 0.
    """
    if isinstance(weights, Hard):
        return [1.0 if i == weights.index else 0.0 for i in range(count)]
    if len(weights) != count or not (isinstance(weights, Tensor) or any(isinstance(w, Tensor) or w for w in weights)):
        raise InvalidInputError(
            f"A gate gives {count} weights for the {count} branches of a decision, not all of them the number 0, got "
            f"{weights!r}."
        )
    return weights.unbind() if isinstance(weights, Tensor) else weights
