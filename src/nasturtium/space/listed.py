"""Spaces that are tables: the architectures are listed, row by row, and nothing else is in the space.

Laws of `Space` that read differently here: a mutation is a uniform draw among the nearest other rows, the neighbours
are all of these, and a crossover's child is a row nearest to the crossed decisions. Near is what differs in few
decisions; a decision that is active in only one of two rows counts. The nearest rows are those of the fewest changes;
where these are fewer than ln(rows), those of one change more are taken too, and so on: a table that is a sample of a
large space seldom has two rows that differ in one decision, and where each row led only to its very nearest, a search
would soon go in circles (graphs of nearest neighbours hang together from about ln n neighbours on: Xue, Kumar 2004,
"The number of neighbors needed for connectivity of wireless networks"). A row never needs more than the architecture
has single changes in the whole space, so that a table of a whole space varies as that space does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from math import ceil, log
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InfeasibleError, InvalidArchitectureError, InvalidInputError
from nasturtium.space.conditions import Condition, Conditions, Interval
from nasturtium.space.counting import decision_id
from nasturtium.space.plan import Plan
from nasturtium.space.structure import Indices
from nasturtium.space.vary import Only, allowed, crossed

Matrix = NDArray[np.integer[Any]]

REMEMBERED = 1 << 16
"""Rows whose nearest rows are remembered; beyond, they are forgotten and found anew."""

SMALL = 127
"""Largest index that is stored in one byte."""


class Rows:
    """Decision indices of listed architectures, found by their decisions in constant time.

    Args:
        matrix: `(rows, decisions)` indices; -1 for an inactive decision.
    """

    def __init__(self, matrix: Matrix) -> None:
        self._code = "b" if matrix.size == 0 or int(matrix.max()) <= SMALL else "q"
        self.matrix: Matrix = np.array(matrix, dtype=self._code, order="C")
        self.matrix.setflags(write=False)

    def __len__(self) -> int:
        return len(self.matrix)

    @cached_property
    def _places(self) -> dict[bytes, int]:
        text, width = self.matrix.tobytes(), self.matrix.shape[1] * self.matrix.itemsize
        return {text[i * width : (i + 1) * width]: i for i in range(len(self.matrix) - 1, -1, -1)}

    @cached_property
    def _columns(self) -> Matrix:
        return np.ascontiguousarray(self.matrix.T)

    def find(self, indices: Sequence[int]) -> int | None:
        """The row with these decisions; None where there is none."""
        try:
            return self._places.get(array(self._code, indices).tobytes())
        except OverflowError:
            return None

    def row(self, number: int) -> Indices:
        """The decisions of a row."""
        return tuple(self.matrix[number].tolist())

    def first_repeated(self) -> tuple[int, int] | None:
        """The first row that equals an earlier one, after that one; None where all differ."""
        if len(self._places) == len(self.matrix):
            return None
        places = (self._places[row.tobytes()] for row in self.matrix)
        return next((first, number) for number, first in enumerate(places) if first != number)

    def changes(self, indices: Sequence[int], positions: Iterable[int] | None = None) -> NDArray[Any]:
        """For each row the number of decisions that differ from these.

        Args:
            indices: Of one architecture.
            positions: The decisions that count; None for all.
        """
        small = len(indices) <= np.iinfo(np.uint8).max
        total: NDArray[Any] = np.zeros(len(self.matrix), dtype=np.uint8 if small else np.uint32)
        for position in range(len(indices)) if positions is None else positions:
            total += (self._columns[position] != indices[position]).view(np.uint8)
        return total


class Listed(Conditions):
    """Listed rows, and the conditions that `where` put on top.

    Args:
        plan: Of the open block.
        rows: All rows, whether they meet the conditions or not.
        conditions: Of `where`.
    """

    def __init__(self, plan: Plan, rows: Rows, conditions: tuple[Condition, ...] = ()) -> None:
        super().__init__(plan, conditions)
        self.rows = rows
        self._nearest: dict[int, NDArray[np.intp]] = {}

    @property
    def table(self) -> Listed:
        """Itself."""
        return self

    def adding(self, condition: Condition) -> Listed:
        """These rows under one more condition."""
        return Listed(self.plan, self.rows, (*self.conditions, condition))

    @cached_property
    def kept(self) -> Rows:
        """The rows that meet the conditions.

        Raises:
            InfeasibleError: none does.
        """
        if not self.conditions:
            return self.rows
        meets = [super(Listed, self).holds(indices) for indices in self.rows.matrix.tolist()]
        if not any(meets):
            listed = ", ".join(map(str, self.conditions))
            raise InfeasibleError(f"The space is empty: none of {len(self.rows):,} rows meets {listed}.")
        return Rows(self.rows.matrix[np.array(meets)])

    def holds(self, indices: Indices | list[int]) -> bool:
        return self.rows.find(indices) is not None and super().holds(indices)

    def check(self, indices: Indices) -> None:
        if self.rows.find(indices) is None:
            raise InvalidArchitectureError(
                f"The decisions {indices!r} are not one of the {len(self.rows):,} rows of this space, which is a table."
            )
        super().check(indices)

    # Size, enumeration, drawing

    def size(self) -> int:
        try:
            return len(self.kept)
        except InfeasibleError:
            return 0

    def estimate(self, rng: Random, samples: int, confidence: float) -> Interval:
        size = self.size()
        return Interval(low=size, high=size, estimate=size, confidence=confidence, samples=0)

    def enumerate(self) -> Iterator[Indices]:
        return (self.kept.row(number) for number in range(self.size()))

    def at(self, index: int) -> Indices:
        return self.kept.row(index)

    def uniform(self, rng: Random) -> Indices:
        return self.kept.row(int(rng.random() * len(self.kept)))

    def hierarchical(self, rng: Random) -> Indices:
        """Decision by decision, uniform among the values that the rows still have."""
        left = self.kept.matrix
        for position in range(left.shape[1]):
            values = np.unique(left[:, position])
            left = left[left[:, position] == values[int(rng.random() * len(values))]]
        return tuple(left[0].tolist())

    # Varying

    def nearest(self, indices: Indices, only: Only = None) -> NDArray[np.intp]:
        """The nearest other rows (see above), among the rows that `only` admits.

        Raises:
            InfeasibleError: there is no other row.
        """
        row = self.kept.find(indices) if only is None else None
        if row is not None and row in self._nearest:
            return self._nearest[row]
        changes = self.kept.changes(indices)
        admitted = changes > 0
        if only is not None:
            fixed = [position for position, free in enumerate(allowed(self, only)) if not free]
            admitted &= self.kept.changes(indices, fixed) == 0
        if not admitted.any():
            limited = f" which differs only in what {only!r} admits" if only is not None else ""
            raise InfeasibleError(f"The table has no other row{limited}.")
        within = np.cumsum(np.bincount(changes[admitted]))
        radius = int(np.searchsorted(within, min(self._enough(indices), within[-1])))
        found = np.flatnonzero(admitted & (changes <= radius))
        if row is not None:
            if len(self._nearest) >= REMEMBERED:
                self._nearest.clear()
            self._nearest[row] = found
        return found

    def _enough(self, indices: Indices) -> int:
        """How many rows are to be near an architecture, if there are so many."""
        singles = sum(count - 1 for count, index in zip(self.plan.counts, indices, strict=True) if index >= 0)
        return max(1, min(singles, ceil(log(len(self.kept)))))

    def closest(self, indices: Indices) -> Indices:
        """The first of the rows that differ from these in the fewest decisions; themselves, if they are a row."""
        if self.kept.find(indices) is not None:
            return indices
        return self.kept.row(int(self.kept.changes(indices).argmin()))

    def mutate(self, indices: Indices, rng: Random, only: Only = None) -> Indices:
        """A row drawn from the nearest; see `Space.from_table`."""
        return self._draw_row(self.nearest(indices, only), rng)

    def neighbours(self, indices: Indices, only: Only = None) -> Iterator[Indices]:
        """The nearest rows, in the table's order."""
        try:
            found = self.nearest(indices, only)
        except InfeasibleError:
            return iter(())
        return (self.kept.row(int(number)) for number in found)

    def cross(self, a: Indices, b: Indices, rng: Random, how: str) -> Indices:
        """A row drawn from those nearest to the crossed decisions."""
        child = crossed(self.plan, a, b, rng, how)
        if self.kept.find(child) is not None:
            return child
        changes = self.kept.changes(child)
        return self._draw_row(np.flatnonzero(changes == changes.min()), rng)

    def _draw_row(self, numbers: NDArray[np.intp], rng: Random) -> Indices:
        return self.kept.row(int(numbers[int(rng.random() * len(numbers))]))

    # Storing

    @cached_property
    def digest(self) -> str:
        """Of all rows, in their order."""
        return hashlib.sha256(self.rows.matrix.astype("<i8").tobytes()).hexdigest()

    def to_dict(self) -> dict[str, object]:
        """Plain JSON of all rows: their number and their indices, packed."""
        content = zlib.compress(self.rows.matrix.astype("<i8").tobytes())
        return {"count": len(self.rows), "indices": base64.b64encode(content).decode()}


