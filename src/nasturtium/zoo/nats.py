"""NATS-Bench, size space: the widths of five layers around a cell that is given.

Level: network. Task: image classification. Stem, cell, reduction, cell, reduction, cell, classifier; open are the
widths of the three cells and the two reductions. The cell is one of NAS-Bench-201, the best on CIFAR-100's validation
set; the topology space of NATS-Bench is that of `nasbench201`.

Reference:
    Dong et al. (2021), "NATS-Bench: Benchmarking NAS Algorithms for Architecture Topology and Size", arXiv 2009.00437,
    section 3.2; network as in the authors' code (`DynamicShapeTinyNet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasturtium.blocks import PreActConv, Sequential, SumCell, Zero
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Space, one_of
from nasturtium.zoo.listing import Family
from nasturtium.zoo.nasbench201 import parse

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
"""The cell, as an official string of NAS-Bench-201."""
WIDTHS = tuple(range(8, 65, 8))
LAYERS = 5


class Stem(Block):
    """3x3 convolution and norm.

    Args:
        width: Output channels.
    """

    width: int

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise."""
        return ops.batch_norm(ops.conv(x, self.width))


class Skip(Block):
    """The input, or its 1x1 convolution and norm where the width changes.

    Args:
        width: Output channels.
    """

    width: int

    def forward(self, x: Tensor) -> Tensor:
        """Hand on the input in this width."""
        return x if x.channels == self.width else ops.batch_norm(ops.conv(x, self.width, 1))


class Pool(Block):
    """3x3 average pooling, after a pre-activation 1x1 convolution where the width changes.

    Args:
        width: Output channels.
    """

    width: int

    def forward(self, x: Tensor) -> Tensor:
        """Pool in this width."""
        if x.channels != self.width:
            x = ops.batch_norm(ops.conv(ops.activation(x, "relu"), self.width, 1))
        return ops.avg_pool(x, 3)


class Reduction(Block):
    """Residual block that halves the size: two pre-activation convolutions beside a pooled 1x1 convolution.

    Args:
        width: Output channels.
    """

    width: int

    def forward(self, x: Tensor) -> Tensor:
        """Halve the size."""
        with x.scope("first"):
            y = ops.batch_norm(ops.conv(ops.activation(x, "relu"), self.width, stride=2))
        with x.scope("second"):
            y = ops.batch_norm(ops.conv(ops.activation(y, "relu"), self.width))
        with x.scope("shortcut"):
            x = ops.conv(ops.avg_pool(x, 2, stride=2, padding=0, ceil_mode=True), self.width, 1)
        return ops.add(x, y)


class Head(Block):
    """Norm, ReLU, mean over positions, linear layer.

    Args:
        classes: Number of classes; None takes it from the task.
    """

    classes: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits, `(classes,)`."""
        x = ops.flatten(ops.global_pool(ops.activation(ops.batch_norm(x), "relu")))
        return ops.linear(x, x.context.classes if self.classes is None else self.classes)


def _operation(name: str, width: Any) -> Block:
    """An operation of NAS-Bench-201 that changes the width."""
    if name == "none":
        return Zero(width=width)
    if name == "skip_connect":
        return Skip(width)
    return Pool(width) if name == "avg_pool_3x3" else PreActConv(width, kernel=1 if name.endswith("1x1") else 3)


def _network(widths: Sequence[Any], cell: str, classes: int | None = None) -> Sequential:
    layers: list[Block] = [Stem(widths[0])]
    for i, width in enumerate(widths):
        layers.append(Reduction(width) if i % 2 else SumCell(tuple([_operation(name, width) for name in parse(cell)])))
    return Sequential(*layers, Head(classes))


def space(input_shape: tuple[int, ...] = (3, 32, 32), *, cell: str = CELL) -> Space:
    """The size space: each of five widths is 8, 16, …, 64 ("width_0" to "width_4", always active).

    Args:
        input_shape: `(channels, height, width)`; the network halves it twice, whatever it is.
        cell: The cell, as an official string of NAS-Bench-201.

    Returns:
        8^5 = 32,768 architectures.
    """
    del input_shape
    return Space(_network([one_of(*WIDTHS, name=f"width_{i}") for i in range(LAYERS)], cell))


def network(text: str, *, cell: str = CELL, classes: int | None = None) -> Sequential:
    """The closed network of an official string, for example "8:16:32:64:64".

    Args:
        text: Five widths, separated by colons.
        cell: The cell, as an official string of NAS-Bench-201.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: the string is not of this form.
    """
    return _network(_widths(text), cell, classes)


def architecture(text: str, space: Space) -> Architecture:
    """The architecture of a space that an official string names.

    Raises:
        InvalidInputError: the string is not of this form.
        InvalidArchitectureError: a width is not among the space's.
    """
    return space.architecture({f"width_{i}": width for i, width in enumerate(_widths(text))})


def _widths(text: str) -> list[int]:
    words = text.split(":")
    if len(words) != LAYERS or not all(word.isdigit() and int(word) > 0 for word in words):
        raise InvalidInputError(f"A network of NATS-Bench's size space is written '8:16:32:64:64', got {text!r}.")
    return [int(word) for word in words]


def to_string(architecture: Architecture | Block) -> str:
    """The official string of an architecture or network.

    Raises:
        InvalidArchitectureError: it is not a closed network of the size space.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    layers: tuple[Any, ...] = getattr(block, "layers", ())[1:-1]
    if block.is_open or len(layers) != LAYERS or not isinstance(layers[1], Reduction):
        raise InvalidArchitectureError(f"Expected a closed network of NATS-Bench's size space, got {architecture!r}.")
    return ":".join(
        str(getattr(layer.edges[0] if isinstance(layer, SumCell) else layer, "width", "")) for layer in layers
    )


FAMILIES = (
    Family(
        name="nats_size",
        title="NATS-Bench, size space",
        paper='Dong et al. 2021, "NATS-Bench", arXiv 2009.00437',
        space=space,
        input_shape=(3, 32, 32),
        size=8**LAYERS,
        quoted_size="32,768",
    ),
)
