"""VGG with 11, 13, 16 or 19 layers, with and without batch normalisation.

Level: network. Task: image classification. Hand-designed; a baseline to compare searches with.

Reference:
    Simonyan, Zisserman (2015), "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv 1409.1556,
    table 1 (columns A, B, D, E).
"""

from __future__ import annotations

import re
from functools import partial

from nasturtium.blocks import MaxPool, Sequential, conv_norm_act, repeat
from nasturtium.errors import UnknownNameError
from nasturtium.graph import tensor as ops
from nasturtium.graph.tensor import Tensor
from nasturtium.space import Block
from nasturtium.zoo.listing import Family
from nasturtium.zoo.scaling import scaled_depth, scaled_width

LAYERS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each stage, by the number of layers with weights."""

WIDTHS = (64, 128, 256, 512, 512)
SIZE = 7
"""Positions in each direction that the first layer of the head sees."""


class VGGConv(Block):
    """3x3 convolution with a bias, optional batch normalisation, ReLU.

    Args:
        width: Output channels.
        norm: Whether batch normalisation follows (the bias stays).
    """

    width: int
    norm: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise, activate."""
        return conv_norm_act(x, self.width, 3, norm=self.norm, bias=True)


class VGGHead(Block):
    """Two hidden layers on 7x7 positions, then the classes.

    Args:
        features: Width of the hidden layers.
        convolutional: Whether the hidden layers are convolutions that slide over an image of more than 7x7 positions,
            with a mean after them (as in timm), or linear layers after a pooling to 7x7 (as in torchvision). On 7x7
            positions they are the same.
        dropout: Rate after the hidden layers, in [0, 1).
        classes: Number of classes; None takes it from the task.
    """

    features: int = 4096
    convolutional: bool = False
    dropout: float = 0.5
    classes: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits, `(classes,)`."""
        size = (max(SIZE, x.height), max(SIZE, x.width)) if self.convolutional else (SIZE, SIZE)
        if x.shape[1:] != size:
            x = ops.adaptive_avg_pool(x, size)
        if self.convolutional:
            x = ops.conv(x, self.features, SIZE, padding=0, bias=True, name="first")
            x = ops.dropout(ops.activation(x), self.dropout)
            x = ops.activation(ops.conv(x, self.features, 1, bias=True, name="second"))
            x = ops.flatten(ops.global_pool(x))
        else:
            x = ops.linear(ops.flatten(x), self.features, name="first")
            x = ops.dropout(ops.activation(x), self.dropout)
            x = ops.activation(ops.linear(x, self.features, name="second"))
        x = ops.dropout(x, self.dropout)
        return ops.linear(x, x.context.classes if self.classes is None else self.classes)


def vgg(
    layers: int = 16,
    width: float = 1.0,
    depth: float = 1.0,
    *,
    norm: bool = False,
    convolutional: bool = False,
    classes: int | None = None,
) -> Sequential:
    """The network, for images of at least 32x32 pixels.

    Args:
        layers: 11, 13, 16 or 19.
        width: Multiplier of all widths, those of the hidden layers too.
        depth: Multiplier of the convolutions in a stage, rounded up.
        norm: Whether batch normalisation follows each convolution.
        convolutional: See `VGGHead`.
        classes: Number of classes; None takes it from the task.

    Raises:
        UnknownNameError: a number of layers that is not published.
    """
    if layers not in LAYERS:
        raise UnknownNameError("VGG depth", str(layers), map(str, LAYERS))
    stages: list[Block] = []
    for channels, count in zip(WIDTHS, LAYERS[layers], strict=True):
        conv = VGGConv(scaled_width(channels, width), norm)
        stages += [repeat(conv, scaled_depth(count, depth)), MaxPool(2, 2, 0)]
    return Sequential(*stages, VGGHead(scaled_width(4096, width), convolutional, classes=classes))


def _named(match: re.Match[str], classes: int, *, convolutional: bool) -> Block:
    return vgg(int(match[1]), norm=bool(match[2]), convolutional=convolutional, classes=classes)


_PATTERN = r"(?:tv_)?vgg(11|13|16|19)(_bn)?"

FAMILIES = (
    Family(
        name="vgg",
        title="VGG",
        paper='Simonyan, Zisserman 2015, "Very Deep Convolutional Networks", arXiv 1409.1556',
        names={
            "timm": ((_PATTERN, partial(_named, convolutional=True)),),
            "torchvision": ((_PATTERN, partial(_named, convolutional=False)),),
        },
        named=("vgg11, vgg13, vgg16, vgg19, and each with _bn",),
    ),
)
