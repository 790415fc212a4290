"""DARTS: a normal and a reduction cell of four nodes, each node with two of its predecessors and seven operations.

Level: cell. Both cells are searched together and repeated through a network that is given.
Task: image classification.

The network is that of the authors' evaluation, for CIFAR or for ImageNet; `search_network` is the one that DARTS and
PC-DARTS search with, in which every edge holds all the operations. Genotypes stand in `zoo.darts_genotypes`; mind
there which state 0 is.

Reference:
    Liu, Simonyan, Yang (2019), "DARTS: Differentiable Architecture Search", arXiv 1806.09055, section 2.1 (space) and
    3 (networks); Xu et al. (2020), "PC-DARTS", arXiv 1907.05737; details as in the authors' codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import comb, prod
from typing import Any, ClassVar

from nasturtium.blocks.darts_cell import INPUTS, Cell, Edge, Mixed, Node, Nothing
from nasturtium.errors import InvalidArchitectureError, InvalidInputError, ShapeError, UnknownNameError
from nasturtium.graph import tensor as ops
from nasturtium.graph.operations import Shape
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Choice, Space, one_of, subset
from nasturtium.zoo.darts_genotypes import GENOTYPES, OPERATIONS, SEARCHED, Genotype, operations
from nasturtium.zoo.listing import CLASSES, Family, Row

NODES = 4
"""Nodes of a cell of the space."""

LARGEST_CIFAR = 64
"""Images up to this size, in pixels, get the stem of CIFAR by default; larger ones that of ImageNet."""


class DARTSNetwork(Block):
    """Stem, cells with two reductions, classifier; in training, where asked for, an auxiliary classifier.

    Args:
        normal: The normal cell; every place has weights of its own.
        reduce: The reduction cell, which stands at a third and two thirds of the depth.
        width: Channels of the first cells' states (C); each reduction doubles them.
        layers: Number of cells, with reductions; at least 1.
        stem: "cifar" (one 3x3 convolution to 3C channels) or "imagenet" (three of stride 2).
        auxiliary: Whether the second reduction cell feeds an auxiliary classifier: the outputs are then
            `(logits, auxiliary logits)`, the second in training only.
        drop_path: Rate at which an operation other than the identity is dropped in training; the authors raise it
            linearly with the epochs to 0.2.
        classes: Number of classes; None takes it from the task.
    """

    depth_fields: ClassVar[tuple[str, ...]] = ("layers",)
    normal: Any
    reduce: Any
    width: int = 36
    layers: int = 20
    stem: str = "cifar"
    auxiliary: bool = False
    drop_path: float = 0.0
    classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem not in ("cifar", "imagenet"):
            raise InvalidInputError(f"`stem` must be 'cifar' or 'imagenet', got {self.stem!r}.")
        if self.layers < 1 or self.width < 2:
            raise InvalidInputError(
                f"A DARTS network needs `layers` of at least 1 and `width` of at least 2, got {self.layers} and "
                f"{self.width}."
            )

    def forward(self, x: Tensor) -> Any:
        """Return the logits, and with an auxiliary head those too."""
        classes = x.context.classes if self.classes is None else self.classes
        stem = self._cifar_stem if self.stem == "cifar" else self._imagenet_stem
        before, previous, reduced = stem(x)
        width, auxiliary = self.width, None
        reductions = (self.layers // 3, 2 * self.layers // 3)
        for number in range(self.layers):
            cell = self.normal
            if number in reductions:
                width, cell = width * 2, self.reduce
            with x.scope(f"cells.{number}"):
                y = cell(before, previous, width, reduced, self.drop_path)
            before, previous, reduced = previous, y, number in reductions
            if self.auxiliary and number == reductions[1]:
                auxiliary = _auxiliary_head(y, classes, stride=3 if self.stem == "cifar" else 2)
        with x.scope("head"):
            logits = ops.linear(ops.flatten(ops.global_pool(previous)), classes)
        return logits if auxiliary is None else (logits, ops.training_only(auxiliary, name="auxiliary_logits"))

    def _cifar_stem(self, x: Tensor) -> tuple[Tensor, Tensor, bool]:
        with x.scope("stem"):
            x = ops.batch_norm(ops.conv(x, 3 * self.width))
        return x, x, False

    def _imagenet_stem(self, x: Tensor) -> tuple[Tensor, Tensor, bool]:
        with x.scope("stem_0"):
            x = ops.activation(ops.batch_norm(ops.conv(x, self.width // 2, stride=2)))
            x = ops.batch_norm(ops.conv(x, self.width, stride=2))
        with x.scope("stem_1"):
            y = ops.batch_norm(ops.conv(ops.activation(x), self.width, stride=2))
        return x, y, True


def _auxiliary_head(x: Tensor, classes: int, stride: int) -> Tensor:
    """The authors' auxiliary classifier, made for 8x8 (CIFAR) or 7x7 (ImageNet) pixels; larger images are averaged."""
    if min(x.height, x.width) < 5 + stride:
        raise ShapeError(
            f"The auxiliary head needs at least {5 + stride}x{5 + stride} pixels after the second reduction, got "
            f"{x.height}x{x.width}: give larger images, or `auxiliary=False`."
        )
    with x.scope("auxiliary"):
        x = ops.avg_pool(ops.activation(x), 5, stride=stride, padding=0)
        x = ops.activation(ops.batch_norm(ops.conv(x, 128, 1, name="project")))
        x = ops.conv(x, 768, 2, padding=0, name="features")
        if stride == 3:  # the ImageNet head has none: "omitted due to a typo", kept by the authors for consistency
            x = ops.batch_norm(x)
        x = ops.activation(x)
        x = x if x.shape[1:] == (1, 1) else ops.global_pool(x, name="mean")
        return ops.linear(ops.flatten(x), classes)


