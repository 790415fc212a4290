"""NAS-Bench-201: one cell of six edges and five operations, repeated through a small residual network.

Level: cell. The cell is one decision for the whole network: every position holds the same operations, with weights of
its own. The authors' key for equal cells, `unique_string`, stands beside the library's canonical hash; they differ
(see there).

Reference:
    Dong, Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search",
    arXiv 2001.00326, section 2.1 and figure 1; network as in the authors' code (`TinyNetwork`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nasturtium.blocks.cell import PreActConv, SumCell, Zero
from nasturtium.blocks.conv import AvgPool, Identity
from nasturtium.errors import InvalidArchitectureError, UnknownNameError
from nasturtium.graph import tensor as ops
from nasturtium.graph.operations import Shape
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Space, one_of
from nasturtium.zoo.checks import check_whole
from nasturtium.zoo.listing import Family, classes_of

OPERATIONS: dict[str, Block] = {
    "none": Zero(),
    "skip_connect": Identity(),
    "nor_conv_1x1": PreActConv(kernel=1),
    "nor_conv_3x3": PreActConv(kernel=3),
    "avg_pool_3x3": AvgPool(),
}
"""The candidate operations by their official names, in the official order."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The edges (from, to), in the order of the official string."""

UNIQUE_CELLS = 6_466
"""Cells that `unique_string` tells apart."""


class NASBench201(Block):
    """The network around the cell: stem, three stages of equal cells with residual reductions between, classifier.

    Args:
        cell: The cell, a `SumCell` on four nodes.
        width: Channels of the first stage; each reduction doubles them.
        cells: Cells in a stage.
        classes: Number of classes; None takes it from the task.
    """

    cell: Any
    width: int = 16
    cells: int = 5
    classes: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        with x.scope("stem"):
            x = ops.batch_norm(ops.conv(x, self.width))
        for stage in range(3):
            if stage:
                with x.scope(f"reduction_{stage}"):
                    x = _reduction(x, self.width * 2**stage)
            for number in range(self.cells):
                with x.scope(f"stage_{stage}.{number}"):
                    x = self.cell(x)
        with x.scope("head"):
            x = ops.activation(ops.batch_norm(x), "relu")
            x = ops.flatten(ops.global_pool(x))
            return ops.linear(x, x.context.classes if self.classes is None else self.classes)


def _reduction(x: Tensor, width: int) -> Tensor:
    """Residual block that halves the size: two pre-activation convolutions beside a pooled 1x1 convolution."""
    with x.scope("first"):
        y = ops.batch_norm(ops.conv(ops.activation(x, "relu"), width, stride=2))
    with x.scope("second"):
        y = ops.batch_norm(ops.conv(ops.activation(y, "relu"), width))
    with x.scope("shortcut"):
        x = ops.conv(ops.avg_pool(x, 2, stride=2, padding=0), width, 1)
    return x + y


def space(input_shape: Shape | None = None, *, width: int = 16, cells: int = 5) -> Space:
    """The search space: 15,625 cells.

    Args:
        input_shape: Of the task's images; the network fits any.
        width: Channels of the first stage.
        cells: Cells in a stage.

    Raises:
        InvalidInputError: the width or the number of cells is no positive integer.
    """
    del input_shape
    _check_size(width, cells)
    edges = tuple(one_of(*OPERATIONS.values(), name=f"edge_{source}_{target}") for source, target in EDGES)
    return Space(NASBench201(SumCell(edges), width, cells))


def _check_size(width: int, cells: int) -> None:
    check_whole("`width`, the channels of the first stage,", width)
    check_whole("`cells`, those of a stage,", cells)


def network(text: str, *, width: int = 16, cells: int = 5) -> NASBench201:
    """The closed network of an official architecture string.

    Args:
        text: For example "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|none~2|".
        width: Channels of the first stage.
        cells: Cells in a stage.

    Raises:
        InvalidArchitectureError: the string is not of this form.
        UnknownNameError: it names an unknown operation.
        InvalidInputError: the width or the number of cells is no positive integer.
    """
    _check_size(width, cells)
    return NASBench201(SumCell(tuple(OPERATIONS[name] for name in parse(text))), width, cells)


