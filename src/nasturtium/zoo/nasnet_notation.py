"""Cells of NASNet, AmoebaNet and PNASNet in the form of the authors' code, and their operations by name.

A cell is three lists: `operations` and `hiddenstate_indices`, two items a block, and `used_hiddenstates`, one flag a
state. State 0 is the current input, 1 the previous cell's output, 2, 3, … the blocks. The states whose flag is 0 are
concatenated. The flags are the authors' own: in most cells some states that blocks read are concatenated as well.

(The DARTS code's "NASNet" and "AmoebaNet" genotypes number the inputs the other way round and are other networks.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nasturtium.blocks.nasnet_cell import Convolution, NASNetBlock, NASNetCell, Pool, Separable, Skip
from nasturtium.errors import InvalidArchitectureError, UnknownNameError
from nasturtium.space import Architecture, Block, Space
from nasturtium.zoo.nasnet_network import NASNet

OPERATIONS = (
    "none",
    "1x3_3x1",
    "1x7_7x1",
    "dilated_3x3_rate_2",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "1x1",
    "3x3",
    "separable_3x3_2",
    "separable_5x5_2",
    "separable_7x7_2",
)
"""The thirteen operations of the paper (section 3.1), by the authors' names; "none" is the identity."""

Cell = Mapping[str, Sequence[Any]]
"""A cell in the authors' form."""


def _cell(operations: str, indices: Sequence[int], used: Sequence[int]) -> Cell:
    return {
        "operations": tuple(operations.split()),
        "hiddenstate_indices": tuple(indices),
        "used_hiddenstates": tuple(used),
    }


CELLS: dict[str, dict[str, Cell]] = {
    "NASNet-A": {
        "normal": _cell(
            "separable_5x5_2 separable_3x3_2 separable_5x5_2 separable_3x3_2 avg_pool_3x3 "
            "none avg_pool_3x3 avg_pool_3x3 separable_3x3_2 none",
            (0, 1, 1, 1, 0, 1, 1, 1, 0, 0),
            (1, 0, 0, 0, 0, 0, 0),
        ),
        "reduce": _cell(
            "separable_5x5_2 separable_7x7_2 max_pool_3x3 separable_7x7_2 avg_pool_3x3 "
            "separable_5x5_2 none avg_pool_3x3 separable_3x3_2 max_pool_3x3",
            (0, 1, 0, 1, 0, 1, 3, 2, 2, 0),
            (1, 1, 1, 0, 0, 0, 0),
        ),
    },
    "PNASNet-5": {
        "normal": _cell(
            "separable_5x5_2 max_pool_3x3 separable_7x7_2 max_pool_3x3 separable_5x5_2 "
            "separable_3x3_2 separable_3x3_2 max_pool_3x3 separable_3x3_2 none",
            (1, 1, 0, 0, 0, 0, 4, 0, 1, 0),
            (1, 1, 0, 0, 0, 0, 0),
        ),
    },
    "AmoebaNet-A": {
        "normal": _cell(
            "avg_pool_3x3 max_pool_3x3 separable_3x3_2 none none "
            "avg_pool_3x3 separable_3x3_2 separable_5x5_2 avg_pool_3x3 separable_3x3_2",
            (0, 0, 1, 1, 0, 1, 0, 2, 5, 0),
            (1, 0, 1, 0, 0, 1, 0),
        ),
        "reduce": _cell(
            "separable_3x3_2 avg_pool_3x3 max_pool_3x3 separable_7x7_2 max_pool_3x3 "
            "max_pool_3x3 separable_3x3_2 1x7_7x1 avg_pool_3x3 separable_7x7_2",
            (1, 0, 0, 2, 1, 0, 4, 0, 1, 0),
            (1, 1, 0, 0, 0, 0, 0),
        ),
    },
    "AmoebaNet-B": {
        "normal": _cell(
            "1x1 max_pool_3x3 none separable_3x3_2 1x1 separable_3x3_2 1x1 none avg_pool_3x3 1x1",
            (1, 1, 1, 0, 1, 0, 2, 2, 1, 5),
            (0, 1, 1, 0, 0, 1, 0),
        ),
        "reduce": _cell(
            "max_pool_2x2 max_pool_3x3 none 3x3 dil_2_separable_5x5_2 "
            "max_pool_3x3 none separable_3x3_2 avg_pool_3x3 1x1",
            (0, 0, 2, 1, 2, 2, 3, 1, 4, 3),
            (1, 1, 1, 1, 1, 0, 0),
        ),
    },
    "AmoebaNet-C": {
        "normal": _cell(
            "avg_pool_3x3 separable_3x3_2 none separable_3x3_2 avg_pool_3x3 "
            "separable_3x3_2 none separable_3x3_2 avg_pool_3x3 separable_3x3_2",
            (0, 0, 0, 0, 2, 1, 0, 1, 3, 0),
            (1, 0, 0, 1, 0, 0, 0),
        ),
        "reduce": _cell(
            "max_pool_3x3 max_pool_3x3 separable_7x7_2 separable_3x3_2 separable_7x7_2 "
            "max_pool_3x3 separable_5x5_2 separable_5x5_2 max_pool_3x3 separable_3x3_2",
            (0, 0, 2, 0, 0, 1, 4, 4, 1, 1),
            (0, 1, 0, 0, 0, 0, 0),
        ),
    },
    "AmoebaNet-D": {
        "normal": _cell(
            "1x1 max_pool_3x3 none 1x7_7x1 1x1 1x7_7x1 max_pool_3x3 none avg_pool_3x3 1x1",
            (1, 1, 1, 0, 0, 0, 2, 2, 1, 5),
            (0, 1, 1, 0, 0, 1, 0),
        ),
        "reduce": _cell(
            "max_pool_2x2 max_pool_3x3 none 3x3 1x7_7x1 max_pool_3x3 none max_pool_2x2 avg_pool_3x3 1x1",
            (0, 0, 2, 1, 2, 2, 3, 1, 2, 3),
            (1, 1, 1, 1, 0, 0, 0),
        ),
    },
}
"""The published cells: "normal", and "reduce" where there is one (`nasnet_utils.py` and `pnasnet.py` in
tensorflow/models, `model_specs.py` in tensorflow/tpu)."""


