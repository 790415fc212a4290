"""MobileNet (the first), with width multipliers.

Level: network. Task: image classification. Hand-designed.

Reference:
    Howard et al. (2017), "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    arXiv 1704.04861, table 1.
"""

from __future__ import annotations

import re

from nasturtium.blocks import Sequential
from nasturtium.space import Block
from nasturtium.zoo.listing import Family, multiplier
from nasturtium.zoo.notation import Style, Table, network

TABLE: Table = (
    "dsa_r1_k3_s1_c64",
    "dsa_r2_k3_s2_c128",
    "dsa_r2_k3_s2_c256",
    "dsa_r6_k3_s2_c512",
    "dsa_r2_k3_s2_c1024",
)


def mobilenetv1(width: float = 1.0, *, head: bool = False, classes: int | None = None) -> Sequential:
    """The network, with a multiplier of all widths.

    Args:
        width: Multiplier.
        head: Whether a 1x1 convolution to 1024 channels or more stands before the classifier (timm's "h" variant).
        classes: Number of classes; None takes it from the task.
    """
    style = Style(act="relu6", width=width)
    last = max(1024, style.channels(1024)) if head else None
    return network(TABLE, style, stem=style.channels(32), head=last, classes=classes)


def _named(match: re.Match[str], classes: int) -> Block:
    return mobilenetv1(multiplier(match[1]), head=bool(match[2]), classes=classes)


FAMILIES = (
    Family(
        name="mobilenetv1",
        title="MobileNet",
        paper='Howard et al. 2017, "MobileNets", arXiv 1704.04861',
        names={"timm": ((r"mobilenetv1_(\d{3})(h?)", _named),)},
        named=("mobilenetv1_NNN", "mobilenetv1_100h"),
    ),
)
