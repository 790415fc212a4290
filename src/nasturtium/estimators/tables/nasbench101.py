"""NAS-Bench-101: a sample of 20,001 of its cells, trained for 4, 12, 36 and 108 epochs, with training times.

Reference:
    Ying et al. 2019, "NAS-Bench-101: Towards Reproducible Neural Architecture Search", arXiv 1902.09635.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasturtium.errors import InvalidInputError
from nasturtium.estimators.tables.column import Column
from nasturtium.estimators.tables.files import Arrays, choose
from nasturtium.estimators.tables.tabular import Tabular
from nasturtium.space import Architecture, Space
from nasturtium.trial.types import Fidelity
from nasturtium.zoo import nasbench101

FILE = "nasbench101/nasbench101_20k.npz"
INPUT_SHAPE, CLASSES = (3, 32, 32), 10
SPACES = ("table", "whole")
UNUSED = 255
"""In the file, the operation of a vertex that a cell does not have."""


def read(root: Path, part: str, *, source: Mapping[str, Any], space: str = "table") -> Tabular:
    """The table.

    "accuracy" is that of validation in one training; fidelities are `epochs` of 4/108, 12/108, 36/108 and 1, each a
    training of its own. "params" is cheap. Simulated seconds are those of the 108 epochs, times the share of epochs.
    There are no test columns.

    The file holds cells, of which each is many encodings of the space. A row's encoding keeps the file's order of
    vertices, puts the output last, and gives the vertices that the cell does not have no edges and the first
    operation. An architecture with other decisions is looked up by `nasbench101.module_hash`, so any encoding of a
    cell finds its row, and equal cells have one key. A cell that is not among the 20,001 raises `TrialError` of kind
    "missing".

    Args:
        root: Folder of data sets.
        part: Nothing.
        source: How it is opened again.
        space: What `table.space` is: "table" (`Space.from_table` of the rows: a search finds a result for all that it
            proposes), or "whole", all encodings of the space, of which most have no row.
    """
    if part:
        raise InvalidInputError(f"The table 'nasbench101' has no parts, got {part!r}.")
    whole = nasbench101.space(INPUT_SHAPE)
    with Arrays(root / FILE) as arrays:
        epochs = arrays["epochs"].astype(int).tolist()
        accuracy = arrays["valid_acc"] / 100.0
        columns = [
            Column(metric="accuracy", values=accuracy[:, i], fidelity=Fidelity(epochs=n / max(epochs)))
            for i, n in enumerate(epochs)
        ]
        columns.append(Column(metric="train_seconds", values=arrays["train_time_108_s"], role="seconds"))
        columns.append(Column(metric="params", values=arrays["params"], role="cheap"))
        rows = _rows(arrays, whole)
        hashes = arrays["module_hash"].tolist()
    kind = choose("space of the table 'nasbench101'", space, {name: name for name in SPACES})
    return Tabular(
        name="nasbench101", space=Space.from_table(Space(whole.block), rows) if kind == "table" else whole, rows=rows,
        columns=columns, input_shape=INPUT_SHAPE, classes=CLASSES, source=source,
        equal=_by_hash({name: row for row, name in enumerate(hashes)}),
    )  # fmt: skip


def _rows(arrays: Arrays, space: Space) -> NDArray[np.int8]:
    """Decision indices of all rows: the cells put on seven vertices, their output last."""
    adjacency, vertices, codes = arrays["adjacency"], arrays["n_vertices"].astype(int), arrays["ops"]
    order = np.array([list(nasbench101.OPERATIONS).index(str(name)) for name in arrays["op_names"]])
    last = nasbench101.MAX_VERTICES - 1
    numbers = np.arange(len(adjacency))
    full = adjacency.copy()
    for v in range(last):  # the output's column moves to the last place
        full[:, v, last] = np.where(vertices - 1 == last, adjacency[:, v, last], adjacency[numbers, v, vertices - 1])
        moved = vertices - 1 < last
        full[numbers[moved], v, vertices[moved] - 1] = 0
    rows = np.zeros((len(adjacency), len(space.decisions)), dtype=np.int8)
    for u, v in combinations(range(nasbench101.MAX_VERTICES), 2):
        rows[:, space.decision(f"edge_{u}_{v}").position] = full[:, u, v]
    for v in range(1, last):
        code = codes[:, v - 1]
        rows[:, space.decision(f"op_{v}").position] = order[np.where(code == UNUSED, 0, code)]
    return rows


def _by_hash(rows: Mapping[str, int]) -> Callable[[Architecture], tuple[str, int | None]]:
    def equal(architecture: Architecture) -> tuple[str, int | None]:
        chosen = architecture.choices
        edges = [int(chosen[f"edge_{u}_{v}"]) for u, v in combinations(range(nasbench101.MAX_VERTICES), 2)]
        operations = [str(chosen[f"op_{v}"]) for v in range(1, nasbench101.MAX_VERTICES - 1)]
        key = nasbench101.module_hash(nasbench101.matrix_of(edges), operations)
        return key, rows.get(key)

    return equal