_FORMS: tuple[tuple[str, Any], ...] = (
    (r"none", lambda _: Skip()),
    (r"(avg|max)_pool_(\d+)x\2", lambda m: Pool(m[1], int(m[2]))),
    (r"separable_(\d+)x\1_(\d+)", lambda m: Separable(int(m[1]), int(m[2]))),
    (r"dil_(\d+)_separable_(\d+)x\2_(\d+)", lambda m: Separable(int(m[2]), int(m[3]), int(m[1]))),
    (r"(\d+)x\1", lambda m: Convolution(int(m[1]))),
    (r"1x(\d+)_\1x1", lambda m: Convolution(int(m[1]), factorized=True, bottleneck=3 if m[1] == "3" else 2)),
    (r"dilated_(\d+)x\1_rate_(\d+)", lambda m: Convolution(int(m[1]), dilation=int(m[2]))),
)


def operation(name: str) -> Block:
    """An operation by the authors' name.

    "none" (identity), "avg_pool_KxK", "max_pool_KxK", "KxK", "1xK_Kx1", "dilated_KxK_rate_D", "separable_KxK_N"
    (applied N times) and "dil_D_separable_KxK_N" (whose dilation the authors' released code leaves out). All but
    "none", the pools and "1x1" of convolutions have AmoebaNet's bottleneck: F/4 channels, 3F/8 for "1x3_3x1".

    Raises:
        UnknownNameError: it is none of these.
    """
    for pattern, make in _FORMS:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return make(match)
    raise UnknownNameError("operation of a NASNet cell", name, OPERATIONS)


def name_of(block: Block) -> str:
    """The authors' name of an operation.

    Raises:
        InvalidArchitectureError: it has none.
    """
    match block:
        case Skip():
            name = "none"
        case Pool(kind=kind, kernel=k):
            name = f"{kind}_pool_{k}x{k}"
        case Separable(kernel=k, repeats=n, dilation=d):
            name = f"separable_{k}x{k}_{n}" if d == 1 else f"dil_{d}_separable_{k}x{k}_{n}"
        case Convolution(kernel=k, factorized=True):
            name = f"1x{k}_{k}x1"
        case Convolution(kernel=k, dilation=d):
            name = f"{k}x{k}" if d == 1 else f"dilated_{k}x{k}_rate_{d}"
        case _:
            name = ""
    if not name or operation(name) != block:
        raise InvalidArchitectureError(f"Expected an operation that the authors' code can name, got {block!r}.")
    return name


