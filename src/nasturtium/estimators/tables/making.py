"""Tables of a user's own: from architectures in any form, and columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium import zoo
from nasturtium.errors import InvalidInputError, SizeUnknownError
from nasturtium.estimators.tables.column import Column
from nasturtium.estimators.tables.tabular import Tabular
from nasturtium.space import Architecture, Space

READERS: dict[str, Callable[[str, Space], Architecture]] = {
    "darts": zoo.darts.architecture,
    "enas_micro": zoo.enas.architecture,
    "enas_macro": zoo.enas_macro.architecture,
    "fbnet": zoo.fbnet.architecture,
    "nasbench201": zoo.nasbench201.architecture,
    "nasbench_macro": zoo.nasbench_macro.architecture,
    "nats_size": zoo.nats.architecture,
    "transnas_macro": zoo.transnas.architecture,
}
"""Readers of the official strings, by the space's name in the zoo."""

Form = Architecture | str | Mapping[str, Any]
"""An architecture; an official string, or decisions as JSON; or decisions: values by name."""


def make_table(
    name: str,
    space: Space | str,
    architectures: Iterable[Form] | NDArray[np.integer[Any]],
    columns: Sequence[Column],
    *,
    listed: bool | None = None,
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
) -> Tabular:
    """Make a table of what is known of some architectures.

    Args:
        name: For people.
        space: Theirs; or the name of one of the zoo, whose official strings are then understood.
        architectures: One a row: architectures; official strings; decisions (values by name), as a mapping or as JSON;
            or a `(rows, decisions)` array of decision indices in the order of `space.decisions`, -1 where inactive.
        columns: Their numbers, in the same order, in base units.
        listed: Whether the table's space is the rows alone (`Space.from_table`); None for that where there are fewer
            rows than architectures in the space.
        input_shape: Of the task on which the networks were trained, `(channels, height, width)`.
        classes: Of that task.

    Returns:
        The table, in memory; `save` writes it.

    Raises:
        InvalidInputError: an architecture cannot be read or is repeated, a column does not fit, or a number is not
            finite; the message says which row.

    Example:
        >>> import nasturtium as nas
        >>> space = nas.Space(nas.Conv(nas.one_of(8, 16, name="width"), kernel=nas.one_of(3, 5, name="kernel")))
        >>> rows = [{"width": 8, "kernel": 3}, {"width": 16, "kernel": 5}]
        >>> columns = [nas.estimators.Column(metric="accuracy", values=[0.8, 0.9])]
        >>> table = nas.estimators.make_table("two", space, rows, columns)
        >>> table.best()[0], table.space.size
        (0.9, 2)
    """
    reader = READERS.get(space) if isinstance(space, str) else None
    whole = zoo.space(space, tuple(input_shape)) if isinstance(space, str) else space
    if isinstance(architectures, np.ndarray):
        rows = architectures
    else:
        found = [whole.indices(_read(form, i, whole, reader)) for i, form in enumerate(architectures)]
        rows = np.array(found, dtype=np.int64).reshape(len(found), len(whole.decisions))
    if listed is None:
        listed = not whole.is_table and len(rows) < _size(whole)
    try:
        used = Space.from_table(whole, rows) if listed else whole
        return Tabular(
            name=name, space=used, rows=rows, columns=columns, input_shape=tuple(input_shape), classes=classes
        )
    except InvalidInputError as error:
        raise type(error)(f"The table {name!r}: {error}") from None


def _size(space: Space) -> float:
    try:
        return space.size
    except SizeUnknownError:
        return float("inf")


def _read(form: Form, row: int, space: Space, reader: Callable[[str, Space], Architecture] | None) -> Architecture:
    """The architecture of a row."""
    try:
        if isinstance(form, Architecture):
            return space.adopt(form)
        if isinstance(form, str):
            return _read_text(form, space, reader)
        return space.architecture({name: value for name, value in form.items()})  # noqa: C416  (its type of keys)
    except (InvalidInputError, ValueError, TypeError) as error:
        raise InvalidInputError(f"Row {row}, {form!r}, is no architecture of {space!r}: {error}") from error


def _read_text(text: str, space: Space, reader: Callable[[str, Space], Architecture] | None) -> Architecture:
    """The architecture of an official string, or of decisions as JSON."""
    if text.lstrip().startswith("{"):
        return space.architecture(json.loads(text))
    if reader is None:
        known = ", ".join(sorted(READERS))
        raise InvalidInputError(
            f"it is no JSON object of decisions, and official strings are known of the zoo's spaces {known} only, "
            "where the space is given by name."
        )
    return reader(text, space)
