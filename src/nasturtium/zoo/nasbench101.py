"""NAS-Bench-101: cells of up to seven vertices and nine edges, nine times in a network of three stacks.

Level: cell. A cell is an upper-triangular adjacency matrix and an operation on each inner vertex. Vertices that lie on
no path from input to output are pruned before anything else, so many encodings are one cell: 423,624 differ by the
authors' hash.

Reference:
    Ying et al. 2019, "NAS-Bench-101: Towards Reproducible Neural Architecture Search", arXiv 1902.09635, section 2;
    channels, truncation and hash as in the authors' code (`model_builder`, `graph_util`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import md5
from itertools import combinations
from typing import Any

from nasturtium.blocks.layers import conv_norm_act
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, UnknownNameError
from nasturtium.graph import tensor as ops
from nasturtium.graph.operations import Shape
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block, Space, one_of
from nasturtium.zoo.checks import check_whole
from nasturtium.zoo.listing import Family, classes_of

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""The candidate operations, in the order of the authors' hash."""

MAX_VERTICES = 7
MAX_EDGES = 9
UNIQUE_CELLS = 423_624
"""Cells that `module_hash` tells apart."""

VALID_ENCODINGS = 373_754_169
"""Matrices (1,538,083 of 2^21) with operations (3^5) that are valid cells; the size of the space."""

MOMENTUM = 0.003
"""Of the norms, weight of the new batch (the authors' decay is 0.997)."""

Matrix = tuple[tuple[int, ...], ...]


class NASBench101Cell(Block):
    """A cell; its output has `width` channels.

    Args:
        edges: The upper triangle of the adjacency matrix row by row, each 0 or 1: 0→1, 0→2, …, 1→2, … A cell of n
            vertices has n (n - 1) / 2.
        operations: One of `OPERATIONS` for each of the n - 2 inner vertices.
        width: Output channels.

    Raises:
        InvalidArchitectureError: the numbers of edges and operations do not fit, or no path leads to the output.
    """

    edges: tuple[Any, ...]
    operations: tuple[Any, ...]
    width: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        n = len(self.operations) + 2
        if len(self.edges) != n * (n - 1) // 2:
            raise InvalidArchitectureError(
                f"A cell with {len(self.operations)} operations has {n} vertices, so `edges` must hold "
                f"{n * (n - 1) // 2} numbers, got {len(self.edges)}."
            )

    @property
    def matrix(self) -> Matrix:
        """The adjacency matrix."""
        return matrix_of(self.edges)

    def forward(self, x: Tensor) -> Tensor:
        matrix, operations = prune(self.matrix, self.operations)
        end = len(matrix) - 1
        widths = vertex_widths(x.channels, self.width, matrix)
        values = [x]
        for v in range(1, end):
            with x.scope(f"vertex_{v}"):
                incoming = [ops.channel_slice(values[u], 0, widths[v]) for u in range(1, v) if matrix[u][v]]
                if matrix[0][v]:
                    incoming.append(_conv(x, widths[v], 1, "project"))
                values.append(_operation(ops.add(*incoming), operations[v - 1]))
        outgoing = [values[v] for v in range(1, end) if matrix[v][end]]
        if not outgoing:
            return _conv(x, self.width, 1, "project")
        y = ops.concat(*outgoing)
        return y + _conv(x, self.width, 1, "project") if matrix[0][end] else y


class NASBench101(Block):
    """The network around the cell: stem, stacks of equal cells with max pooling between, classifier.

    Args:
        stacks: The cell of each stack, with its width.
        width: Channels of the stem.
        cells: Cells in a stack.
        classes: Number of classes; None takes it from the task.
    """

    stacks: tuple[Any, ...]
    width: int = 128
    cells: int = 3
    classes: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = _conv(x, self.width, 3, "stem")
        for number, cell in enumerate(self.stacks):
            if number:
                x = ops.max_pool(x, 2, stride=2, padding=0, ceil_mode=True, name=f"pool_{number}")
            for k in range(self.cells):
                with x.scope(f"stack_{number}.{k}"):
                    x = cell(x)
        with x.scope("head"):
            classes = x.context.classes if self.classes is None else self.classes
            return ops.linear(ops.flatten(ops.global_pool(x)), classes)


def _conv(x: Tensor, width: int, kernel: int, name: str) -> Tensor:
    return conv_norm_act(x, width, kernel, momentum=MOMENTUM, name=name)


def _operation(x: Tensor, name: str) -> Tensor:
    if name == "conv3x3-bn-relu":
        return _conv(x, x.channels, 3, "conv")
    if name == "conv1x1-bn-relu":
        return _conv(x, x.channels, 1, "conv")
    if name == "maxpool3x3":
        return ops.max_pool(x, 3)
    raise UnknownNameError("NAS-Bench-101 operation", name, OPERATIONS)


