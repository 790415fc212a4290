"""Many architectures as one matrix of indices: what a search over a million candidates computes on.

A row has an index for every decision, those of inactive decisions included. Such values have no effect; they wait for
the day a mutation activates their decision, as in the lists of Once-for-All's code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import IncompatibleError
from nasturtium.graph.operations import Operation, Shape
from nasturtium.space import Architecture, Space
from nasturtium.space.diagram import Diagram
from nasturtium.space.open_graph import OpenGraph
from nasturtium.supernets.expected import Additive, additive_terms

Matrix = NDArray[np.int64]
"""`(architectures, decisions)`, an index below the decision's number of options in every place."""
Cost = Callable[[Matrix], NDArray[np.float64]]
"""Costs `(architectures,)` of the rows of a matrix, in base units."""
LARGEST_TABLE = 1_000_000
"""Entries of a table of one term at most."""


class Genes:
    """The rows of a space.

    Args:
        space: Any but a list of architectures.

    Raises:
        IncompatibleError: the space is a list of architectures, or has conditions on several decisions.
    """

    def __init__(self, space: Space) -> None:
        if space.is_table or space.conditions:
            raise IncompatibleError(
                "A search on rows of indices needs a space whose decisions are free, but this one "
                f"{'is a list of architectures' if space.is_table else 'has conditions'}: give limits as costs, or "
                "search it with a strategy such as `RegularizedEvolution`."
            )
        self.space = space
        self.names = tuple([d.name for d in space.decisions])
        self.counts = np.array([d.count for d in space.decisions], dtype=np.int64)
        self._ways = [
            [(w.decision.position, np.isin(np.arange(w.decision.count), w.indices)) for w in space.activation(name)]
            for name in self.names
        ]
        self._order = self._controllers_first()

    def _controllers_first(self) -> list[int]:
        order: list[int] = []
        left = list(range(len(self.names)))
        while left:
            ready = [d for d in left if all(p not in left for p, _ in self._ways[d])]
            assert ready, "decisions control each other"
            order += ready
            left = [d for d in left if d not in ready]
        return order

    def random(self, rng: np.random.Generator, rows: int) -> Matrix:
        """Rows whose every entry is uniform, hence every active decision."""
        return (rng.random((rows, len(self.counts))) * self.counts).astype(np.int64)

    def active(self, matrix: Matrix) -> NDArray[np.bool_]:
        """Which decisions are active in each row."""
        found = np.ones(matrix.shape, dtype=np.bool_)
        for d in self._order:
            ways = self._ways[d]
            if ways:
                found[:, d] = np.any([found[:, p] & allowed[matrix[:, p]] for p, allowed in ways], axis=0)
        return found

    def matrix(self, architectures: Sequence[Architecture]) -> Matrix:
        """The rows of architectures; 0 for their inactive decisions."""
        rows = [self.space.indices(a) for a in architectures]
        return np.maximum(np.array(rows, dtype=np.int64).reshape(len(rows), len(self.counts)), 0)

    def architecture(self, row: Matrix) -> Architecture:
        """The architecture of one row, `(decisions,)`."""
        indices = np.where(self.active(row[None])[0], row, -1)
        return self.space.of_indices(indices.tolist())


class CostTables:
    """A cost that is a sum of terms, each a table over a few decisions: the costs of a matrix by a gather a term.

    Args:
        tables: For each term the positions of its decisions and its values, an axis a decision.
        constant: What does not depend on decisions.
    """

    def __init__(self, tables: Sequence[tuple[tuple[int, ...], NDArray[np.float64]]], constant: float = 0.0) -> None:
        self.tables = tuple(tables)
        self.constant = constant
        axes = max([len(positions) for positions, _ in tables], default=0)
        self._positions = np.zeros((axes, len(tables)), dtype=np.int64)
        self._strides = np.zeros((axes, len(tables)), dtype=np.int64)
        for number, (positions, values) in enumerate(self.tables):
            for axis, position in enumerate(positions):
                self._positions[axis, number] = position
                self._strides[axis, number] = np.prod(values.shape[axis + 1 :], dtype=np.int64)
        sizes = [values.size for _, values in self.tables]
        self._starts = np.cumsum([0, *sizes], dtype=np.int64)[:-1]
        self._values = np.concatenate([np.zeros(0), *[values.ravel() for _, values in self.tables]])

    def __call__(self, matrix: Matrix) -> NDArray[np.float64]:
        """Costs of rows, `(architectures,)`."""
        places = np.broadcast_to(self._starts, (len(matrix), len(self._starts))).copy()
        for positions, strides in zip(self._positions, self._strides, strict=True):
            places += matrix[:, positions] * strides
        return self.constant + self._values[places].sum(axis=1)


def cost_tables(graph: OpenGraph, cost: Additive | Callable[[Operation, tuple[Shape, ...]], float]) -> CostTables:
    """The tables of an additive cost, exact for every architecture.

    Args:
        graph: Of a space, made by `nasturtium.space.lowering.lower`; a supernet has it as `graph`.
        cost: "macs", "activations", "params", or a function of an operation and its inputs' shapes (a latency table).

    Raises:
        IncompatibleError: a term depends on too many decisions.
        TraceError: an architecture cannot be traced.
    """
    counts = [d.count for d in graph.decisions]
    tables: list[tuple[tuple[int, ...], NDArray[np.float64]]] = []
    constant = 0.0
    for term in additive_terms(graph, cost):
        positions = tuple(sorted(term.support))
        shape = tuple([counts[p] for p in positions])
        if np.prod(shape, dtype=np.float64) > LARGEST_TABLE:
            names = ", ".join(graph.decisions[p].name for p in positions)
            raise IncompatibleError(
                f"The cost of one operation depends on {names} together, {np.prod(shape, dtype=np.float64):.3g} "
                "combinations: too many for a table. Use `CostModel`, which costs one architecture at a time."
            )
        if positions:
            tables.append((positions, _table(term, positions, shape)))
        else:
            constant += float(term.value)  # type: ignore[arg-type]
    return CostTables(tables, constant)


def _table(term: Diagram, positions: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """All values of a function of decisions."""
    values = np.empty(shape)
    indices = [0] * (positions[-1] + 1)
    for place in np.ndindex(*shape):
        for position, index in zip(positions, place, strict=True):
            indices[position] = index
        values[place] = term.at(indices)  # type: ignore[call-overload]
    return values
