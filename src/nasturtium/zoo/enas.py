"""ENAS micro: a normal and a reduction cell of five nodes, each node with two inputs and an operation on each.

Level: cell. Both cells are searched together and repeated through a network that is given. (The other space of the
paper, ENAS macro, stands in `zoo.enas_macro`.)
Task: image classification.

State 0 of a cell is the output two cells back, 1 that of the previous cell, 2 the first node. The output is made of
the states that no node reads. In a supernet every (node, input, operation) has weights of its own, and the convolution
that ends a cell finds the weights of each state by its number, as in the authors' code.

Reference:
    Pham, Guan, Zoph, Le, Dean (2018), "Efficient Neural Architecture Search via Parameter Sharing", arXiv 1802.03268,
    section 2.4 and figure 5; networks as in the authors' code (`micro_child.py`). Differs from it: windows with a
    stride are centred, where TensorFlow's lie half a pixel further.
"""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

from nasturtium.blocks.darts_cell import INPUTS, Pool, SepConv, factorized_reduction
from nasturtium.blocks.enas_cell import AuxiliaryHead, Branch, Cell, Head, Identity, Node
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.operations import Shape
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Choice, Space, one_of
from nasturtium.zoo import enas_macro
from nasturtium.zoo.listing import Family

NODES = 5
"""Nodes of a cell; B = 7 in the paper counts the two inputs."""

NORMAL = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1"
REDUCTION = "1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"
PUBLISHED = f"{NORMAL} {REDUCTION}"
"""The cells of the authors' `scripts/cifar10_micro_final.sh`."""


OPERATIONS: dict[str, Block] = {
    "sep3": SepConv(3),
    "sep5": SepConv(5),
    "avg3": Pool("avg"),
    "max3": Pool("max"),
    "id": Identity(),
}
"""The operations in the official order: an arc has their numbers."""