def from_official(cell: Cell) -> NASNetCell:
    """The closed cell of the authors' form.

    Args:
        cell: "operations", "hiddenstate_indices", "used_hiddenstates"; and "combiners", one a block, where not all
            are "add" (an addition: the authors' networks only add).

    Raises:
        InvalidArchitectureError: the lists do not fit together.
        InvalidInputError: a block reads a state that does not come before it.
        UnknownNameError: an operation that is not known.
    """
    missing = [key for key in ("operations", "hiddenstate_indices", "used_hiddenstates") if key not in cell]
    if missing:
        raise InvalidArchitectureError(f"A cell needs {', '.join(missing)}, got the keys {sorted(cell)}.")
    names, indices, used = cell["operations"], cell["hiddenstate_indices"], cell["used_hiddenstates"]
    blocks = len(names) // 2
    combiners = cell.get("combiners", ("add",) * blocks)
    if len(names) != 2 * blocks or [len(indices), len(used), len(combiners)] != [2 * blocks, blocks + 2, blocks]:
        raise InvalidArchitectureError(
            "A cell of B blocks has 2B operations, 2B hidden-state indices, B + 2 flags of used states and B "
            f"combiners, got {len(names)}, {len(indices)}, {len(used)} and {len(combiners)}."
        )
    made = [
        NASNetBlock(
            indices[2 * i], indices[2 * i + 1], operation(names[2 * i]), operation(names[2 * i + 1]), combiners[i]
        )
        for i in range(blocks)
    ]
    return NASNetCell(tuple(made), tuple([state for state, flag in enumerate(used) if not flag]))


def to_official(cell: Block) -> dict[str, list[Any]]:
    """The authors' form of a closed cell; see `from_official`.

    Raises:
        InvalidArchitectureError: it is no closed cell, or holds an operation without a name.
    """
    if not isinstance(cell, NASNetCell) or cell.is_open:
        raise InvalidArchitectureError(f"Expected a closed `NASNetCell`, got {cell!r}.")
    combiners = [block.combiner for block in cell.blocks]
    concatenated = cell.concatenated
    form = {
        "operations": [name_of(op) for block in cell.blocks for op in (block.first_operation, block.second_operation)],
        "hiddenstate_indices": [
            state for block in cell.blocks for state in (block.first_hidden_state, block.second_hidden_state)
        ],
        "used_hiddenstates": [int(state not in concatenated) for state in range(len(cell.blocks) + 2)],
    }
    return form if set(combiners) == {"add"} else {**form, "combiners": combiners}


def network(cells: Mapping[str, Cell], *, number: int, width: int, **fields: Any) -> NASNet:
    """The closed network of cells in the authors' form.

    Args:
        cells: "normal", and "reduce" where the reductions are cells of their own; see `nasnet_notation`.
        number: Normal cells in all (`NASNet.cells`).
        width: Channels F.
        **fields: Further fields of `NASNet`.

    Raises:
        InvalidArchitectureError: a cell is malformed.
    """
    reduction = from_official(cells["reduce"]) if "reduce" in cells else None
    return NASNet(from_official(cells["normal"]), reduction, width, number, **fields)


def official_form(architecture: Architecture | Block) -> dict[str, dict[str, list[Any]]]:
    """The cells of an architecture or a network in the authors' form: "normal", and "reduce" where there is one.

    Raises:
        InvalidArchitectureError: it is no closed network of NASNet cells.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    if not isinstance(block, NASNet):
        raise InvalidArchitectureError(f"Expected a network of NASNet cells, got {architecture!r}.")
    pair = {"normal": block.normal, "reduce": block.reduction}
    return {name: to_official(cell) for name, cell in pair.items() if cell is not None}


def architecture(cells: Mapping[str, Cell], space: Space, *, exact: bool = True) -> Architecture:
    """The architecture of a space that cells in the authors' form name.

    Args:
        cells: "normal", and "reduce" where the space has a reduction cell.
        space: Made by `space`, `lecture_space` or `pnas`.
        exact: Whether the concatenated states must be those that the space concatenates. The authors concatenate some
            states that are read as well (NASNet-A, AmoebaNet), which no decision of the paper's space says; False
            takes the decisions alone.

    Raises:
        InvalidArchitectureError: the cells are not of this space.
        InvalidInputError: a decision's value is not among its options.
    """
    decisions: dict[str, Any] = {}
    for field, key in (("normal", "normal"), ("reduction", "reduce")):
        has = getattr(space.block, field, None) is not None
        if has != (key in cells):
            raise InvalidArchitectureError(
                f"The space has {'a' if has else 'no'} cell for {key!r}, got cells for {', '.join(cells)}."
            )
        if has:
            decisions |= _decisions(from_official(cells[key]), field)
    known = {d.name for d in space.decisions}
    made = space.architecture({name: value for name, value in decisions.items() if name in known})
    form = official_form(made)
    for key, cell in cells.items():
        for part, values in form[key].items():
            if list(cell.get(part, ())) != values and (exact or part != "used_hiddenstates"):
                raise InvalidArchitectureError(
                    f"The {key!r} cell has {part} {list(cell.get(part, ()))}, which in this space is {values}; "
                    "`exact=False` takes the decisions where only `used_hiddenstates` differs."
                )
    return made


def _decisions(cell: NASNetCell, field: str) -> dict[str, Any]:
    return {
        f"{field}.blocks.{number}.{name}": getattr(block, name)
        for number, block in enumerate(cell.blocks)
        for name in block._field_names
    }