def open_cell(name: str, *, nodes: int = NODES, reduction: bool = False, affine: bool = True) -> Cell:
    """The open cell: each node takes two of the earlier states, each with one of seven operations.

    Args:
        name: Prefix of the decisions' names: "normal_inputs_2" chooses the states that node 2 reads (2 is the first
            node), "normal_op_0_2" the operation on the way from state 0; the latter is active where chosen.
        nodes: Number of nodes.
        reduction: Whether the cell halves the size.
        affine: Whether norms have weights; see `darts_genotypes.operations`.
    """
    known = operations(affine=affine)
    candidates = [known[text] for text in SEARCHED]
    made = []
    for node in range(INPUTS, INPUTS + nodes):
        edges = [Edge(i, one_of(*candidates, name=f"{name}_op_{i}_{node}")) for i in range(node)]
        made.append(Node(subset(edges, 2, name=f"{name}_inputs_{node}")))
    return Cell(tuple(made), reduction=reduction, affine=affine)


def cell_size(nodes: int = NODES) -> int:
    """Number of cells: the product over the nodes of C(earlier states, 2) 7^2."""
    return prod(comb(states, 2) * len(SEARCHED) ** 2 for states in range(INPUTS, INPUTS + nodes))


def space(
    input_shape: Shape = (3, 32, 32),
    *,
    width: int = 16,
    layers: int = 8,
    nodes: int = NODES,
    stem: str | None = None,
    affine: bool = True,
    auxiliary: bool = False,
    drop_path: float = 0.0,
) -> Space:
    """The search space: 1,037,664,180^2 = 1,076,746,950,455,072,400 pairs of cells, about 1.08e18.

    A cell has four nodes. Node k of 1 … 4 takes two of k + 1 earlier states, and one of 7 operations on each: the
    cells are the product over k of C(k + 1, 2) 7^2. The operation of an edge is a decision of its own, which is active
    where the edge is chosen: 8 active decisions for 4 nodes' inputs and 8 operations, in each of the two cells.

    Args:
        input_shape: Of the task's images.
        width: C; 16 in the authors' search, 36 (CIFAR) or 48 (ImageNet) in their evaluation.
        layers: Cells; 8 in the authors' search, 20 or 14 in their evaluation.
        nodes: Of a cell.
        stem: "cifar" or "imagenet"; None: "imagenet" for images of more than 64 pixels.
        affine: Whether norms have weights. DARTS searches without, so that no scale hides behind the weights of the
            mixture, and then a norm follows each pooling.
        auxiliary: See `DARTSNetwork`.
        drop_path: See `DARTSNetwork`.
    """
    if stem is None:
        stem = "imagenet" if max(input_shape[1:]) > LARGEST_CIFAR else "cifar"
    normal = open_cell("normal", nodes=nodes, affine=affine)
    reduce = open_cell("reduce", nodes=nodes, reduction=True, affine=affine)
    return Space(DARTSNetwork(normal, reduce, width, layers, stem, auxiliary, drop_path))


