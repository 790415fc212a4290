"""SqueezeNet 1.0 and 1.1: few parameters through 1x1 convolutions.

Level: network. Task: image classification. Hand-designed; a baseline to compare searches with.

Reference:
    Iandola et al. (2016), "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", arXiv 1602.07360, table 1;
    1.1 as in the authors' code.
"""

from __future__ import annotations

from typing import ClassVar

from nasturtium.blocks import Conv, MaxPool, Repeat, Sequential
from nasturtium.errors import UnknownNameError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block
from nasturtium.zoo.listing import Family
from nasturtium.zoo.scaling import scaled_rows, scaled_width

VERSIONS: dict[str, tuple[tuple[int, int], tuple[tuple[int, ...], ...]]] = {
    "1_0": ((96, 7), ((16, 16, 32), (32, 48, 48, 64), (64,))),
    "1_1": ((64, 3), ((16, 16), (32, 32), (48, 48, 64, 64))),
}
"""Width and kernel of the stem, then the squeezed widths of the fire modules, with a pooling before each group."""

EXPANSION = 8
"""Output channels of a fire module by squeezed channel."""


class Fire(Block):
    """1x1 convolution to few channels, then a 1x1 and a 3x3 convolution side by side, concatenated.

    Args:
        squeeze: Channels between.
        width: Output channels, half from each; even.
    """

    width_fields: ClassVar[tuple[str, ...]] = ("squeeze", "width")
    squeeze: int
    width: int

    def forward(self, x: Tensor) -> Tensor:
        """Squeeze and expand."""
        x = ops.activation(ops.conv(x, self.squeeze, 1, bias=True, name="squeeze"))
        left = ops.activation(ops.conv(x, self.width // 2, 1, bias=True, name="expand_1x1"))
        right = ops.activation(ops.conv(x, self.width - self.width // 2, 3, bias=True, name="expand_3x3"))
        return ops.concat(left, right)


class ConvClassifier(Block):
    """Dropout, a 1x1 convolution to the classes, ReLU, and the mean over all positions.

    Args:
        classes: Number of classes; None takes it from the task.
        dropout: Rate, in [0, 1).
    """

    classes: int | None = None
    dropout: float = 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits, `(classes,)`."""
        classes = x.context.classes if self.classes is None else self.classes
        x = ops.activation(ops.conv(ops.dropout(x, self.dropout), classes, 1, bias=True))
        return ops.flatten(ops.global_pool(x))


def squeezenet(
    version: str = "1_0", width: float = 1.0, depth: float = 1.0, *, classes: int | None = None
) -> Sequential:
    """The network, for images of at least 17x17 pixels (1.1) or 21x21 pixels (1.0).

    Args:
        version: "1_0" or "1_1".
        width: Multiplier of all widths.
        depth: Multiplier of the fire modules between two poolings, rounded up.
        classes: Number of classes; None takes it from the task.

    Raises:
        UnknownNameError: no such version.
    """
    if version not in VERSIONS:
        raise UnknownNameError("SqueezeNet version", version, VERSIONS)
    (stem, kernel), groups = VERSIONS[version]
    layers: list[Block] = [Conv(scaled_width(stem, width), kernel, 2, norm=False, padding="valid")]
    for group in groups:
        squeezed = [scaled_width(channels, width, 4) for channels in scaled_rows(group, depth)]
        fires = tuple(Fire(channels, EXPANSION * channels) for channels in squeezed)
        layers += [MaxPool(3, 2, 0, ceil_mode=True), Repeat(fires)]
    return Sequential(*layers, ConvClassifier(classes))


FAMILIES = (
    Family(
        name="squeezenet",
        title="SqueezeNet",
        paper='Iandola et al. 2016, "SqueezeNet", arXiv 1602.07360',
        names={"torchvision": ((r"squeezenet(1_[01])", lambda m, c: squeezenet(m[1], classes=c)),)},
        named=("squeezenet1_0, squeezenet1_1",),
    ),
)
