"""NAS with reinforcement learning (2017): a chain of convolutions with skip connections, each layer a few tokens.

Level: network. Task: image classification. Of each layer are open the number of filters, the filter's height and width,
its strides, and for each earlier layer whether its output is an input. Inputs are concatenated along depth; smaller
ones are padded with zeros to the largest size. A layer without inputs takes the image. Outputs that no layer takes
are concatenated before the classifier.

Reference:
    Zoph, Le (2017), "Neural Architecture Search with Reinforcement Learning", arXiv 1611.01578, sections 3.1, 3.3
    and 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nasturtium.blocks import Classifier, Sequential
from nasturtium.errors import InvalidArchitectureError, InvalidInputError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Architecture, Block, Space, one_of
from nasturtium.zoo.listing import Family

FILTERS = (24, 36, 48, 64)
HEIGHTS = WIDTHS = (1, 3, 5, 7)
STRIDES = (1, 2, 3)
"""Where strides are predicted; otherwise they are 1 (section 4.1)."""
LAYERS = 6
"""At the start of the search; two more every 1,600 networks (section 4.1)."""
TOKENS = ("number_of_filters", "filter_height", "filter_width", "stride_height", "stride_width")


class Anchor(Block):
    """Whether an earlier layer's output is an input.

    Args:
        skip: Whether it is.
    """

    skip: bool

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Append the earlier output to the inputs gathered so far."""
        return _joined(x, earlier) if self.skip else x


class Unused(Block):
    """Hands a layer's output to the classifier where no later layer takes it.

    Args:
        skips: Whether each later layer takes it.
    """

    skips: tuple[Any, ...]

    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        """Put the output before what is gathered so far."""
        return x if any(self.skips) else _joined(output, x)


class ChainLayer(Block):
    """One layer: gathers its inputs, convolves, normalises, ReLU.

    Args:
        number_of_filters: Output channels.
        filter_height: Odd, in pixels.
        filter_width: Odd, in pixels.
        stride_height: In pixels.
        stride_width: In pixels.
        anchors: One for each earlier layer.
    """

    width_fields: ClassVar[tuple[str, ...]] = ("number_of_filters",)
    number_of_filters: int
    filter_height: int = 3
    filter_width: int = 3
    stride_height: int = 1
    stride_width: int = 1
    anchors: tuple[Any, ...] = ()

    def forward(self, image: Tensor, *outputs: Tensor) -> Tensor:
        """Compute the layer from the image and the outputs of all earlier layers."""
        x = image
        first = next((i for i in range(len(outputs)) if self.anchors[i].skip), None)
        if first is not None:
            x = outputs[first]
            for anchor, output in zip(self.anchors[first + 1 :], outputs[first + 1 :], strict=True):
                x = anchor(x, output)
        kernel = (self.filter_height, self.filter_width)
        x = ops.conv(x, self.number_of_filters, kernel, stride=(self.stride_height, self.stride_width))
        return ops.activation(ops.batch_norm(x), "relu")


class Chain(Block):
    """The layers, and what no layer takes.

    Args:
        layers: In order.
        unused: One for each layer but the last, whose output always goes on.
    """

    layers: tuple[Any, ...]
    unused: tuple[Any, ...]

    def forward(self, image: Tensor) -> Tensor:
        """Run the layers, gather the outputs that are left over."""
        outputs: list[Tensor] = []
        for layer in self.layers:
            outputs.append(layer(image, *outputs))
        x = outputs[-1]
        for unused, output in zip(reversed(self.unused), reversed(outputs[:-1]), strict=True):
            x = unused(output, x)
        return x


def _joined(*xs: Tensor) -> Tensor:
    """Concatenation along depth; smaller images get zeros at the bottom and right."""
    height, width = max(x.height for x in xs), max(x.width for x in xs)
    padded = [
        x if (x.height, x.width) == (height, width) else ops.pad(x, (0, height - x.height, 0, width - x.width))
        for x in xs
    ]
    return ops.concat(*padded)


def _network(tokens: Sequence[Sequence[Any]], skips: Sequence[Sequence[Any]], classes: int | None = None) -> Sequential:
    layers = [
        ChainLayer(**dict(zip(TOKENS, fields, strict=True)), anchors=tuple([Anchor(skip) for skip in row]))
        for fields, row in zip(tokens, skips, strict=True)
    ]
    count = len(layers)
    unused = [Unused(tuple([skips[later][i] for later in range(i + 1, count)])) for i in range(count - 1)]
    return Sequential(Chain(tuple(layers), tuple(unused)), Classifier(classes))