def network(
    genotype: Genotype | Mapping[str, Any] | str,
    *,
    width: int = 36,
    layers: int = 20,
    stem: str = "cifar",
    auxiliary: bool = False,
    drop_path: float = 0.0,
    classes: int | None = None,
) -> DARTSNetwork:
    """The network of a genotype, by default as the authors evaluate it on CIFAR.

    Args:
        genotype: A genotype, its JSON, or the name of a published one in `GENOTYPES`; any number of nodes.
        width: See `DARTSNetwork`; 48 on ImageNet.
        layers: See `DARTSNetwork`; 14 on ImageNet.
        stem: See `DARTSNetwork`; "imagenet" on ImageNet.
        auxiliary: See `DARTSNetwork`.
        drop_path: See `DARTSNetwork`.
        classes: See `DARTSNetwork`.

    Raises:
        InvalidArchitectureError: what is given is no genotype.
        UnknownNameError: no published one has that name, or it names an unknown operation.
    """
    given = named(genotype) if isinstance(genotype, str) else Genotype.of(genotype)
    known = operations()
    cells = []
    for kind in ("normal", "reduce"):
        edges = [Edge(source, known[name]) for name, source in getattr(given, kind)]
        nodes = tuple([Node(pair) for pair in zip(edges[::2], edges[1::2], strict=True)])
        cells.append(Cell(nodes, getattr(given, f"{kind}_concat"), reduction=kind == "reduce"))
    return DARTSNetwork(cells[0], cells[1], width, layers, stem, auxiliary, drop_path, classes)


def search_network(
    *,
    width: int = 16,
    layers: int = 8,
    partial: int = 1,
    nodes: int = NODES,
    stem: str = "cifar",
    classes: int | None = None,
) -> DARTSNetwork:
    """The network that DARTS searches with, as a closed one: every node adds up all operations on all earlier states.

    Its cost is that of one pass in the search; the weights of the mixture are not counted. Every norm in a cell is
    without weights, and one follows each pooling.

    Args:
        width: C.
        layers: Cells.
        partial: K of PC-DARTS (4 on CIFAR, 2 on ImageNet); 1 is DARTS.
        nodes: Of a cell.
        stem: See `DARTSNetwork`.
        classes: See `DARTSNetwork`.

    Reference:
        `model_search.py` of both authors' codes.
    """
    if partial < 1 or nodes < 1:
        raise InvalidInputError(f"`partial` and `nodes` must be at least 1, got {partial} and {nodes}.")
    if width % partial or width < 2 * partial:
        raise InvalidInputError(f"`width` must be a multiple of `partial`, at least twice, got {width} and {partial}.")
    known = operations(affine=False)
    mixed = Mixed((Nothing(), *[known[name] for name in SEARCHED]), partial)
    states = range(INPUTS, INPUTS + nodes)
    cell = Cell(tuple([Node(tuple([Edge(i, mixed) for i in range(n)])) for n in states]), affine=False)
    return DARTSNetwork(cell, replace(cell, reduction=True), width, layers, stem, classes=classes)


def named(name: str) -> Genotype:
    """A published genotype by its name in `GENOTYPES`.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in GENOTYPES:
        raise UnknownNameError("genotype", name, GENOTYPES)
    return GENOTYPES[name]


def genotype(architecture: Architecture | Block) -> Genotype:
    """The genotype of an architecture, a closed network.

    The edges of a node stand in the order of the states they read (those of the authors stand in the order of their
    strength; see `darts_genotypes.normal_form`).

    Raises:
        InvalidArchitectureError: it is no closed DARTS network of two operations a node.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    if not isinstance(block, DARTSNetwork) or block.is_open:
        raise InvalidArchitectureError(f"Expected a closed DARTS network, got {architecture!r}.")
    names = {operation: name for affine in (True, False) for name, operation in operations(affine=affine).items()}
    found: dict[str, Any] = {}
    for kind, cell in (("normal", block.normal), ("reduce", block.reduce)):
        if any(len(node.edges) != 2 or any(e.operation not in names for e in node.edges) for node in cell.nodes):
            raise InvalidArchitectureError(
                f"A genotype has two of the operations {', '.join(OPERATIONS)} a node, but the {kind} cell is {cell!r}."
            )
        found[kind] = [(names[edge.operation], edge.source) for node in cell.nodes for edge in node.edges]
        found[f"{kind}_concat"] = cell.concat or tuple(range(INPUTS, INPUTS + len(cell.nodes)))
    return Genotype(**found)


