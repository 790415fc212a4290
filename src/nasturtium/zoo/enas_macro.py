"""ENAS macro: a whole network of twelve layers, each with one of six operations and any skips from earlier layers.

Level: network.
Task: image classification.

Layer k reads the output of layer k - 1. Bit i of layer k adds source i to its result: source 0 is the stem, source i
the output of layer i - 1; so layer k has k bits. After a third and two thirds of the layers a factorised reduction
halves every earlier output, also those that no later layer reads: as in the authors' code, whose count of weights has
them too.

Reference:
    Pham, Guan, Zoph, Le, Dean (2018), "Efficient Neural Architecture Search via Parameter Sharing", arXiv 1802.03268,
    section 2.3 and figure 3; networks as in the authors' code (`general_child.py`, whole channels).
"""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from typing import Any

from nasturtium.blocks.cell import Zero
from nasturtium.blocks.conv import Identity
from nasturtium.blocks.darts_cell import factorized_reduction, relu_conv_norm
from nasturtium.blocks.layers import conv_norm_act
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.operations import Shape
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Choice, Space, one_of
from nasturtium.zoo.listing import Family

LAYERS = 12
"""Layers of the paper's search space."""

PUBLISHED = """
0
3 0
0 1 0
2 0 0 1
2 0 0 0 0
3 1 1 0 1 0
2 0 0 0 0 0 1
2 0 1 1 0 1 1 1
1 0 1 1 1 0 1 0 1
0 0 0 0 0 0 0 0 0 0
2 0 0 0 0 0 1 0 0 0 0
0 1 0 0 1 1 0 0 0 0 1 1
2 0 1 0 0 0 0 0 1 0 1 1 0
1 0 0 1 0 0 0 1 1 1 0 1 0 1
0 1 1 0 1 0 1 0 0 0 0 0 1 0 0
2 0 0 1 0 0 0 0 0 0 0 1 0 1 0 1
2 0 1 0 0 0 1 0 0 1 1 1 1 0 0 1 0
2 0 0 0 0 1 0 1 0 1 0 0 1 0 1 0 0 1
3 0 1 1 0 1 0 0 0 0 0 1 0 1 0 1 0 0 0
3 0 1 1 0 0 0 0 0 0 0 0 0 1 1 0 0 0 0 1
0 1 0 0 1 0 1 1 0 0 0 1 0 0 0 0 0 1 1 0 0
3 0 1 0 1 1 0 0 1 0 1 1 0 1 1 0 1 0 0 1 0 0
0 1 0 1 0 1 0 0 0 0 0 0 0 0 1 0 1 0 0 1 0 0 0
0 1 1 0 0 0 1 1 1 0 1 0 0 0 1 0 1 0 0 1 1 0 0 0
"""
"""The network of 24 layers of the authors' `scripts/cifar10_macro_final.sh`: a row for each layer, operation, bits."""


class ConvBranch(Block):
    """A 1x1 convolution, then a larger or a separable one, each with its norm and ReLU.

    Args:
        kernel: Odd, in pixels.
        separable: Whether the second convolution is a depthwise and a 1x1 convolution.
        final: As in the final network: ReLU before each convolution, and, as the authors' code has it, a full
            convolution also where the search has a separable one.
    """

    kernel: int = 3
    separable: bool = False
    final: bool = False

    def forward(self, x: Tensor, width: int) -> Tensor:
        """Convolve twice."""
        if self.final:
            x = relu_conv_norm(x, width, name="input")
            with x.scope("conv"):
                return ops.batch_norm(ops.conv(ops.activation(x), width, self.kernel))
        x = conv_norm_act(x, width, name="input")
        if not self.separable:
            return conv_norm_act(x, width, self.kernel, name="conv")
        x = ops.conv(x, width, self.kernel, groups=width, name="depthwise")
        return conv_norm_act(x, width, name="pointwise")


class PoolBranch(Block):
    """A 1x1 convolution with norm and ReLU, then a mean or maximum over 3x3 pixels.

    Args:
        function: "avg" or "max".
        final: As in the final network: ReLU before the convolution. (The authors' code has no final network with
            pooling, and none was published.)
    """

    function: str
    final: bool = False

    def forward(self, x: Tensor, width: int) -> Tensor:
        """Convolve and pool."""
        x = relu_conv_norm(x, width, name="input") if self.final else conv_norm_act(x, width, name="input")
        return ops.max_pool(x) if self.function == "max" else ops.avg_pool(x)