def matrix_of(edges: Sequence[int]) -> Matrix:
    """The adjacency matrix whose upper triangle is given row by row."""
    n = next(n for n in range(2, len(edges) + 3) if n * (n - 1) // 2 >= len(edges))
    given = dict(zip(combinations(range(n), 2), edges, strict=True))
    return tuple(tuple(int(given.get((u, v), 0)) for v in range(n)) for u in range(n))


def prune(matrix: Sequence[Sequence[int]], operations: Sequence[str]) -> tuple[Matrix, tuple[str, ...]]:
    """Matrix and operations without the vertices that lie on no path from input to output.

    Raises:
        InvalidArchitectureError: no path leads from input to output.
    """
    n = len(matrix)
    reached, needed = {0}, {n - 1}
    for v in range(1, n):
        if any(matrix[u][v] for u in reached):
            reached.add(v)
    for u in range(n - 2, -1, -1):
        if any(matrix[u][v] for v in needed):
            needed.add(u)
    kept = sorted(reached & needed)
    if 0 not in kept or n - 1 not in kept:
        raise InvalidArchitectureError(f"No path leads from the cell's input to its output in {matrix!r}.")
    inner = tuple(operations[v - 1] for v in kept[1:-1])
    return tuple(tuple(int(matrix[u][v]) for v in kept) for u in kept), inner


def vertex_widths(width_in: int, width_out: int, matrix: Sequence[Sequence[int]]) -> list[int]:
    """Channels of every vertex of a pruned cell.

    Vertices before the output share its channels, the first ones taking the remainder; every other vertex is as wide
    as the widest that it feeds.
    """
    n = len(matrix)
    widths = [0] * n
    widths[0], widths[-1] = width_in, width_out
    last = [v for v in range(1, n - 1) if matrix[v][n - 1]]
    for place, v in enumerate(last):
        widths[v] = width_out // len(last) + (place < width_out % len(last))
    for v in range(n - 3, 0, -1):
        if v not in last:
            widths[v] = max((widths[w] for w in range(v + 1, n - 1) if matrix[v][w]), default=0)
    return widths


def module_hash(matrix: Sequence[Sequence[int]], operations: Sequence[str]) -> str:
    """The authors' MD5 key of a cell, equal for isomorphic cells after pruning.

    Args:
        matrix: `(n, n)`, upper triangular, 0 or 1.
        operations: Of the n - 2 inner vertices.

    Reference:
        `graph_util.hash_module` and `ModelSpec.hash_spec` in the authors' code.
    """
    matrix, operations = prune(matrix, operations)
    n = len(matrix)
    inputs = [[u for u in range(n) if matrix[u][v]] for v in range(n)]
    outputs = [[w for w in range(n) if matrix[v][w]] for v in range(n)]
    labels = [-1, *[OPERATIONS.index(name) for name in operations], -2]
    hashes = [_md5(str((len(outputs[v]), len(inputs[v]), labels[v]))) for v in range(n)]
    for _ in range(n):
        before = ["".join(sorted([hashes[u] for u in inputs[v]])) for v in range(n)]
        after = ["".join(sorted([hashes[w] for w in outputs[v]])) for v in range(n)]
        hashes = [_md5(f"{before[v]}|{after[v]}|{hashes[v]}") for v in range(n)]
    return _md5(str(sorted(hashes)))


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def network(
    matrix: Sequence[Sequence[int]], operations: Sequence[str], *, width: int = 128, stacks: int = 3, cells: int = 3
) -> NASBench101:
    """The closed network of a cell.

    Args:
        matrix: `(n, n)`, upper triangular, 0 or 1; n is 2 to 7 in the benchmark, any here.
        operations: Of the n - 2 inner vertices, from `OPERATIONS`.
        width: Channels of the stem and of the first stack; every later stack doubles them.
        stacks: Number of stacks.
        cells: Cells in a stack.

    Raises:
        InvalidArchitectureError: it is no upper triangular matrix of 0 and 1, the numbers do not fit, or no path leads
            to the output.
        UnknownNameError: an unknown operation.
        InvalidInputError: width, stacks or cells are no positive integers.
    """
    check_matrix(matrix)
    if len(operations) != len(matrix) - 2:
        raise InvalidArchitectureError(
            f"A cell of {len(matrix)} vertices has {len(matrix) - 2} operations, one for each but the first and the "
            f"last, got {len(operations)}: {tuple(operations)!r}."
        )
    edges = tuple(int(matrix[u][v]) for u, v in combinations(range(len(matrix)), 2))
    for name in operations:
        if name not in OPERATIONS:
            raise UnknownNameError("NAS-Bench-101 operation", name, OPERATIONS)
    prune(matrix, operations)
    return _network(edges, tuple(operations), width, stacks, cells)


def check_matrix(matrix: Sequence[Sequence[int]]) -> None:
    """Refuse what is no adjacency matrix of a cell.

    Raises:
        InvalidArchitectureError: it is not square, smaller than 2 x 2, not of 0 and 1, or has an edge that does not
            lead to a later vertex.
    """
    try:
        rows = [list(row) for row in matrix]
    except TypeError as error:
        raise InvalidArchitectureError(f"A cell's matrix is a list of rows of 0 and 1, got {matrix!r}.") from error
    n = len(rows)
    if n < 2 or any(len(row) != n for row in rows):
        raise InvalidArchitectureError(
            f"A cell's matrix must be square with at least 2 rows, got {n} of lengths {[len(row) for row in rows]}."
        )
    for u, row in enumerate(rows):
        for v, value in enumerate(row):
            if value not in (0, 1):
                raise InvalidArchitectureError(f"A cell's matrix holds 0 and 1, got {value!r} in row {u}, column {v}.")
            if value and v <= u:
                raise InvalidArchitectureError(
                    f"A cell's matrix must be strictly upper triangular: an edge leads to a later vertex, got one from "
                    f"{u} to {v}. Sort the vertices topologically, the input first and the output last."
                )


def _network(edges: tuple[Any, ...], operations: tuple[Any, ...], width: int, stacks: int, cells: int) -> NASBench101:
    for name, value in (("width", width), ("stacks", stacks), ("cells", cells)):
        check_whole(f"`{name}`", value)
    return NASBench101(
        tuple(NASBench101Cell(edges, operations, width * 2**stack) for stack in range(stacks)), width, cells
    )


def is_valid(*edges: int) -> bool:
    """Whether a cell has a path from input to output and, after pruning, at most nine edges.

    Args:
        edges: The upper triangle of its matrix, row by row.
    """
    matrix = matrix_of(edges)
    try:
        matrix, _ = prune(matrix, ("",) * len(matrix))
    except InvalidArchitectureError:
        return False
    return sum(map(sum, matrix)) <= MAX_EDGES


def space(input_shape: Shape | None = None, *, width: int = 128, stacks: int = 3, cells: int = 3) -> Space:
    """The search space over encodings: 21 edges and five operations, of which the valid ones are kept.

    Sizes: 2^21 * 3^5 = 509,607,936 encodings, of which 373,754,169 (`VALID_ENCODINGS`) have a path and at most nine
    edges after pruning and are the space; 423,624 cells differ by `module_hash` (`UNIQUE_CELLS`, the paper's figure).
    `Space.size` does not count that far and says so; `estimate_size` gives an interval.

    Args:
        input_shape: Of the task's images; the network fits any.
        width: Channels of the first stack.
        stacks: Number of stacks.
        cells: Cells in a stack.
    """
    del input_shape
    pairs = combinations(range(MAX_VERTICES), 2)
    edges = tuple(one_of(0, 1, name=f"edge_{u}_{v}") for u, v in pairs)
    operations = tuple(one_of(*OPERATIONS, name=f"op_{v}") for v in range(1, MAX_VERTICES - 1))
    return Space(_network(edges, operations, width, stacks, cells)).where(is_valid, reads=edges)


def from_codes(adjacency: Any, operations: Any, vertices: int) -> tuple[Matrix, tuple[str, ...]]:
    """Matrix and operation names from padded arrays, as tabular copies of the benchmark store them.

    Args:
        adjacency: `(7, 7)`, the first `vertices` rows and columns count.
        operations: `(5,)`, positions in `OPERATIONS` of the inner vertices; the rest is ignored.
        vertices: 2 to 7.
    """
    matrix = tuple(tuple(int(adjacency[u][v]) for v in range(vertices)) for u in range(vertices))
    return matrix, tuple(OPERATIONS[int(operations[v])] for v in range(vertices - 2))


def published(row: Mapping[str, Any]) -> NASBench101:
    """The network of a row whose config holds a matrix and operations.

    The matrix is at "matrix", "adjacency" or "module_adjacency", the operations at "operations", "ops" or
    "module_operations"; they may begin with "input" and end with "output", as the authors' do. The network has the
    classes that `classes_of` reads from the row; else CIFAR-10's.

    Raises:
        InvalidInputError: one of them is missing, or malformed; see `network`.
    """
    matrix = _first(row, ("matrix", "adjacency", "module_adjacency"))
    operations = list(_first(row, ("operations", "ops", "module_operations")))
    if len(operations) == len(matrix) and operations[:1] == ["input"] and operations[-1:] == ["output"]:
        operations = operations[1:-1]
    return replace(network(matrix, operations), classes=classes_of(row, 10))


def _first(row: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """What the config of a row holds at the first of the keys that it has."""
    config = row["config"]
    for key in keys:
        if key in config:
            return config[key]
    raise InvalidInputError(
        f"The config of the row {row.get('name')!r} needs {', '.join(keys[:-1])} or {keys[-1]}, got {list(config)}."
    )


FAMILIES = (
    Family(
        name="nasbench101",
        title="NAS-Bench-101 cells",
        level="cell",
        paper='Ying et al. 2019, "NAS-Bench-101", arXiv 1902.09635',
        space=space,
        input_shape=(3, 32, 32),
        size=VALID_ENCODINGS,
        quoted_size="423,624 unique cells",
        rows={"NAS-Bench-101": published},
    ),
)