def architecture(genotype: Genotype | Mapping[str, Any] | str, space: Space) -> Architecture:
    """The architecture of a DARTS space that a genotype stands for.

    Args:
        genotype: A genotype, its JSON, or the name of a published one in `GENOTYPES`.
        space: From `space`.

    Raises:
        InvalidArchitectureError: the genotype is not in the space: another number of nodes, another concatenation, an
            operation that is not searched, or a node that reads one state twice.
    """
    given = named(genotype) if isinstance(genotype, str) else Genotype.of(genotype)
    decisions: dict[str | Choice, object] = {}
    nodes = sum(decision.name.startswith("normal_inputs_") for decision in space.decisions)
    for kind in ("normal", "reduce"):
        genes = getattr(given, kind)
        concat = getattr(given, f"{kind}_concat")
        outside = [name for name, _ in genes if name not in SEARCHED]
        if len(genes) != 2 * nodes or sorted(concat) != list(range(INPUTS, INPUTS + nodes)) or outside:
            raise InvalidArchitectureError(
                f"A cell of this DARTS space has {nodes} nodes, all of them in the concatenation, and the operations "
                f"{', '.join(SEARCHED)}; the {kind} cell has {len(genes) // 2} nodes, the concatenation {concat} and "
                f"{', '.join(outside) or 'no other operation'}. `network` takes any genotype."
            )
        for node, pair in enumerate(zip(genes[::2], genes[1::2], strict=True), start=INPUTS):
            sources = sorted(source for _, source in pair)
            if sources[0] == sources[1]:
                raise InvalidArchitectureError(
                    f"A node of the DARTS space reads two different states, but node {node} of the {kind} cell reads "
                    f"state {sources[0]} twice. `network` takes any genotype."
                )
            choice: Any = space.decision(f"{kind}_inputs_{node}").choice
            decisions[f"{kind}_inputs_{node}"] = choice.rank(sources)
            decisions |= {f"{kind}_op_{source}_{node}": SEARCHED.index(name) for name, source in pair}
    return space.architecture(decisions, indices=True)


def published(row: Row) -> DARTSNetwork:
    """The network of a row of `reference_values.json` of the space "DARTS/NASNet-style cell", with its classes.

    Raises:
        InvalidInputError: the row's "network" is neither NetworkCIFAR nor NetworkImageNet.
    """
    config = row["config"]
    stems = {"NetworkCIFAR": "cifar", "NetworkImageNet": "imagenet"}
    kind = config["network"].split()[-1]
    if kind not in stems:
        raise InvalidInputError(f"The network of a DARTS row is one of {', '.join(stems)}, got {config['network']!r}.")
    return network(
        config["genotype"],
        width=config["init_channels"],
        layers=config["layers"],
        stem=stems[kind],
        classes=CLASSES if stems[kind] == "imagenet" else 10,
    )


def published_search(row: Row) -> DARTSNetwork:
    """The search network of a row of the spaces "DARTS" and "PC-DARTS", for example "C=16, 8 cells, K=4".

    Raises:
        InvalidInputError: the row does not say C and the number of cells, or the number of operations is not 8.
    """
    text = row["config"]
    found = {key: re.search(rule, text) for key, rule in _SEARCH_RULES.items()}
    width, layers, steps, number, partial = (int(m[1]) if m else None for m in found.values())
    if width is None or layers is None or number not in (None, len(SEARCHED) + 1):
        raise InvalidInputError(
            f"A row of a DARTS search network is written 'C=16, 8 cells, 4 steps, 8 ops, K=4' (the last three may be "
            f"left out, and there are 8 operations), got {text!r}."
        )
    return search_network(width=width, layers=layers, nodes=steps or NODES, partial=partial or 1, classes=10)


_SEARCH_RULES = {
    "width": r"\bC\s*=\s*(\d+)",
    "layers": r"(\d+)\s*cells",
    "steps": r"(\d+)\s*steps",
    "operations": r"(\d+)\s*ops",
    "partial": r"\bK\s*=\s*(\d+)",
}

FAMILIES = (
    Family(
        name="darts",
        title="DARTS normal and reduction cells",
        level="cell",
        paper='Liu, Simonyan, Yang 2019, "DARTS: Differentiable Architecture Search", arXiv 1806.09055',
        space=space,
        input_shape=(3, 32, 32),
        size=cell_size() ** 2,
        quoted_size="10^18",
        rows={
            "DARTS/NASNet-style cell": published,
            "DARTS": published_search,
            "PC-DARTS": published_search,
        },
    ),
)
