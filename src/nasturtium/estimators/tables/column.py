"""A column of a table: its numbers, what they measure, and who may read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError
from nasturtium.trial.types import FULL, Fidelity

Role = Literal["validation", "cheap", "test", "seconds"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """Numbers of one metric, one a row, in base units (fractions, counts, bytes, seconds).

    Args:
        metric: Its name, for example "accuracy".
        values: `(rows,)` numbers.
        role: "validation": what a search measures; "cheap": known before training; "test": for the report only, no
            search reads it; "seconds": the time of one training, which drives the simulated clock.
        fidelity: At which the numbers were measured. Columns that are cheap or of the test have
            none.
        missing: Whether a NaN is admitted and means "not known". Otherwise it is an error.

    Raises:
        InvalidInputError: the numbers are no `(rows,)` array, not finite, out of range, or the role is unknown.
    """

    metric: str
    values: NDArray[np.floating[Any]]
    role: Role = "validation"
    fidelity: Fidelity = FULL
    missing: bool = False

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidInputError(f"The role of a column must be one of {', '.join(ROLES)}, got {self.role!r}.")
        if self.role in ("cheap", "test") and self.fidelity != FULL:
            raise InvalidInputError(f"A {self.role} column has no fidelity, got {self.fidelity!r} of {self.metric!r}.")
        try:
            values = np.ascontiguousarray(self.values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"The column {self.metric!r} must hold numbers: {error}.") from error
        if values.ndim != 1:
            raise InvalidInputError(f"The column {self.metric!r} must have one number a row, got {values.shape}.")
        wrong = np.isinf(values) if self.missing else ~np.isfinite(values)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InvalidInputError(
                f"The column {self.metric!r} ({self.role}) is {values[row]} in row {row} (of {int(wrong.sum())} such). "
                "Leave such rows out, or declare the column `missing`, where NaN means that it is not known."
            )
        self._check_range(values)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def _check_range(self, values: NDArray[np.float64]) -> None:
        """Accuracies are fractions, and times are not negative: percent and wrong signs are common slips."""
        if "accuracy" in self.metric:
            wrong = (values < 0) | (values > 1)
            expected = "a fraction in [0, 1]; divide percentages by 100"
        elif self.role == "seconds":
            wrong, expected = values < 0, "a time of 0 s or more"
        else:
            return
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InvalidInputError(f"The column {self.metric!r} must hold {expected}, got {values[row]} in row {row}.")


def merge_repeats(rows: NDArray[Any], columns: Sequence[Column]) -> tuple[NDArray[Any], tuple[Column, ...]]:
    """Rows and columns in which each architecture stands once, with the mean of its numbers that are known.

    Args:
        rows: `(rows, decisions)` decision indices.
        columns: Of as many numbers.

    Returns:
        The rows, in the order of their first occurrence, and their columns.
    """
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    group = np.argsort(order)[group.reshape(-1)]  # numbers of the groups by first occurrence
    merged = []
    for column in columns:
        known = ~np.isnan(column.values)
        count = np.bincount(group, weights=known, minlength=len(order))
        total = np.bincount(group, weights=np.where(known, column.values, 0.0), minlength=len(order))
        mean = np.divide(total, count, out=np.full(len(order), np.nan), where=count > 0)
        merged.append(replace(column, values=mean))
    return rows[np.sort(first)], tuple(merged)