class ENASMicro(Block):
    """Stem, cells with two reductions, classifier without bias; where asked for, an auxiliary classifier.

    Args:
        normal: The normal cell; every place has weights of its own.
        reduction: The reduction cell. In the search a factorised reduction stands before it; in the final network its
            operations on its inputs have stride 2.
        width: Channels of the first cells' states; each reduction doubles them. Even in the authors' code.
        layers: Normal cells, at least 1; the reductions come on top, after a third and two thirds.
        auxiliary: Whether an auxiliary classifier stands after the first normal cell of the last stage: the outputs
            are then `(logits, auxiliary logits)`, the second in training only.
        drop_path: Rate in the last cell, less in earlier ones in proportion; the authors take 0.4, raised linearly
            with the steps.
        dropout: Rate before the classifier; 0.1 in the authors' search, 0.2 in the final network.
        classes: Number of classes; None takes it from the task.
    """

    depth_fields: ClassVar[tuple[str, ...]] = ("layers",)
    normal: Any
    reduction: Any
    width: int = 20
    layers: int = 6
    auxiliary: bool = False
    drop_path: float = 0.0
    dropout: float = 0.0
    classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1 or self.width < 2:
            raise InvalidInputError(
                f"An ENAS network needs `layers` of at least 1 and `width` of at least 2, got {self.layers} and "
                f"{self.width}."
            )

    def forward(self, x: Tensor) -> Any:
        """Return the logits, and with an auxiliary head those too."""
        classes = x.context.classes if self.classes is None else self.classes
        with x.scope("stem"):
            stem = ops.batch_norm(ops.conv(x, 3 * self.width))
        before = previous = stem
        width, total, auxiliary, final = self.width, self.layers + 2, None, self.reduction.final
        reductions = (self.layers // 3, 2 * (self.layers // 3) + 1)
        for number in range(total):
            cell, stride, halve = self.normal, 1, final and number - 1 in reductions
            if number in reductions:
                width, cell = width * 2, self.reduction
                if final:
                    stride = 2
                else:
                    y = factorized_reduction(previous, width, act="identity", name=f"reduction_{number}")
                    before, previous, halve = previous, y, True
            with x.scope(f"cells.{number}"):
                y = cell(before, previous, stem, width, halve, stride, self.drop_path * (number + 1) / total)
            before, previous = previous, y
            if self.auxiliary and number == reductions[1] + 1:
                auxiliary = AuxiliaryHead(classes)(y)
        logits = Head(classes, self.dropout)(previous)
        return logits if auxiliary is None else (logits, ops.training_only(auxiliary, name="auxiliary_logits"))


def open_cell(name: str, *, nodes: int = NODES, final: bool = False) -> Cell:
    """The open cell: each node reads two of the earlier states, also one twice, with one of five operations each.

    Args:
        name: Prefix of the decisions' names: "normal_node_2_first_input" and "normal_node_2_first_op" are of the first
            branch of node 2, which is the first node.
        nodes: Number of nodes.
        final: See `Cell`.
    """
    made = []
    for node in range(INPUTS, INPUTS + nodes):
        branches = []
        for side in ("first", "second"):
            prefix = f"{name}_node_{node}_{side}"
            operation = one_of(*OPERATIONS.values(), name=f"{prefix}_op")
            branches.append(one_of(*[Branch(i, operation) for i in range(node)], name=f"{prefix}_input"))
        made.append(Node(*branches))
    return Cell(tuple(made), final)


def cell_size(nodes: int = NODES) -> int:
    """Number of cells: the product over the nodes of (5 earlier states)^2, ordered."""
    return prod((states * len(OPERATIONS)) ** 2 for states in range(INPUTS, INPUTS + nodes))


def space(
    input_shape: Shape = (3, 32, 32),
    *,
    width: int = 20,
    layers: int = 6,
    nodes: int = NODES,
    final: bool = False,
    auxiliary: bool = False,
    drop_path: float = 0.0,
    dropout: float = 0.0,
) -> Space:
    """The search space: 5,062,500,000,000^2 = 25,628,906,250,000,000,000,000,000 pairs of cells, about 2.56e25.

    Node k of 1 … 5 reads two of k + 1 earlier states (also one twice) with one of 5 operations each: a cell is one of
    the product over k of ((k + 1) 5)^2. All 20 decisions of each of the two cells are always active. The count is of
    ordered pairs; the paper's figure, (5 5!)^4 = 1.3e11, counts neither the inputs that way nor both sides of each
    node. Cells that differ in the order of a node's branches, or of nodes, are one by the canonical hash.

    Args:
        input_shape: Of the task's images; the network fits any.
        width: Channels of the first cells; 20 in the authors' search, 36 in the final network.
        layers: Normal cells; 6 in the authors' search, 15 in the final network.
        nodes: Of a cell.
        final: Whether the network is the authors' final one, or that of their search; see `Cell`.
        auxiliary: See `ENASMicro`.
        drop_path: See `ENASMicro`.
        dropout: See `ENASMicro`.
    """
    del input_shape
    normal, reduction = [open_cell(name, nodes=nodes, final=final) for name in ("normal", "reduction")]
    return Space(ENASMicro(normal, reduction, width, layers, auxiliary, drop_path, dropout))


Arc = tuple[tuple[int, int, int, int], ...]
"""(input, operation, input, operation) of each node of a cell."""


def parse(text: str) -> tuple[Arc, Arc]:
    """The normal and the reduction cell of an official arc.

    Args:
        text: Numbers separated by spaces: input, operation, input, operation of each node, first of the normal cell
            and then of the reduction cell; for example `PUBLISHED`.

    Raises:
        InvalidArchitectureError: the text is not of this form.
    """
    words = text.split()
    if not words or len(words) % 8 or not all(word.isdecimal() for word in words):
        raise InvalidArchitectureError(
            "An ENAS micro arc is 'input operation input operation' for each node of the normal and then of the "
            f"reduction cell, in numbers, for example {PUBLISHED!r}; got {len(words)} words in {text!r}."
        )
    numbers = [int(word) for word in words]
    genes = list(zip(*[iter(numbers)] * 4, strict=True))
    cells = genes[: len(genes) // 2], genes[len(genes) // 2 :]
    for cell in cells:
        for states, (a, op_a, b, op_b) in enumerate(cell, start=INPUTS):
            if max(a, b) >= states or max(op_a, op_b) >= len(OPERATIONS):
                raise InvalidArchitectureError(
                    f"Node {states} of an ENAS micro cell reads states below {states} with operations below "
                    f"{len(OPERATIONS)}, got '{a} {op_a} {b} {op_b}' in {text!r}."
                )
    return tuple(cells[0]), tuple(cells[1])


def network(
    text: str,
    *,
    width: int = 36,
    layers: int = 15,
    final: bool = True,
    auxiliary: bool = False,
    drop_path: float = 0.0,
    dropout: float = 0.0,
    classes: int | None = None,
) -> ENASMicro:
    """The network of an official arc, by default the authors' final one.

    Args:
        text: See `parse`.
        width: See `ENASMicro`.
        layers: See `ENASMicro`.
        final: See `Cell`.
        auxiliary: See `ENASMicro`.
        drop_path: See `ENASMicro`.
        dropout: See `ENASMicro`.
        classes: See `ENASMicro`.

    Raises:
        InvalidArchitectureError: the text is no arc.
    """
    known = list(OPERATIONS.values())
    normal, reduction = [
        Cell(tuple([Node(Branch(a, known[op_a]), Branch(b, known[op_b])) for a, op_a, b, op_b in arc]), final)
        for arc in parse(text)
    ]
    return ENASMicro(normal, reduction, width, layers, auxiliary, drop_path, dropout, classes)


def architecture(text: str, space: Space) -> Architecture:
    """The architecture of an ENAS micro space that an official arc stands for.

    Args:
        text: See `parse`.
        space: From `space`.

    Raises:
        InvalidArchitectureError: the text is no arc, or is not of the space's number of nodes.
    """
    decisions: dict[str | Choice, object] = {}
    for name, arc in zip(("normal", "reduction"), parse(text), strict=True):
        for node, (a, op_a, b, op_b) in enumerate(arc, start=INPUTS):
            for side, source, operation in (("first", a, op_a), ("second", b, op_b)):
                decisions[f"{name}_node_{node}_{side}_input"] = source
                decisions[f"{name}_node_{node}_{side}_op"] = operation
    if len(decisions) != len(space.decisions):
        raise InvalidArchitectureError(
            f"The arc has {len(decisions) // 8} nodes a cell, but the space has {len(space.decisions) // 8}: {text!r}."
        )
    return space.architecture(decisions, indices=True)


def to_string(architecture: Architecture | Block) -> str:
    """The official arc of an architecture or a network: the normal cell, then the reduction cell.

    Raises:
        InvalidArchitectureError: it is no closed ENAS micro network.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    if not isinstance(block, ENASMicro) or block.is_open:
        raise InvalidArchitectureError(f"Expected a closed ENAS micro network, got {architecture!r}.")
    known = {operation: number for number, operation in enumerate(OPERATIONS.values())}
    branches = [b for cell in (block.normal, block.reduction) for node in cell.nodes for b in (node.first, node.second)]
    return " ".join(f"{branch.source} {known[branch.operation]}" for branch in branches)


FAMILIES = (
    Family(
        name="enas_micro",
        title="ENAS micro: normal and reduction cells",
        level="cell",
        paper='Pham, Guan, Zoph, Le, Dean 2018, "Efficient Neural Architecture Search", arXiv 1802.03268',
        space=space,
        input_shape=(3, 32, 32),
        size=cell_size() ** 2,
        quoted_size="1.3e11",
    ),
    *enas_macro.FAMILIES,
)
