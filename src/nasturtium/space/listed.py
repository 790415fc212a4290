"""Spaces that are tables: the architectures are listed, row by row, and nothing else is in the space.

Laws of `Space` that read differently here: a mutation is a uniform draw among the other rows of the fewest changed
decisions (a table that is a sample of a large space seldom has two rows that differ in one), the neighbours are all of
these, and a crossover's child is the row nearest to the crossed decisions. A decision that is active in one row only
counts as changed.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.space.structure import Indices

Matrix = NDArray[np.integer[Any]]


class Rows:
    """Decision indices of listed architectures, found by their decisions in constant time.

    Args:
        matrix: `(rows, decisions)` indices; -1 for an inactive decision.
    """

    def __init__(self, matrix: Matrix) -> None:
        self.code = "b" if matrix.size == 0 or int(matrix.max()) <= 127 else "q"
        self.matrix: Matrix = np.ascontiguousarray(matrix, dtype=self.code)
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
            return self._places.get(array(self.code, indices).tobytes())
        except OverflowError:
            return None

    def row(self, number: int) -> Indices:
        """The decisions of a row."""
        return tuple(self.matrix[number].tolist())

    def first_repeated(self) -> tuple[int, int] | None:
        """The first row that equals an earlier one, after that one; None where all differ."""
        if len(self._places) == len(self.matrix):
            return None
        for number in range(len(self.matrix)):
            first = self._places[self.matrix[number].tobytes()]
            if first != number:
                return first, number
        return None

    def changes(self, indices: Sequence[int]) -> NDArray[np.int32]:
        """For each row the number of decisions that differ from these."""
        total = np.zeros(len(self.matrix), dtype=np.int32)
        for column, index in zip(self._columns, indices, strict=True):
            total += column != index
        return total