OPERATIONS: dict[str, Block] = {
    "conv3": ConvBranch(3),
    "sep3": ConvBranch(3, separable=True),
    "conv5": ConvBranch(5),
    "sep5": ConvBranch(5, separable=True),
    "avg3": PoolBranch("avg"),
    "max3": PoolBranch("max"),
}
"""The operations in the official order: an arc has their numbers."""

SKIPS = (Zero(), Identity())
"""What a bit of 0 and of 1 makes of its source."""


class Layer(Block):
    """An operation on the previous output, joined with the chosen earlier outputs.

    Args:
        operation: Called with the previous output and the width.
        skips: A block for each source before the previous output: `Zero` or `Identity`.
        final: As in the final network: what is chosen is concatenated and goes through a 1x1 convolution. Otherwise as
            in the search: it is summed, and normalised.
    """

    operation: Any
    skips: tuple[Any, ...]
    final: bool = False

    def forward(self, sources: tuple[Tensor, ...], width: int) -> Tensor:
        """Compute the layer from the stem's output and all layers' before."""
        y: Tensor = self.operation(sources[-1], width)
        if not self.skips:
            return y
        if self.final:
            chosen = [source for skip, source in zip(self.skips, sources, strict=False) if skip == SKIPS[1]]
            return relu_conv_norm(ops.concat(*chosen, y), width, name="join")
        y = ops.add(*[skip(source) for skip, source in zip(self.skips, sources, strict=False)], y)
        return ops.batch_norm(y)


class ENASMacro(Block):
    """Stem, layers with two reductions, classifier without bias.

    Args:
        layers: Each a `Layer`, the k-th with k skips.
        width: Channels; in the final network each reduction doubles them.
        dropout: Rate before the classifier; 0.1 in the authors' search, 0.5 in the final network.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: a layer has another number of skips.
    """

    layers: tuple[Any, ...]
    width: int = 36
    dropout: float = 0.0
    classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers or any(len(layer.skips) != number for number, layer in enumerate(self.layers)):
            raise InvalidInputError(
                "An ENAS macro network needs at least one layer, and layer k needs k skips (0 for the first), got "
                f"{[len(layer.skips) for layer in self.layers]}."
            )
        if self.width < 2:
            raise InvalidInputError(f"`width` of an ENAS macro network must be at least 2, got {self.width}.")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        final, width = self.layers[0].final, self.width
        with x.scope("stem"):
            sources = [ops.batch_norm(ops.conv(x, width))]
        third = len(self.layers) // 3
        for number, layer in enumerate(self.layers):
            sources.append(layer(tuple(sources), width))
            if number in (third - 1, 2 * third - 1):
                width = 2 * width if final else width
                read = self._read_after(number) if final else range(len(sources))
                with x.scope(f"reduction_{number}"):
                    sources = [
                        factorized_reduction(source, width, act="identity", name=f"source_{i}") if i in read else source
                        for i, source in enumerate(sources)
                    ]
        with x.scope("head"):
            y = ops.flatten(ops.global_pool(sources[-1]))
            classes = x.context.classes if self.classes is None else self.classes
            return ops.linear(ops.dropout(y, self.dropout), classes, bias=False)

    def _read_after(self, number: int) -> set[int]:
        """Sources that some layer after one reads, of a closed network; the others need no reduction."""
        later = self.layers[number + 1 :]
        return {number + 1} | {i for layer in later for i, skip in enumerate(layer.skips) if skip == SKIPS[1]}