def space(
    input_shape: tuple[int, ...] = (3, 32, 32),
    *,
    layers: int = LAYERS,
    filters: Sequence[int] = FILTERS,
    heights: Sequence[int] = HEIGHTS,
    widths: Sequence[int] = WIDTHS,
    strides: Sequence[int] = (1,),
) -> Space:
    """The chain of a number of layers.

    A convolution's weights depend on the filters of all its inputs; so a supernet of the whole space has too many
    variants (the paper trains each network by itself). With one number of filters it can be lowered.

    Decisions are "number_of_filters_i", "filter_height_i", … of layer i, and "skip_i_j": whether layer i takes the
    output of layer j < i. All are always active.

    Args:
        input_shape: `(channels, height, width)`; the network fits any.
        layers: At least 1.
        filters: Output channels to choose from.
        heights: Of the filters, odd, in pixels.
        widths: Of the filters, odd, in pixels.
        strides: Vertical and horizontal; `STRIDES` in the paper's second experiment.

    Returns:
        (filters * heights * widths * strides^2)^layers * 2^(layers (layers - 1) / 2) architectures: by default
        64^6 * 2^15 = 2,251,799,813,685,248; with 15 layers 64^15 * 2^105 = 5.0e58.

    Raises:
        InvalidInputError: there is no layer.
    """
    del input_shape
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise InvalidInputError(f"`layers` must be an integer of at least 1, got {layers!r}.")
    options = dict(zip(TOKENS, (filters, heights, widths, strides, strides), strict=True))

    def token(name: str, i: int) -> Any:
        values = options[name]
        return values[0] if len(values) == 1 else one_of(*values, name=f"{name}_{i}")

    tokens = [[token(name, i) for name in TOKENS] for i in range(layers)]
    skips = [[one_of(False, True, name=f"skip_{i}_{j}") for j in range(i)] for i in range(layers)]
    return Space(_network(tokens, skips))


def network(tokens: Sequence[Sequence[int]], *, classes: int | None = None) -> Sequential:
    """The closed network of the controller's tokens.

    Args:
        tokens: Of each layer: number of filters, filter height, filter width, stride height, stride width, and for
            each earlier layer 1 where its output is an input, else 0.
        classes: Number of classes; None takes it from the task.

    Raises:
        InvalidInputError: a layer has another number of tokens, or an anchor is not 0 or 1.
    """
    fields, skips = _split(tokens)
    return _network(fields, skips, classes)


def architecture(tokens: Sequence[Sequence[int]], space: Space) -> Architecture:
    """The architecture of a space that the controller's tokens name; see `network`.

    Raises:
        InvalidInputError: a layer has another number of tokens, or an anchor is not 0 or 1.
        InvalidArchitectureError: a token is not among the space's.
    """
    fields, skips = _split(tokens)
    decisions: dict[str, object] = {}
    for i, (values, row) in enumerate(zip(fields, skips, strict=True)):
        decisions |= {f"{name}_{i}": value for name, value in zip(TOKENS, values, strict=True)}
        decisions |= {f"skip_{i}_{j}": skip for j, skip in enumerate(row)}
    known = {decision.name for decision in space.decisions}
    made = space.architecture({name: value for name, value in decisions.items() if name in known})
    if to_tokens(made) != tuple([tuple(row) for row in tokens]):
        raise InvalidArchitectureError(f"The space fixes some of the tokens otherwise than {tokens!r}.")
    return made


def to_tokens(architecture: Architecture | Block) -> tuple[tuple[int, ...], ...]:
    """The controller's tokens of an architecture or network, layer by layer; see `network`.

    Raises:
        InvalidArchitectureError: it is not a closed chain.
    """
    block = architecture if isinstance(architecture, Block) else architecture.block
    chain = next(iter(getattr(block, "layers", ())), None)
    if not isinstance(chain, Chain) or block.is_open:
        raise InvalidArchitectureError(f"Expected a closed chain of layers, got {architecture!r}.")
    return tuple(
        [
            (*[getattr(layer, name) for name in TOKENS], *[int(anchor.skip) for anchor in layer.anchors])
            for layer in chain.layers
        ]
    )


def _split(tokens: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[bool]]]:
    """The fields and the anchors of each layer."""
    if not tokens:
        raise InvalidInputError("A chain needs the tokens of at least one layer, got none.")
    fields, skips = [], []
    for i, row in enumerate(tokens):
        anchors = row[len(TOKENS) :]
        if len(anchors) != i or any(anchor not in (0, 1) for anchor in anchors):
            raise InvalidInputError(
                f"Layer {i} needs {len(TOKENS)} tokens ({', '.join(TOKENS)}) and {i} anchors of 0 or 1, got {row!r}."
            )
        fields.append(list(row[: len(TOKENS)]))
        skips.append([bool(anchor) for anchor in anchors])
    return fields, skips


FAMILIES = (
    Family(
        name="nas_rl",
        title="NAS with reinforcement learning, chain with skips",
        paper='Zoph, Le 2017, "Neural Architecture Search with Reinforcement Learning", arXiv 1611.01578',
        space=space,
        input_shape=(3, 32, 32),
        size=64**LAYERS * 2 ** (LAYERS * (LAYERS - 1) // 2),
    ),
)
