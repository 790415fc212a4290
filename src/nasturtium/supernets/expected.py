"""Expected cost of a supernet: differentiable in the probabilities of its decisions, and exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite, prod
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from nasturtium.errors import InvalidInputError
from nasturtium.graph.operations import Operation, Shape
from nasturtium.model.supernet import Supernet
from nasturtium.space.diagram import Diagram, Diagrams
from nasturtium.space.open_graph import Decided, OpenGraph
from nasturtium.space.stated import Statement, costed, statements

OperationCost = Callable[[Operation, tuple[Shape, ...]], float]
"""Cost of one operation from the shapes of its inputs (without the batch), for example in seconds."""


@runtime_checkable
class TermedCost(Protocol):
    """A function of an operation that knows better what a whole space costs: operations that run as one, say."""

    def terms(self, graph: OpenGraph, fixed: Mapping[int, int] | None = None) -> list[Diagram]:
        """Functions from decisions to numbers, whose sum is the cost; `fixed` are decided positions."""
        ...


Additive = Literal["macs", "activations", "params"]
TOLERANCE = 1e-3
"""How far the sum of a decision's probabilities may be from 1."""
MERGED = 4096
"""Functions of the same decisions become one where these have at most so many combinations."""


class ExpectedCost:
    """Expected cost of the architecture that is drawn by deciding each decision on its own.

    The cost of an architecture is the sum over its operations, exactly as `trace` states them: dead branches count,
    what serves training-only outputs alone does not. So the expectation is the sum over operations, forms and their
    context of probability times cost, edge selection included; it equals the mean of the closed networks' costs,
    weighted by their probabilities, and it is polynomial in the probabilities, so gradients (of any order) are exact.

    The probabilities are compiled once to a few matrices. A call takes some gathers and products for each level of the
    decision diagrams (the deepest chain of decisions that one operation depends on), whatever the number of operations.

    Args:
        supernet: A supernet, or the open graph of a space (`nasturtium.space.lowering.lower`).
        cost: "macs" or "activations" of one sample; "params" (tied weights of an architecture count once, as in
            `Graph.params`; an architecture's own, not what the supernet holds); or a function of an operation and its
            inputs' shapes, for example a latency table in seconds, which is called once for each form. A function that
            has `terms` (see `TermedCost`) is asked for these: `nasturtium.hardware.LatencyTable.cost` counts operations
            that run as one kernel exactly.
        fixed: Decisions that are not drawn: an architecture, or indices by name (those of one kind of decision only,
            if the others are drawn).

    Raises:
        InvalidInputError: `cost` is unknown, or gives a number that is not finite.
        InvalidArchitectureError: `fixed` has a decision or index that the graph does not have.
        TraceError: an architecture cannot be traced, so there is no mean over all.

    Notes:
        Conditions of a space (`where`) are not drawn: all combinations count.

    Reference:
        Cai, Zhu, Han (2019), "ProxylessNAS", arXiv 1812.00332, section 3.3, equation 8. Differs from the paper:
        operations depend on any decisions before them, not on their own block's alone.

    Example:
        >>> import torch
        >>> import nasturtium as nas
        >>> from nasturtium.space.lowering import lower
        >>> space = nas.Space(nas.Conv(nas.one_of(2, 4, name="width"), kernel=1))
        >>> expected = ExpectedCost(lower(space, (3, 8, 8)), "macs")
        >>> float(expected({"width": torch.tensor([0.5, 0.5])}))
        576.0
    """

    def __init__(
        self,
        supernet: Supernet | OpenGraph,
        cost: Additive | OperationCost,
        *,
        fixed: Decided | Mapping[str, int] | None = None,
    ) -> None:
        graph = supernet if isinstance(supernet, OpenGraph) else supernet.graph
        decided = {} if fixed is None else fixed if isinstance(fixed, Mapping) else fixed.decisions
        graph.indices(decided)  # refuses what the graph does not have
        positions = {d.name: d.position for d in graph.decisions}
        indices = {positions[name]: index for name, index in decided.items()}
        terms = _terms(graph, cost, indices)
        functions = _heights(terms, indices)
        drawn = [graph.decisions[p] for p in sorted({d.variable for d, height in functions.values() if height})]
        self.decisions: dict[str, int] = {d.name: d.count for d in drawn}
        """Decisions that it depends on, with their numbers of options: a call must give these."""
        self._program = _compile(terms, functions, indices, {d.position: d.count for d in drawn})
        self._placed: dict[tuple[torch.device, torch.dtype], _Program] = {}

    def __call__(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Expected cost, a scalar in the cost's unit.

        Args:
            probabilities: For each of `decisions` a tensor `(options,)` that sums to 1; others are ignored. All of one
                type and device. An inactive decision has no effect.

        Raises:
            InvalidInputError: one is missing, has another shape, or (looked at on the CPU only) does not sum to 1.
        """
        parts = [self._checked(name, count, probabilities) for name, count in self.decisions.items()]
        if not parts:
            return torch.tensor(self._program.constant, dtype=torch.get_default_dtype())
        flat = torch.cat(parts)
        program = self._on(flat)
        if flat.device.type == "cpu":
            self._check_sums(flat, program)
        padded = torch.cat([flat, flat.new_zeros(1)])
        values = program.leaves
        for level in program.levels:
            values = torch.cat([values, (padded[level.outcomes] * values[level.children]).sum(1)])
        return program.constant + values[program.roots].sum()

    def _checked(self, name: str, count: int, probabilities: Mapping[str, Tensor]) -> Tensor:
        found = probabilities.get(name)
        if found is None:
            raise InvalidInputError(
                f"The expected cost depends on the decision {name!r}: give its probabilities, a tensor ({count},), or "
                "its index in `fixed`."
            )
        if found.shape != (count,):
            raise InvalidInputError(f"The probabilities of {name!r} must be ({count},), got {tuple(found.shape)}.")
        return found

    def _check_sums(self, flat: Tensor, program: _Program) -> None:
        sums = flat.new_zeros(len(self.decisions)).index_add(0, program.owners, flat.detach())
        wrong = (sums - 1).abs() > TOLERANCE
        if wrong.any():
            number = int(wrong.nonzero()[0, 0])
            raise InvalidInputError(
                f"The probabilities of {list(self.decisions)[number]!r} must sum to 1, got {float(sums[number]):g}."
            )

    def _on(self, like: Tensor) -> _Program:
        key = (like.device, like.dtype)
        if key not in self._placed:
            self._placed[key] = self._program.to(like)
        return self._placed[key]


class _Level(NamedTuple):
    """Functions that depend on those of earlier levels: value = sum over outcomes of probability times child."""

    outcomes: Tensor
    """`(functions, outcomes)`, places in the probabilities; the last place, of probability 0, fills up."""
    children: Tensor
    """`(functions, outcomes)`, places among the values so far."""


class _Program(NamedTuple):
    """The expectation as matrices."""

    leaves: Tensor
    """`(values,)`, the constants."""
    levels: tuple[_Level, ...]
    roots: Tensor
    """`(terms,)`, places of the functions whose values add up."""
    constant: float
    """What does not depend on decisions."""
    owners: Tensor
    """`(probabilities,)`, number of each one's decision."""

    def to(self, like: Tensor) -> _Program:
        """On the device and in the type of a tensor."""
        levels = tuple([_Level(a.to(like.device), b.to(like.device)) for a, b in self.levels])
        leaves, roots, owners = self.leaves.to(like), self.roots.to(like.device), self.owners.to(like.device)
        return _Program(leaves, levels, roots, self.constant, owners)


def additive_terms(graph: OpenGraph, cost: Additive | OperationCost) -> list[Diagram]:
    """Functions from decisions to numbers, whose sum is the cost of an architecture; arguments as of `ExpectedCost`."""
    return _terms(graph, cost, {})


def _terms(graph: OpenGraph, cost: Additive | OperationCost, fixed: Mapping[int, int]) -> list[Diagram]:
    """Functions from decisions to numbers, whose sum is the cost."""
    diagrams = graph.record.diagrams
    given: object = cost
    if isinstance(given, TermedCost):
        return _merged(diagrams, given.terms(graph, fixed))
    stated = costed(graph.record, statements(graph.record, fixed), [value for _, value in graph.outputs])
    if cost == "params":
        return _parameters(diagrams, stated)
    if not callable(cost) and cost not in ("macs", "activations"):
        raise InvalidInputError(
            "An additive cost is 'macs', 'activations', 'params' or a function of an operation and its inputs' shapes, "
            f"got {cost!r}."
        )
    known: dict[tuple[Operation, tuple[Shape, ...]], float] = {}
    sums: dict[int, float] = {}
    times: dict[int, Diagram] = {}
    for statement in stated:
        form = statement.form
        key = (form.operation, form.inputs)
        if key not in known:
            known[key] = _cost_of(cost, *key, form.shape)
        times[statement.times.number] = statement.times
        sums[statement.times.number] = sums.get(statement.times.number, 0.0) + known[key]
    scaled = [(times[number], total) for number, total in sums.items() if total]
    return _merged(diagrams, [diagrams.combine(lambda n, each=total: n * each, f) for f, total in scaled])


def _cost_of(cost: str | OperationCost, operation: Operation, inputs: tuple[Shape, ...], output: Shape) -> float:
    if callable(cost):
        value = float(cost(operation, inputs))
        if not isfinite(value):
            raise InvalidInputError(f"The cost of {operation!r} on {inputs} must be a finite number, got {value!r}.")
        return value
    if cost == "macs":
        return float(operation.macs(output, *inputs))
    return float(operation.activations(output))


def _parameters(diagrams: Diagrams, stated: Sequence[Statement]) -> list[Diagram]:
    """For each path of a closed network its number of parameters: those of the first operation stated there."""
    found: dict[str, Diagram] = {}
    for statement in stated:
        count = float(statement.form.operation.params(*statement.form.inputs))
        if count:
            own = diagrams.combine(lambda n, each=count: each if n else 0.0, statement.times)
            before = found.get(statement.form.path)
            both = own if before is None else diagrams.combine(lambda first, then: first or then, before, own)
            found[statement.form.path] = both
    return _merged(diagrams, list(found.values()))


def _merged(diagrams: Diagrams, functions: list[Diagram]) -> list[Diagram]:
    """One function for all that depend on the same decisions."""
    groups: dict[frozenset[int], Diagram] = {}
    large: list[Diagram] = []
    for function in functions:
        if prod([diagrams.counts[p] for p in function.support]) > MERGED:
            large.append(function)
            continue
        before = groups.get(function.support)
        added = function if before is None else diagrams.combine(lambda a, b: a + b, before, function)
        groups[function.support] = added
    return [*groups.values(), *large]


def _compile(
    terms: list[Diagram],
    heights: Mapping[int, tuple[Diagram, int]],
    fixed: Mapping[int, int],
    counts: Mapping[int, int],
) -> _Program:
    """The sum of functions as matrices; what is fixed is taken as it is."""
    first: dict[int, int] = {}
    owners: list[int] = []
    for number, (position, count) in enumerate(counts.items()):
        first[position] = len(owners)
        owners += [number] * count
    places: dict[int, int] = {}
    leaves: list[float] = []
    levels: list[_Level] = []
    for diagram in [d for d, height in heights.values() if height == 0]:
        places[diagram.number] = len(leaves)
        leaves.append(float(diagram.value))  # type: ignore[arg-type]
    for height in range(1, max([h for _, h in heights.values()], default=0) + 1):
        rows = [d for d, h in heights.values() if h == height]
        longest = max(len(d.children) for d in rows)
        outcomes = torch.full((len(rows), longest), len(owners))
        children = torch.zeros((len(rows), longest), dtype=torch.long)
        for row, diagram in enumerate(rows):
            size = len(diagram.children)
            outcomes[row, :size] = torch.arange(size) + first[diagram.variable]
            below = [places[_settled(child, fixed).number] for child in diagram.children]
            children[row, :size] = torch.tensor(below)
        places |= {d.number: len(places) + i for i, d in enumerate(rows)}
        levels.append(_Level(outcomes, children))
    tops = [_settled(term, fixed) for term in terms]
    constant = sum([leaves[places[top.number]] for top in tops if top.is_leaf])
    roots = torch.tensor([places[top.number] for top in tops if not top.is_leaf], dtype=torch.long)
    leaf_values = torch.tensor(leaves, dtype=torch.float64)
    return _Program(leaf_values, tuple(levels), roots, constant, torch.tensor(owners, dtype=torch.long))


def _settled(diagram: Diagram, fixed: Mapping[int, int]) -> Diagram:
    while diagram.children and diagram.variable in fixed:
        diagram = diagram.children[fixed[diagram.variable]]
    return diagram


def _heights(terms: list[Diagram], fixed: Mapping[int, int]) -> dict[int, tuple[Diagram, int]]:
    """Every function below the terms, with the number of levels under it."""
    found: dict[int, tuple[Diagram, int]] = {}
    stack = [(_settled(term, fixed), False) for term in terms]
    while stack:
        diagram, ready = stack.pop()
        if diagram.number in found:
            continue
        children = [_settled(child, fixed) for child in diagram.children]
        if ready or not children:
            height = 1 + max([found[c.number][1] for c in children], default=-1)
            found[diagram.number] = (diagram, height)
        else:
            stack.append((diagram, True))
            stack.extend([(child, False) for child in children])
    return found
