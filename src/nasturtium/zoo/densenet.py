"""DenseNet: every layer sees the outputs of all layers before it.

Level: network. Task: image classification. Hand-designed; a baseline to compare searches with.

Reference:
    Huang et al. (2017), "Densely Connected Convolutional Networks", arXiv 1608.06993, table 1 (DenseNet-BC).
"""

from __future__ import annotations

import re
from typing import ClassVar

from nasturtium.blocks import Classifier, Conv, MaxPool, Sequential
from nasturtium.errors import UnknownNameError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block
from nasturtium.zoo.listing import Family, Names
from nasturtium.zoo.scaling import scaled_depth, scaled_width

LAYERS: dict[int, tuple[int, tuple[int, ...]]] = {
    121: (32, (6, 12, 24, 16)),
    161: (48, (6, 12, 36, 24)),
    169: (32, (6, 12, 32, 32)),
    201: (32, (6, 12, 48, 32)),
    264: (48, (6, 12, 64, 48)),
}
"""Growth, and layers in each block, by the number in the name; 264 has growth 48 as in timm (the paper: 32)."""

BOTTLENECK = 4
"""Hidden channels of a layer by channel of growth."""


class DenseBlock(Block):
    """Layers of a 1x1 and a 3x3 convolution, each on all outputs so far; returns all of them, concatenated.

    Args:
        count: Number of layers.
        growth: Channels that each adds.
    """

    width_fields: ClassVar[tuple[str, ...]] = ("growth",)
    depth_fields: ClassVar[tuple[str, ...]] = ("count",)
    count: int
    growth: int = 32

    def forward(self, x: Tensor) -> Tensor:
        """Append the output of every layer to the channels."""
        for i in range(self.count):
            with x.scope(f"layer_{i}"):
                y = _pre_act(x, BOTTLENECK * self.growth, 1, "reduce")
                y = _pre_act(y, self.growth, 3, "conv")
                x = ops.concat(x, y)
        return x


class DenseTransition(Block):
    """1x1 convolution and a mean over 2x2 positions between two dense blocks.

    Args:
        ratio: Output channels by input channel, rounded down.
    """

    ratio: float = 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Halve the channels and the size."""
        return ops.avg_pool(_pre_act(x, max(1, int(x.channels * self.ratio)), 1, "conv"), 2, stride=2, padding=0)


class NormAct(Block):
    """Batch normalisation and ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, activate."""
        return ops.activation(ops.batch_norm(x))


def _pre_act(x: Tensor, width: int, kernel: int, name: str) -> Tensor:
    with x.scope(name):
        return ops.conv(ops.activation(ops.batch_norm(x)), width, kernel)


def densenet(
    layers: int = 121,
    width: float = 1.0,
    depth: float = 1.0,
    *,
    deep_stem: bool = False,
    classes: int | None = None,
) -> Sequential:
    """The network, for images of at least 29x29 pixels.

    Args:
        layers: One of `LAYERS`.
        width: Multiplier of the growth, hence of all widths.
        depth: Multiplier of the layers in a block, rounded up.
        deep_stem: Whether the stem has three 3x3 convolutions instead of one 7x7 convolution.
        classes: Number of classes; None takes it from the task.

    Raises:
        UnknownNameError: a number of layers that is not published.
    """
    if layers not in LAYERS:
        raise UnknownNameError("DenseNet depth", str(layers), map(str, LAYERS))
    growth, counts = LAYERS[layers]
    growth = scaled_width(growth, width, 2)
    stem = [Conv(2 * growth, 7, 2)]
    if deep_stem:
        stem = [Conv(growth, stride=2), Conv(growth), Conv(2 * growth)]
    body: list[Block] = []
    for i, count in enumerate(counts):
        body += [DenseTransition()] if i else []
        body.append(DenseBlock(scaled_depth(count, depth), growth))
    return Sequential(*stem, MaxPool(3, 2), *body, NormAct(), Classifier(classes))


def _named(match: re.Match[str], classes: int) -> Block:
    return densenet(int(match[1]), deep_stem=match[0].endswith("d"), classes=classes)


_TIMM: Names = ((r"(?:tv_)?densenet(121|161|169|201)", _named), (r"densenet(264)d", _named))

FAMILIES = (
    Family(
        name="densenet",
        title="DenseNet",
        paper='Huang et al. 2017, "Densely Connected Convolutional Networks", arXiv 1608.06993',
        names={"timm": _TIMM, "torchvision": _TIMM[:1]},
        named=("densenet121, densenet161, densenet169, densenet201, densenet264d",),
    ),
)