def listed(plan: Plan, matrix: Matrix) -> Listed:
    """Rows of a plan, checked.

    Raises:
        InvalidInputError: there are none, or a row is repeated.
        InvalidArchitectureError: a row is not of the plan; the message says which.
    """
    if matrix.ndim != 2 or not len(matrix) or not np.issubdtype(matrix.dtype, np.integer):
        raise InvalidInputError(
            f"A space is made of a table of `(rows, decisions)` integers of at least one row, got shape {matrix.shape} "
            f"of {matrix.dtype}."
        )
    if matrix.shape[1] != len(plan.decisions):
        raise InvalidInputError(
            f"This space has {len(plan.decisions)} decisions, so each row of the table needs as many indices, got "
            f"{matrix.shape[1]}."
        )
    _check_rows(plan, matrix)
    rows = Rows(matrix)
    repeated = rows.first_repeated()
    if repeated is not None:
        raise InvalidInputError(
            f"The rows {repeated[0]} and {repeated[1]} of the table are the same architecture: list each once."
        )
    return Listed(plan, rows)


def _check_rows(plan: Plan, matrix: Matrix) -> None:
    certain = plan.counter.certain(plan.structure.root.id)
    if all(plan.leaf[p] and decision_id(p) in certain for p in range(len(plan.decisions))):
        wrong = ((matrix < 0) | (matrix >= np.array(plan.counts))).any(axis=1)
        suspects = np.flatnonzero(wrong)[:1]
    else:
        suspects = np.arange(len(matrix))
    for number in suspects:
        try:
            plan.check(tuple(matrix[number].tolist()))
        except InvalidArchitectureError as error:
            raise InvalidArchitectureError(f"Row {number} of the table: {error}") from None


def read_listed(plan: Plan, data: Mapping[str, Any]) -> Listed:
    """Inverse of `Listed.to_dict`.

    Raises:
        InvalidArchitectureError: the stored rows are damaged.
    """
    try:
        content = zlib.decompress(base64.b64decode(data["indices"], validate=True))
        matrix = np.frombuffer(content, dtype="<i8").reshape(int(data["count"]), len(plan.decisions))
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise InvalidArchitectureError(f"The stored rows of a space cannot be read: {error}.") from error
    return listed(plan, matrix)