def size(layers: int = LAYERS) -> int:
    """Number of architectures: 6 operations a layer, and k bits for layer k."""
    return len(OPERATIONS) ** layers * 2 ** (layers * (layers - 1) // 2)


def space(input_shape: Shape = (3, 32, 32), *, width: int = 36, layers: int = LAYERS, dropout: float = 0.0) -> Space:
    """The search space: 6^12 2^66 = 160,618,186,625,454,535,808,756,219,904 networks.

    Each of 12 layers has one of 6 operations, and layer k has k bits, one for each output before the previous one. All
    78 decisions are always active. The network is that of the authors' search: skips are summed, the width stays.

    Args:
        input_shape: Of the task's images; the network fits any.
        width: Channels; 36 in the authors' search.
        layers: Number of layers, at least 1; below 3 there is no reduction.
        dropout: See `ENASMacro`.
    """
    del input_shape
    made = []
    for number in range(layers):
        skips = [one_of(*SKIPS, name=f"layer_{number}_skip_{source}") for source in range(number)]
        made.append(Layer(one_of(*OPERATIONS.values(), name=f"layer_{number}_op"), tuple(skips)))
    return Space(ENASMacro(tuple(made), width, dropout))


def parse(text: str) -> list[tuple[int, tuple[int, ...]]]:
    """Operation and bits of each layer of an official arc.

    Args:
        text: Numbers separated by white space: for each layer its operation and its bits, for example `PUBLISHED`.

    Raises:
        InvalidArchitectureError: the text is not of this form.
    """
    words = text.split()
    layers = (isqrt(8 * len(words) + 1) - 1) // 2
    if not words or layers * (layers + 1) // 2 != len(words) or not all(word.isdecimal() for word in words):
        raise InvalidArchitectureError(
            "An ENAS macro arc is an operation and k bits for each layer k = 0, 1, 2, …, for example '0 3 0 0 1 0' for "
            f"three layers; got {len(words)} words in {text!r}."
        )
    numbers = [int(word) for word in words]
    found, start = [], 0
    for layer in range(layers):
        operation, *bits = numbers[start : start + layer + 1]
        start += layer + 1
        if operation >= len(OPERATIONS) or any(bit > 1 for bit in bits):
            raise InvalidArchitectureError(
                f"Layer {layer} of an ENAS macro arc has an operation below {len(OPERATIONS)} and bits of 0 or 1, got "
                f"{operation} and {bits}."
            )
        found.append((operation, tuple(bits)))
    return found


def network(
    text: str, *, width: int = 96, final: bool = True, dropout: float = 0.0, classes: int | None = None
) -> ENASMacro:
    """The network of an official arc, by default the authors' final one.

    Args:
        text: See `parse`; the number of layers follows from it.
        width: See `ENASMacro`.
        final: Whether the network is the authors' final one, or that of their search; see `Layer`.
        dropout: See `ENASMacro`.
        classes: See `ENASMacro`.

    Raises:
        InvalidArchitectureError: the text is no arc.
    """
    known: list[Any] = list(OPERATIONS.values())
    layers = [
        Layer(replace(known[operation], final=final), tuple([SKIPS[bit] for bit in bits]), final)
        for operation, bits in parse(text)
    ]
    return ENASMacro(tuple(layers), width, dropout, classes)


def architecture(text: str, space: Space) -> Architecture:
    """The architecture of an ENAS macro space that an official arc stands for.

    Args:
        text: See `parse`.
        space: From `space`.

    Raises:
        InvalidArchitectureError: the text is no arc, or is not of the space's number of layers.
    """
    arc = parse(text)
    if len(arc) * (len(arc) + 1) // 2 != len(space.decisions):
        raise InvalidArchitectureError(
            f"The arc has {len(arc)} layers, but the space has {len(space.decisions)} decisions: make it with "
            f"`layers={len(arc)}`."
        )
    decisions: dict[str | Choice, object] = {
        f"layer_{number}_op": operation for number, (operation, _) in enumerate(arc)
    }
    for number, (_, bits) in enumerate(arc):
        decisions |= {f"layer_{number}_skip_{source}": bit for source, bit in enumerate(bits)}
    return space.architecture(decisions, indices=True)


def to_string(architecture: Architecture | Block) -> str:
    """The official arc of an architecture or a network, in one line.

    Raises:
        InvalidArchitectureError: it is no closed ENAS macro network.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    if not isinstance(block, ENASMacro) or block.is_open:
        raise InvalidArchitectureError(f"Expected a closed ENAS macro network, got {architecture!r}.")
    known: list[Any] = list(OPERATIONS.values())
    rows = [
        [known.index(replace(layer.operation, final=False)), *[SKIPS.index(skip) for skip in layer.skips]]
        for layer in block.layers
    ]
    return " ".join(str(number) for row in rows for number in row)


FAMILIES = (
    Family(
        name="enas_macro",
        title="ENAS macro: twelve layers with skips",
        paper='Pham, Guan, Zoph, Le, Dean 2018, "Efficient Neural Architecture Search", arXiv 1802.03268',
        space=space,
        input_shape=(3, 32, 32),
        size=size(),
        quoted_size="1.6e29",
    ),
)
