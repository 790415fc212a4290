"""ShuffleNetV2 at any width.

Level: network. Task: image classification. Hand-designed for real speed; a baseline to compare searches with.

Reference:
    Ma et al. (2018), "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", arXiv 1807.11164,
    table 5.
"""

from __future__ import annotations

from nasturtium.blocks import Classifier, Conv, MaxPool, Repeat, Sequential
from nasturtium.blocks.shuffle import ShuffleUnit
from nasturtium.zoo.listing import Family, multiplier
from nasturtium.zoo.scaling import scaled_depth, scaled_width

WIDTHS = {0.5: (48, 96, 192), 1.0: (116, 232, 464), 1.5: (176, 352, 704), 2.0: (244, 488, 976)}
"""Widths of the stages, by multiplier, as published; other multipliers scale those of 1."""

COUNTS = (4, 8, 4)
"""Units in each stage."""


def shufflenetv2(width: float = 1.0, depth: float = 1.0, *, classes: int | None = None) -> Sequential:
    """The network.

    Args:
        width: Multiplier of the stages' widths.
        depth: Multiplier of the units in a stage, rounded up.
        classes: Number of classes; None takes it from the task.
    """
    first = scaled_width(WIDTHS[1.0][0], width, 4)
    widths = WIDTHS.get(width, (first, 2 * first, 4 * first))
    stages = []
    for channels, count in zip(widths, COUNTS, strict=True):
        units = (ShuffleUnit(channels, stride=1 if i else 2) for i in range(scaled_depth(count, depth)))
        stages.append(Repeat(tuple(units)))
    head = Conv(2048 if width >= 2 else 1024, 1)
    return Sequential(Conv(24, stride=2), MaxPool(3, 2), *stages, head, Classifier(classes))


FAMILIES = (
    Family(
        name="shufflenetv2",
        title="ShuffleNetV2",
        paper='Ma et al. 2018, "ShuffleNet V2", arXiv 1807.11164',
        names={"torchvision": ((r"shufflenet_v2_x(\d_\d)", lambda m, c: shufflenetv2(multiplier(m[1]), classes=c)),)},
        named=("shufflenet_v2_x0_5, x1_0, x1_5, x2_0",),
    ),
)