def architecture(text: str, space: Space) -> Architecture:
    """The architecture of a NAS-Bench-201 space that an official string names."""
    chosen = zip(EDGES, parse(text), strict=True)
    return space.architecture({f"edge_{source}_{target}": OPERATIONS[name] for (source, target), name in chosen})


def parse(text: str) -> tuple[str, ...]:
    """Names of the six operations in an official string, in the order of `EDGES`.

    Raises:
        InvalidArchitectureError: the string is not of this form.
        UnknownNameError: it names an unknown operation.
    """
    names: list[str] = []
    nodes = text.split("+")
    for target, node in enumerate(nodes, start=1):
        parts = node.strip("|").split("|")
        for source, part in enumerate(parts):
            name, _, number = part.partition("~")
            if len(nodes) != 3 or len(parts) != target or number != str(source):
                raise InvalidArchitectureError(
                    f"A NAS-Bench-201 cell is written '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|', got {text!r}."
                )
            if name not in OPERATIONS:
                raise UnknownNameError("NAS-Bench-201 operation", name, OPERATIONS)
            names.append(name)
    return tuple(names)


def to_string(architecture: Architecture | Block) -> str:
    """The official string of an architecture, a network or a cell.

    Raises:
        InvalidArchitectureError: it is not a closed NAS-Bench-201 cell.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    cell = getattr(block, "cell", block)
    known = {operation: name for name, operation in OPERATIONS.items()}
    if not isinstance(cell, SumCell) or len(cell.edges) != 6 or not all(edge in known for edge in cell.edges):
        raise InvalidArchitectureError(f"Expected a closed NAS-Bench-201 cell, got {architecture!r}.")
    names = iter([known[edge] for edge in cell.edges])
    nodes = ["|" + "".join(f"{next(names)}~{source}|" for source in range(target)) for target in (1, 2, 3)]
    return "+".join(nodes)


def unique_string(text: str) -> str:
    """The authors' key of a cell: 6,466 distinct over all 15,625 cells.

    A node is the sorted join of its inputs. An input through `none`, or from a node that is zero, is "#"; through
    `skip_connect` it is its source; otherwise it is its source in brackets with the operation's name. This is not
    functional equality: zeros stay in sums, and one convolution used twice is the same as two convolutions.

    Args:
        text: The official string.

    Reference:
        `Structure.to_unique_str(consider_zero=True)` in the authors' code.
    """
    nodes = ["0"]
    incoming: dict[int, list[str]] = {1: [], 2: [], 3: []}
    for (source, target), name in zip(EDGES, parse(text), strict=True):
        if target == len(nodes) + 1:
            nodes.append("+".join(sorted(incoming[target - 1])))
        if name == "none" or nodes[source] == "#":
            incoming[target].append("#")
        elif name == "skip_connect":
            incoming[target].append(nodes[source])
        else:
            incoming[target].append(f"({nodes[source]})@{name}")
    return "+".join(sorted(incoming[3]))


def published(row: Mapping[str, Any]) -> NASBench201:
    """The network of a row of `reference_values.json` of the space "NAS-Bench-201".

    It has the classes that `classes_of` reads from the row, for example of CIFAR-100; else CIFAR-10's.
    """
    config = row["config"]
    block = network(config["arch_str"], width=config["init_channels"], cells=config["cells_per_stage"])
    return replace(block, classes=classes_of(row, 10))


FAMILIES = (
    Family(
        name="nasbench201",
        title="NAS-Bench-201 cells",
        level="cell",
        paper='Dong, Yang 2020, "NAS-Bench-201", arXiv 2001.00326',
        space=space,
        input_shape=(3, 32, 32),
        size=15_625,
        quoted_size="15,625",
        rows={"NAS-Bench-201": published},
    ),
)
